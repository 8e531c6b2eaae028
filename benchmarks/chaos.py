"""Run a sweep under faults of all kinds, and check that nothing is lost, doubled or changed.

    python benchmarks/chaos.py [--trials 60] [--faults 200] [--workers 4] [--local] [--json]

The study is in PostgreSQL and the runs on an MLflow server, or with `--local` in files. A fault
comes whenever trials have advanced since the last one. Then each trial is trained alone. The total
must be exact, each value bit-equal, each metric recorded once, and no process and no file left.
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
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial, TrialState

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.faults import Faults, Surroundings, surroundings  # the script's own folder
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import StorageError
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.records import load_study
from segtune.tracking.runs import sweep_runs
from segtune.tracking.store import Store, open_store
from segtune.training.fit import fit

EPOCHS = 8
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
# metrics of time and load differ from run to run
_VARYING = ("system/", "cost/", "seconds")
_TEMPORARY = ("segtune-*/*", "tmp*", "pymp-*")  # of segtune, of Python's libraries
_FOREIGN = (
    "wandb-media",
    "wandb-artifacts",
)  # ends of folders that wandb makes when it is imported


class Sweep:
    """The running sweep."""

    def __init__(self, folder: Path, around: Surroundings, trials: int, workers: int) -> None:
        self.folder, self.around = folder, around
        (folder / "sweeps").mkdir()
        (folder / "temporary").mkdir()
        around.environment["TMPDIR"] = str(folder / "temporary")
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
        words = [sys.executable, "-m", "segtune", "sweep", "chaos", *self.around.words, "--json"]
        with (self.folder / "out").open("w") as out, (self.folder / "err").open("a") as err:
            return subprocess.Popen(
                words, cwd=self.folder, stdout=out, stderr=err, env=self.around.environment
            )

    def processes(self, kind: str) -> list[psutil.Process]:
        """The processes of a kind: trial, supervisor, launcher, or all that were started here."""
        if kind == "launcher":
            return [psutil.Process(self.launcher.pid)]
        started = [process for process in psutil.process_iter() if self._is_ours(process)]
        if kind == "all":
            return started
        ids = {process.pid for process in started} - {self.launcher.pid}
        children = [process for process in started if process.ppid() in ids]
        if kind == "trial":
            return children
        return [p for p in started if p not in children and p.pid != self.launcher.pid]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def epochs(self) -> int:
        """Number of epochs that its trials have reported."""
        return (self.folder / "err").read_text(encoding="utf-8").count("epoch ")


def disturb(sweep: Sweep, faults: Faults, number: int) -> dict[str, object]:
    """Do faults until the sweep ends; return how many of each kind were done."""
    done: collections.Counter[str] = collections.Counter()
    starts: collections.Counter[str] = collections.Counter()
    deck, seen = faults.deck(number), 0
    under_way: dict[str, Future[bool]] = {}
    with ThreadPoolExecutor(len(faults.around.kinds)) as pool:
        while sweep.launcher.poll() != 0:
            if sweep.launcher.returncode is not None:
                starts[reason(sweep)] += 1
                sweep.launcher = sweep.start()
            time.sleep(faults.dice.uniform(0.1, 0.8))
            for kind in [kind for kind, future in under_way.items() if future.done()]:
                if under_way.pop(kind).result():
                    done[kind] += 1
                else:  # there was nothing to do it to
                    deck.append(kind)
            epochs = sweep.epochs()
            if deck and epochs > seen and deck[-1] not in under_way:
                kind, seen = deck.pop(), epochs
                under_way[kind] = pool.submit(faults.do, kind)
        done.update(kind for kind, future in under_way.items() if future.result())
    return {"faults": dict(done), "starts after": dict(starts)}


def reason(sweep: Sweep) -> str:
    """Return why the launcher ended; show its last lines if no fault explains that."""
    code = sweep.launcher.returncode
    if code == -signal.SIGKILL:
        return "a kill"
    if code == StorageError.exit_code:
        return "a server that was away"
    print((sweep.folder / "err").read_text(encoding="utf-8")[-6000:], file=sys.stderr)
    return f"exit code {code}"


def check(sweep: Sweep, trials: int) -> dict[str, object]:
    """Return each claim with what was found; the expected finding is 0 or nothing."""
    around = sweep.around
    uri = around.tracking.uri if around.tracking else None
    store = open_store(TrackingConfig(root=str(around.root), uri=uri))
    study = load_study(around.root / "sweeps" / "chaos", "chaos", around.study_url)
    assert study is not None
    all_trials = study.get_trials(deepcopy=False)
    finished = [t for t in all_trials if t.state == TrialState.COMPLETE]
    runs = sweep_runs(store, "chaos")
    states = {store.client.get_run(run.id).info.status for run in runs}
    return {
        "trials too many or too few": len(finished) - trials,
        "trials without an end": len([t for t in all_trials if not t.state.is_finished()]),
        "trials without their parameters": [t.number for t in finished if len(t.params) != 2],
        "configurations run twice": trials - len({tuple(t.params.items()) for t in finished}),
        "runs without a trial": len(runs) - len({t.user_attrs[RUN] for t in finished}),
        "runs that are not finished": sorted(states - {"FINISHED"}),
        **compare(sweep.folder, store, finished),
        "processes left": [process.pid for process in sweep.processes("all")],
        "unfinished files": unfinished_files(around.root),
        "temporary files": temporary_files(sweep.folder / "temporary"),
    }


def compare(folder: Path, store: Store, finished: list[FrozenTrial]) -> dict[str, object]:
    """Compare each trial with the same training alone, undisturbed."""
    alone = open_store(TrackingConfig(root=str(folder / "alone")))
    values, doubled, points, files = [], [], [], []
    for trial in finished:
        words = [w for w in trial.user_attrs["overrides"] if not w.startswith("tracking.")]
        config = compose([*words, "tracking.overlays=0", f"tracking.root='{alone.root}'"]).config
        result = fit(config)
        if result.miou != trial.value:
            values.append(trial.number)
        run = trial.user_attrs[RUN]
        disturbed, expected = metric_rows(store, run), metric_rows(alone, result.run_id)
        doubled += [f"{run} {key}" for key in repeated(disturbed)]
        points += [f"{run} {key}" for key in expected if differs(key, expected, disturbed)]
        left = file_names(store.root / "runs" / run) - file_names(result.folder)
        files += [f"{run}/{name}" for name in left]
    return {
        "values that differ": values,
        "metric points recorded twice": doubled,
        "metrics that differ": points,
        "files left": files,
    }


Rows = Mapping[str, list[tuple[int, float]]]


def metric_rows(store: Store, run: str) -> Rows:
    """Return every recorded point of a run's metrics as (step, value), by key."""
    keys = store.client.get_run(run).data.metrics
    rows = {}
    for key in keys:
        rows[key] = sorted((m.step, m.value) for m in store.client.get_metric_history(run, key))
    return rows


