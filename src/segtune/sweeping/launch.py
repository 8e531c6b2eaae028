"""Starts, joins or resumes a sweep on this machine: several workers that pull trials from one study."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from segtune.config import compose
from segtune.data.sources import open_source
from segtune.errors import Interrupted, PartialError, SegtuneError
from segtune.stopping import StopRequest
from segtune.sweeping.space import Space, build_space
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.sweeping.study import Counts, SweepStudy
from segtune.tracking.runs import RunRecord, RunWriter, best_run, sweep_parent, sweep_runs
from segtune.tracking.store import Store, open_store

Say = Callable[[str], None]
_RESTARTS = 3  # of one worker that died without a word: more means that every trial kills it
_FATAL = (2, 3, 5)  # exit codes of a worker that met what no other trial could avoid


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        best: the finished trial's run of highest val mIoU.
        parent: run id of the sweep itself.
    """

    name: str
    counts: Counts
    best: RunRecord
    parent: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        return {
            "sweep": self.name,
            "trials": self.counts.to_json(),
            "run": self.best.id,
            "uri": f"runs:/{self.best.id}",
            "metrics": {"val/miou": self.best.miou},
            "parent": self.parent,
            "seconds": round(self.seconds, 1),
        }


def run_sweep(name: str, overrides: list[str], say: Say = lambda _: None) -> SweepResult:
    """Runs a sweep to its total.

    Args:
        name: of a file in sweeps/, or a path to one.
        overrides: `sweep.KEY=VALUE`, and any others for every trial.

    Raises:
        ConfigError: a fault in the sweep file, found before anything starts.
        Interrupted: stopped by the user; the same command goes on from there.
        PartialError: trials failed for good, though others finished.
    """
    started = time.monotonic()
    spec = load_spec(name, overrides)
    space = build_space(spec)
    config = compose(spec.overrides).config
    store = open_store(config.tracking)
    open_source(config.dataset, say)  # drawn or found once, before several workers look for it
    folder = store.root / "sweeps" / spec.name
    study = SweepStudy(folder, spec)
    study.check_identity()
    parent = _parent_run(store, spec, space, folder)
    counts = study.counts()
    say(f"sweep {spec.name}: {counts.finished + counts.pruned + counts.failed} of {spec.n_trials} trials done, "
        f"{spec.workers} workers, searching {', '.join(spec.search)}")  # fmt: skip
    command = shlex.join(["segtune", "sweep", name, *overrides])
    if counts.finished + counts.pruned + counts.failed < spec.n_trials:
        _run_workers(spec, folder, parent, study, command)
    return _result(store, spec, study.counts(), parent, time.monotonic() - started)


def _parent_run(store: Store, spec: SweepSpec, space: Space, folder: Path) -> str:
    with FileLock(folder / "parent.lock"):
        found = sweep_parent(store, spec.name)
        if found:
            return found
        tags = {"segtune.kind": "sweep", "segtune.sweep": spec.name}
        params = {"n_trials": spec.n_trials, "sampler": spec.sampler, "pruner": spec.pruner, "seed": spec.seed}
        run = RunWriter.create(store, spec.name, params, tags)
        run.data("sweep.yaml", spec.model_dump(mode="json"))
        run.data("space.json", [vars(d) for d in space.dimensions])
        return run.run_id


def _run_workers(spec: SweepSpec, folder: Path, parent: str, study: SweepStudy, command: str) -> None:
    """Keeps `spec.workers` processes alive until the total is reached; passes a stop on to them."""
    threads = max(1, (os.cpu_count() or 1) // spec.workers)
    task = folder / "workers" / f"task-{os.getpid()}.json"
    text = {"spec": spec.model_dump(mode="json"), "folder": str(folder), "parent": parent, "threads": threads}
    task.write_text(json.dumps(text), encoding="utf-8")
    workers = {n: _start(task, n) for n in range(spec.workers)}
    restarts = dict.fromkeys(workers, 0)
    stop, told = StopRequest(), False
    try:
        with stop.listening():
            while workers:
                if stop.requested and not told:
                    told = True
                    for process in workers.values():
                        process.terminate()
                for number, process in list(workers.items()):
                    code = process.poll()
                    if code is None:
                        continue
                    del workers[number]
                    if code in _FATAL:
                        raise SweepStopped(code)
                    if code and not stop.requested and restarts[number] < _RESTARTS:
                        print(
                            f"[worker {number}] died (exit code {code}); its trial is taken up again", file=sys.stderr
                        )
                        restarts[number] += 1
                        workers[number] = _start(task, number)
                time.sleep(0.2)
    except KeyboardInterrupt:  # the second Ctrl-C
        stop.requested = True
    finally:
        for process in workers.values():
            process.kill()
        for process in workers.values():
            process.wait()
        task.unlink(missing_ok=True)
    if stop.requested:
        raise Interrupted(f"sweep {spec.name} was stopped with {study.counts().to_json()}. Go on with: {command}")


class SweepStopped(SegtuneError):
    """A worker met a fault that every trial would meet; it has said which."""

    def __init__(self, code: int) -> None:
        super().__init__("the sweep stopped: a worker met the fault above, and so would every trial.")
        self.exit_code = code


def _start(task: Path, number: int) -> subprocess.Popen[bytes]:
    """A worker process in a session of its own: Ctrl-C reaches it through the launcher, once."""
    arguments = [sys.executable, "-m", "segtune.sweeping.worker", str(task), f"worker {number}"]
    return subprocess.Popen(arguments, start_new_session=True, stdin=subprocess.DEVNULL)


def _result(store: Store, spec: SweepSpec, counts: Counts, parent: str, seconds: float) -> SweepResult:
    runs = sweep_runs(store, spec.name)
    done = counts.finished + counts.pruned + counts.failed
    writer = RunWriter(store, parent)
    if not counts.finished:
        writer.finish("failed")
        raise SegtuneError(
            f"sweep {spec.name}: none of {done} trials finished ({counts.to_json()}). The reasons stand in the lines "
            "above, and as 'error' with each trial in the study."
        )
    best = best_run(runs)
    writer.metrics({"best/val/miou": best.miou or 0.0}, step=done)
    writer.tags({"segtune.best": best.id})
    if done < spec.n_trials:
        raise PartialError(
            f"sweep {spec.name} ended with {done} of {spec.n_trials} trials: its workers died too often."
        )
    writer.finish("finished")
    return SweepResult(spec.name, counts, best, parent, seconds)
