"""Run a sweep under faults, and check that nothing is lost, doubled or changed.

    python benchmarks/chaos.py [--trials 60] [--faults 200] [--workers 4] [--json]

Faults come at random moments: kills of trials, supervisors and the launcher; a worker that is
stopped and continued; a lock that is held; a last checkpoint that is cut off. Then each trial
is trained alone. The total must be exact, each value bit-equal, each epoch recorded, no process
left and no file unfinished.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial, TrialState

from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.sweeping.engine.locks import ProcessLock
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.records import load_study
from segtune.tracking.runs import curve, sweep_runs
from segtune.tracking.store import open_store
from segtune.training.fit import fit

EPOCHS = 6
OVERRIDES = [
    "dataset=street",
    "dataset.street={width:96,height:64,train:6,val:3,test:2,clips:1,clip_frames:5,seed:7}",
    "template=swift",
    "trainer=debug",
    "augment=light",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    f"hp.num_epochs={EPOCHS}",
    "trainer.threads=1",
    "tracking.overlays=0",
]
# how often each kind of fault comes, relative to the others
KINDS = {"trial": 8, "supervisor": 2, "launcher": 1, "stop": 4, "lock": 2, "checkpoint": 3}


class Sweep:
    """The running sweep, and the faults that can be done to it."""

    def __init__(self, folder: Path, trials: int, workers: int, seed: int) -> None:
        self.folder, self.dice = folder, random.Random(seed)
        self.root = folder / "mlruns"
        (folder / "sweeps").mkdir()
        content = {
            "n_trials": trials,
            "workers": workers,
            "sampler": "random",
            "pruner": "none",
            "max_retries": 100,
            "overrides": OVERRIDES,
            "search": {
                "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True},
                "hp.width": [16, 24],
            },
        }
        (folder / "sweeps" / "chaos.yaml").write_text(json.dumps(content), encoding="utf-8")
        self.launcher = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the sweep, or continue it."""
        words = [sys.executable, "-m", "segtune", "sweep", "chaos", "--json"]
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("a") as err:
            return subprocess.Popen(words, cwd=self.folder, stdout=out, stderr=err)

    def workers(self) -> list[psutil.Process]:
        """Supervisors and their children."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "segtune.sweeping.worker" in words and any(str(self.folder) in w for w in words):
                found.append(process)
        return found

    def processes(self, kind: str) -> list[psutil.Process]:
        """The processes of a kind: trial, supervisor or launcher."""
        if kind == "launcher":
            return [psutil.Process(self.launcher.pid)]
        workers = self.workers()
        ids = {process.pid for process in workers}
        children = [process for process in workers if process.ppid() in ids]
        return children if kind == "trial" else [w for w in workers if w not in children]

    def fault(self, kind: str) -> bool:
        """Do one fault; return False if there was nothing to do it to."""
        try:
            if kind in ("trial", "supervisor", "launcher"):
                self.dice.choice(self.processes(kind)).send_signal(signal.SIGKILL)
            elif kind == "stop":
                process = self.dice.choice(self.processes("trial"))
                process.suspend()
                time.sleep(self.dice.uniform(0.5, 5.0))
                process.resume()
            elif kind == "lock":
                with ProcessLock(self.root / "sweeps" / "chaos" / "claim.lock"):
                    time.sleep(self.dice.uniform(0.5, 5.0))
            else:
                path = self.dice.choice(list((self.root / "runs").glob("*/last.ckpt")))
                os.truncate(path, self.dice.randrange(path.stat().st_size))
                # a checkpoint is read by the next attempt alone
                self.dice.choice(self.processes("trial")).send_signal(signal.SIGKILL)
        except (psutil.NoSuchProcess, IndexError, OSError, ValueError):
            return False
        return True


def disturb(sweep: Sweep, faults: int) -> dict[str, int]:
    """Do faults until the sweep ends; return how many of each kind were done."""
    done: collections.Counter[str] = collections.Counter()
    while sweep.launcher.poll() != 0:
        if sweep.launcher.returncode is not None:
            assert sweep.launcher.returncode == -signal.SIGKILL, read(sweep.folder / "err")
            sweep.launcher = sweep.start()
        time.sleep(sweep.dice.uniform(0.2, 2.0))
        (kind,) = sweep.dice.choices(list(KINDS), list(KINDS.values()))
        if sum(done.values()) < faults and sweep.launcher.poll() is None and sweep.fault(kind):
            done[kind] += 1
    return dict(done)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")[-4000:]


def check(sweep: Sweep, trials: int) -> dict[str, object]:
    """Return each claim with what was found; the expected finding is 0 or nothing."""
    store = open_store(TrackingConfig(root=str(sweep.root)))
    study = load_study(sweep.root / "sweeps" / "chaos", "chaos")
    assert study is not None
    all_trials = study.get_trials(deepcopy=False)
    finished = [t for t in all_trials if t.state == TrialState.COMPLETE]
    epochs = list(range(EPOCHS))
    runs = sweep_runs(store, "chaos")
    # an epoch that a kill has repeated is written again, with equal values
    curves = {run.id: dict(curve(store, run.id, "val/miou")) for run in runs}
    return {
        "trials too many or too few": len(finished) - trials,
        "trials without an end": len([t for t in all_trials if not t.state.is_finished()]),
        "configurations run twice": trials - len({tuple(t.params.items()) for t in finished}),
        "runs without a trial": len(runs) - len({t.user_attrs[RUN] for t in finished}),
        "runs without each epoch": [r for r, c in curves.items() if sorted(c) != epochs],
        "values that differ": differing(sweep.folder, finished),
        "processes left": [process.pid for process in sweep.workers()],
        "files left": [str(p) for p in sweep.root.rglob(".*.part")],
    }


def differing(folder: Path, finished: list[FrozenTrial]) -> list[int]:
    """Numbers of the trials whose value is not that of an undisturbed run."""
    numbers = []
    for trial in finished:
        words = [*trial.user_attrs["overrides"], f"tracking.root='{folder}/alone'"]
        if fit(compose(words).config).miou != trial.value:
            numbers.append(trial.number)
    return numbers


def settle(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        sweep = Sweep(Path(folder), options.trials, options.workers, options.seed)
        done = disturb(sweep, options.faults)
        seconds = time.monotonic() - started
        settle(lambda: not sweep.workers(), 30)
        found = check(sweep, options.trials)
    table = {"faults": done, "seconds": round(seconds), **found}
    if options.json:
        print(json.dumps(table))
        return
    for name, value in table.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