def repeated(rows: Rows) -> list[str]:
    """Return the metrics with more than one point at a step."""
    return [key for key, points in rows.items() if len({step for step, _ in points}) < len(points)]


def differs(key: str, expected: Rows, disturbed: Rows) -> bool:
    return not key.startswith(_VARYING) and dict(expected[key]) != dict(disturbed.get(key, []))


def file_names(folder: Path) -> set[str]:
    """Return the names of the files below a folder; a lock is an empty file that stays."""
    paths = [path for path in folder.rglob("*") if path.suffix != ".lock"]
    return {str(path.relative_to(folder)) for path in paths}


def unfinished_files(root: Path) -> list[str]:
    """Return the files of a store that were to get another name when they are complete."""
    patterns = (".*.part", ".artifact.uploading.*")
    return [str(path) for pattern in patterns for path in root.rglob(pattern)]


def temporary_files(folder: Path) -> list[str]:
    """Return what was left among the temporary files."""
    paths = [path for pattern in _TEMPORARY for path in folder.glob(pattern)]
    return [str(path.relative_to(folder)) for path in paths if not path.name.endswith(_FOREIGN)]


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
    parser.add_argument("--local", action="store_true", help="without servers")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        surroundings(Path(name), not options.local) as around,
    ):
        os.environ["SEGTUNE_CACHE"] = around.environment["SEGTUNE_CACHE"] = f"{name}/cache"
        started = time.monotonic()
        sweep = Sweep(Path(name), around, options.trials, options.workers)
        faults = Faults(around, sweep.processes, random.Random(options.seed))
        done = disturb(sweep, faults, options.faults)
        seconds = time.monotonic() - started
        settle(lambda: not sweep.processes("all"), 30)
        found = check(sweep, options.trials)
    table = {**done, "seconds": round(seconds), **found}
    if options.json:
        print(json.dumps(table))
        return
    for claim, value in table.items():
        print(f"| {claim} | {value} |")


if __name__ == "__main__":
    main()
