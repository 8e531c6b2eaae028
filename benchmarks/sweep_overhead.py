"""Time the overhead of a sweep: between two trials, in the study, and in the tracking.

    python benchmarks/sweep_overhead.py --parallel 8 --epochs 6
    python benchmarks/sweep_overhead.py [--trials 12] [--data camvid] [--epochs 2]
        [--in-one-study 1000]

One warm worker runs in this process. The first trial does not count: it decodes the data and
measures the step format. The share of study and tracking calls refers to a trial of 60 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from segtune.config.compose import compose
from segtune.runtime.signals import StopRequest
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.lease import Lease
from segtune.sweeping.engine.records import OVERRIDES
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.worker import WorkerTask, pull
from segtune.tracking.outbox import Outbox
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.store import open_store
from segtune.training.lightning_module import FineTuning

COUNTED_CALLS = (
    (SweepStudy, "claim"),
    (Lease, "renew"),
    (optuna.Trial, "report"),
    (optuna.Trial, "should_prune"),
    (optuna.Trial, "set_user_attr"),
    (Outbox, "send"),
    (RunWriter, "create"),
)


class Watch:
    """Records the time when trials end and take their first step, and the time of calls.

    Attributes:
        ended: when each trial was reported to the study, in seconds.
        first_steps: when each trial took its first step, in seconds.
        call_seconds: time of the study and tracking calls of each trial.
    """

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.first_steps: list[float] = []
        self.call_seconds: list[float] = []
        self._is_new_trial = True

    def install(self) -> None:
        finish, step = SweepStudy.finish, FineTuning.on_train_batch_end

        def timed_finish(study, *args, **options):
            finish(study, *args, **options)
            self.ended.append(time.perf_counter())
            self._is_new_trial = True

        def timed_step(task, *args):
            if self._is_new_trial:
                self._is_new_trial = False
                self.first_steps.append(time.perf_counter())
                self.call_seconds.append(0.0)
            return step(task, *args)

        SweepStudy.finish, FineTuning.on_train_batch_end = self._counted(timed_finish), timed_step
        for owner, name in COUNTED_CALLS:
            original = owner.__dict__[name]
            if isinstance(original, classmethod):
                setattr(owner, name, classmethod(self._counted(original.__func__)))
            else:
                setattr(owner, name, self._counted(original))

    def _counted(self, call):
        depth = [0]

        def timed(*args, **options):
            started, depth[0] = time.perf_counter(), depth[0] + 1
            try:
                return call(*args, **options)
            finally:
                depth[0] -= 1
                if self.call_seconds and not depth[0]:
                    self.call_seconds[-1] += time.perf_counter() - started

        return timed


def between_trials(trials: int, data: str, epochs: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        words = [f"dataset={data}", "template=swift", "trainer=cpu", "hp=quick"]
        words += [f"hp.num_epochs={epochs}", "trainer.limit_train_batches=4"]
        words += ["tracking.overlays=1", f"tracking.root={root}"]
        rates = {"min": 1e-3, "max": 4e-3, "log": True}
        spec = SweepSpec(
            name="overhead",
            n_trials=trials,
            pruner="none",
            overrides=words,
            search={"hp.per_item_lrate": rates, "hp.width": [16, 24]},
        )
        store = open_store(compose(spec.overrides).config.tracking)
        parent = RunWriter.create(store, "overhead", {}, {})
        watch = Watch()
        watch.install()
        task = WorkerTask(spec, Path(root) / "sweeps" / "overhead", parent.run_id, 1)
        pull(task, build_space(spec), StopRequest(), "benchmark")
    following = watch.first_steps[1:]
    gaps = [step - end for end, step in zip(watch.ended, following, strict=False)]
    share = [100 * seconds / 60 for seconds in watch.call_seconds[1:-1]]
    print(f"| figure ({trials} trials on {data}) | median | least | most | target |")
    print("| --- | --- | --- | --- | --- |")
    print(row("end of a trial to the first step of the next, s", gaps, "0.5", 2))
    print(row("study and tracking calls, % of a trial of 60 s", share, "2", 2))


def in_parallel(trials: int, data: str, epochs: int) -> None:
    """Time sweeps from the command line: one worker with all threads, then two with half each."""
    times: dict[int, float] = {}
    print(f"\n| {trials} trials of {epochs} epochs on {data} | threads each | seconds |")
    print("| --- | --- | --- |")
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as root:
            file = Path(root) / "parallel.yaml"
            file.write_text(
                f"# Question: how long?\nn_trials: {trials}\npruner: none\nsampler: random\n"
                f"overrides: [dataset={data}, template=swift, trainer=cpu, hp=quick, "
                f"hp.num_epochs={epochs}, trainer.val_every=100, tracking.overlays=0]\n"
                "search: {hp.per_item_lrate: {}}\n"
            )
            words = [
                sys.executable,
                "-m",
                "segtune",
                "sweep",
                str(file),
                f"sweep.workers={workers}",
            ]
            started = time.monotonic()
            subprocess.run([*words, f"tracking.root={root}/runs"], check=True, capture_output=True)
            times[workers] = time.monotonic() - started
            threads = max(1, (os.cpu_count() or 1) // workers)
            print(f"| {workers} workers | {threads} | {times[workers]:.0f} |", flush=True)
    print(f"\nspeed-up of two workers: {times[1] / times[2]:.2f} (target 1.15)")


def in_one_study(trials: int) -> None:
    space = Space((), ("swift",), tuple(SweepDimension(f"hp.x{n}", f"hp.x{n}") for n in range(4)))
    with tempfile.TemporaryDirectory() as root:
        spec = SweepSpec(name="large", n_trials=trials + 20, search={"hp.width": {}})
        study = SweepStudy(Path(root), spec)
        distributions = {
            d.param: optuna.distributions.FloatDistribution(0, 1) for d in space.dimensions
        }
        rows = []
        for number in range(trials):
            params = {p: (number * 0.37 + n * 0.11) % 1 for n, p in enumerate(distributions)}
            reports = {epoch: 0.01 * epoch for epoch in range(10)}
            trial = optuna.trial.create_trial(
                params=params,
                distributions=distributions,
                value=params["hp.x0"],
                intermediate_values=reports,
                user_attrs={OVERRIDES: [str(number)]},
            )
            rows.append(trial)
        study.study.add_trials(rows)
        times: dict[str, list[float]] = {"ask": [], "report and ask the pruner": [], "tell": []}
        for _ in range(20):
            started = time.perf_counter()
            claim = study.claim(space)
            asked = time.perf_counter()
            claim.trial.report(0.5, 5)
            claim.trial.should_prune()
            reported = time.perf_counter()
            study.finish(claim.trial, 0.5)
            for name, seconds in zip(
                times,
                (asked - started, reported - asked, time.perf_counter() - reported),
                strict=True,
            ):
                times[name].append(1000 * seconds)
    print(f"\n| in a study of {trials} trials, ms | median | least | most | target |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in times.items():
        print(row(name, values, "100", 1))


def row(name: str, values: list[float], target: str, digits: int) -> str:
    figures = (statistics.median(values), min(values), max(values))
    return f"| {name} | " + " | ".join(f"{v:.{digits}f}" for v in figures) + f" | under {target} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--data", default="street")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--in-one-study", type=int, default=1000)
    parser.add_argument(
        "--parallel", type=int, default=0, metavar="TRIALS", help="time whole sweeps instead"
    )
    options = parser.parse_args()
    if options.parallel:
        in_parallel(options.parallel, options.data, options.epochs)
    else:
        between_trials(options.trials, options.data, options.epochs)
        in_one_study(options.in_one_study)
