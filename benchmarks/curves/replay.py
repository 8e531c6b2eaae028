"""Judge search policies on recorded learning curves, with the sampler and study code of a sweep.

    python -m benchmarks.curves.replay [--sets street camvid] [--policies tpe-median fidelity-3 ...]
        [--seeds 200] [--workers 1 4 8] [--share 0.5]
        [--configurations 25]

A trial gets the curve of the recorded configuration that is nearest to its own, and a simulated
clock adds the recorded seconds of its epochs. Random search with 27 trials of 27 epochs is the
measure: the table shows the share of its epochs (with one worker) or of its wall time after which
the mean regret of a policy falls to that of random search, with the 95 % interval over seeds.
"""

import argparse
import heapq
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from scipy.stats import spearmanr

from benchmarks.curves.curve_table import EPOCHS, FOLDER, Curve, CurveTable
from segtune.config.compose import compose
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.pulling import report
from segtune.sweeping.engine.records import ERROR, PAUSED, RUN
from segtune.sweeping.engine.study import Claim, SweepStudy
from segtune.sweeping.engine.study_storage import StudyStorage
from segtune.sweeping.enqueue import resolve_enqueued, resolve_prior
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec, load_spec

optuna.logging.set_verbosity(optuna.logging.ERROR)
TRIALS = 27  # of random search
_MISMATCH = 0.5  # distance of two choices, where a number's range has length 1

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "random": {"sampler": "random", "pruner": "none", "n_trials": TRIALS},
    "default-first": {"sampler": "random", "pruner": "none", "enqueue": ["default"]},
    "tpe": {"pruner": "none"},
    "tpe-median": {},
    "tpe-halving": {"pruner": "halving", "pruner_warmup": 1},
    "tpe-median-prior": {"prior": "defaults"},
    "tpe-halving-prior": {"pruner": "halving", "pruner_warmup": 1, "prior": "defaults"},
    "fidelity-1": {"fidelity": 1},
    "fidelity-3": {"fidelity": 3},
    "fidelity-9": {"fidelity": 9},
    "fidelity-auto": {"fidelity": "auto"},
    "random-fidelity-3": {"fidelity": 3, "sampler": "random"},
    "fidelity-3-prior": {"fidelity": 3, "prior": "defaults"},
    "fidelity-1-prior": {"fidelity": 1, "prior": "defaults"},
    "fidelity-auto-prior": {"fidelity": "auto", "prior": "defaults"},
    "fidelity-3-prior-high": {
        "fidelity": 3,
        "prior": "defaults",
        "prior_confidence": "high",
    },
    "fidelity-3-earlier": {"fidelity": 3, "earlier": True},
    "tpe-median-earlier": {"earlier": True},
}


class Landscape:
    """A table of curves as an objective over its sweep's whole space."""

    def __init__(self, table: CurveTable, space: Space, seed: int) -> None:
        self.table, self.dimensions = table, space.dimensions
        self.numbers = sorted({number for number, _ in table.curves})
        points = [_point(table.configurations[n], space.dimensions) for n in self.numbers]
        self.points = np.array([numbers for numbers, _ in points])
        self.choices = np.array([texts for _, texts in points])
        self.seed = seed

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """Return the curve of the nearest recorded configuration."""
        numbers, texts = _point(params, self.dimensions)
        squares = ((self.points - np.array(numbers)) ** 2).sum(1)
        squares += _MISMATCH**2 * (self.choices != np.array(texts)).sum(1)
        number = self.numbers[int(squares.argmin())]
        seeds = sorted(seed for n, seed in self.table.curves if n == number)
        return self.table.curves[number, seeds[self.seed % len(seeds)]]

    @property
    def best(self) -> float:
        """The best val mIoU of the table."""
        return max(_best_of(curve) for curve in self.table.curves.values())


def _best_of(curve: Curve) -> float:
    """Return the best val mIoU of a curve; a training that diverged at once has none."""
    return float(np.nan_to_num(curve.miou).max())


def _point(
    params: Mapping[str, Any], dimensions: Sequence[SweepDimension]
) -> tuple[list[float], list[str]]:
    """Return a configuration as numbers in [0, 1], and as the texts of its choices."""
    numbers, texts = [], []
    for dimension in dimensions:
        value = params[dimension.param]
        if dimension.choices is not None:
            texts.append(str(value))
            continue
        scale = math.log if dimension.log else float
        low, high = scale(dimension.low), scale(dimension.high)
        numbers.append((scale(value) - low) / (high - low))
    return numbers, texts


@dataclass(frozen=True)
class Progress:
    """The regret of a search over time.

    Attributes:
        steps: (epochs spent, seconds, regret of the best finished trial), each time it falls.
        start: regret before a trial has finished: that of an mIoU of 0.
        epochs: spent in all.
        seconds: of the simulated clock.
    """

    steps: Sequence[tuple[int, float, float]]
    start: float
    epochs: int
    seconds: float


@contextmanager
def in_memory() -> Iterator[None]:
    """Keep the studies of the block in memory."""
    storage = StudyStorage(InMemoryStorage(), nullcontext, lambda: 0.0)
    with patch("segtune.sweeping.engine.study.open_storage", return_value=storage):
        yield


def search(
    spec: SweepSpec, space: Space, landscape: Landscape, workers: int, limit: float
) -> Progress:
    """Run a sweep on recorded curves with simulated workers until `limit` epochs are spent."""
    with tempfile.TemporaryDirectory() as folder, in_memory():
        simulation = _Simulation(SweepStudy(Path(folder), spec), space, landscape)
        return simulation.run(workers, limit)


class _Simulation:
    """Simulated workers that pull the trials of a study; an epoch takes its recorded seconds."""

    def __init__(self, study: SweepStudy[SweepSpec], space: Space, landscape: Landscape) -> None:
        self.study, self.space, self.landscape = study, space, landscape
        self.now, self.epochs, self.regret = 0.0, 0, landscape.best
        self.reached: dict[str, int] = {}  # run -> epochs
        self.events: list[tuple[float, int, Claim[Space], Curve]] = []
        self.steps: list[tuple[int, float, float]] = []

    def run(self, workers: int, limit: float) -> Progress:
        """Let the workers pull trials until none is left, or the epochs are spent."""
        idle = workers
        while True:
            while idle and self._begin():
                idle -= 1
            if not self.events or self.epochs >= limit:
                return Progress(self.steps, self.landscape.best, self.epochs, self.now)
            self.now, _, claim, curve = heapq.heappop(self.events)
            idle += self._validate(claim, curve)

    def _begin(self) -> bool:
        claim = self.study.claim(self.space)
        if claim is None:
            return False
        run = claim.run or f"run {claim.trial.number}"
        claim.trial.set_user_attr(RUN, run)
        self.reached.setdefault(run, 0)
        dimensions = {d.param: d for d in claim.space.dimensions}
        recorded = claim.trial.params.items()
        params = {dimensions[n].key: dimensions[n].from_param(v) for n, v in recorded}
        self._schedule(claim, self.landscape.curve(params))
        return True

    def _schedule(self, claim: Claim[Space], curve: Curve) -> None:
        seconds = curve.seconds[self.reached[claim.trial.user_attrs[RUN]]]
        taken = 1.0 if math.isnan(seconds) else float(seconds)
        heapq.heappush(self.events, (self.now + taken, claim.trial.number, claim, curve))

    def _validate(self, claim: Claim[Space], curve: Curve) -> bool:
        """End an epoch as a trial does; return whether the trial has ended."""
        trial, run = claim.trial, claim.trial.user_attrs[RUN]
        epoch = self.reached[run]
        self.reached[run] += 1
        self.epochs += 1
        value = float(curve.miou[epoch])
        if math.isnan(value):
            trial.set_user_attr(ERROR, f"trial {trial.number} diverged")
            self.study.finish(trial, state=TrialState.FAIL)
            return True
        report(trial, value, epoch)
        if epoch + 1 == EPOCHS:
            best = float(curve.miou.max())  # the best epoch is saved
            self.study.finish(trial, best)
            if self.landscape.best - best < self.regret:
                self.regret = self.landscape.best - best
                self.steps.append((self.epochs, self.now, self.regret))
            return True
        is_paused = self.study.fidelity.is_reached(trial, epoch)
        if is_paused:
            trial.set_user_attr(PAUSED, True)
        if is_paused or trial.should_prune():
            self.study.finish(trial, state=TrialState.PRUNED)
            return True
        self._schedule(claim, curve)
        return False


def regrets_at(runs: Sequence[Progress], axis: int, at: NDArray[np.float64]) -> Any:
    """Return the regret of each run at each point, (runs, points).

    Args:
        axis: of the points: 0 for epochs, 1 for seconds.
    """
    rows = []
    for run in runs:
        regret = np.full(len(at), run.start)
        for step in run.steps:
            regret[at >= step[axis]] = step[2]
        rows.append(regret)
    return np.stack(rows)


def share_to_reach(
    regrets: NDArray[np.float64], target: float, points: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return the first point where the mean regret is at most the target, with its interval."""
    generator = np.random.default_rng(0)

    def first(rows: NDArray[np.float64]) -> float:
        reached = np.flatnonzero(rows.mean(0) <= target + 1e-9)
        return float(points[reached[0]]) if len(reached) else math.inf

    resampled = generator.integers(0, len(regrets), (1000, len(regrets)))
    firsts = sorted(first(regrets[rows]) for rows in resampled)
    return first(regrets), firsts[25], firsts[-26]


def specs_of(name: str, policy: str, others: Sequence[CurveTable]) -> tuple[SweepSpec, Space]:
    """Return the sweep of a policy on a set, and its space."""
    base = load_spec(str(FOLDER / f"{name}.yaml"))
    options = {"sampler": "tpe", "n_trials": 3 * TRIALS, **POLICIES[policy]}
    default = base.enqueue[0]
    if options.get("prior") == "defaults":
        options["prior"] = default
    options["enqueue"] = [default for _ in options.get("enqueue", [])]
    if options.pop("earlier", False):
        options["enqueue"] = _best_elsewhere(others)
    kept = {"name": name, "overrides": base.overrides, "search": base.search}
    spec = SweepSpec(**kept, **options)
    space, composed = _space_of(name), compose(spec.base)
    prior = resolve_prior(spec, space, composed)
    return spec, replace(space, enqueued=resolve_enqueued(spec, space, composed), prior=prior)


@cache
def _space_of(name: str) -> Space:
    """Return the space of a set, without configurations that are tried first."""
    spec = load_spec(str(FOLDER / f"{name}.yaml"))
    return build_space(spec.model_copy(update={"enqueue": []}))


def _best_elsewhere(others: Sequence[CurveTable]) -> list[dict[str, Any]]:
    """Return the three best configurations of each other set, as `start_from` does."""
    items: list[dict[str, Any]] = []
    for table in others:
        final = {number: _best_of(c) for (number, _), c in table.curves.items()}
        best = sorted(final, key=lambda number: -final[number])[:3]
        items += [dict(table.configurations[number]) for number in best]
    return [item for position, item in enumerate(items) if item not in items[:position]]


def judge(name: str, options: argparse.Namespace) -> None:
    """Print the table of one set."""
    table = _table(name, options.configurations)
    others = [_table(o, options.configurations) for o in options.sets if o != name]
    cells = len({number for number, _ in table.curves})
    print(f"\n{name}: {cells} configurations, {len(table.curves)} curves, {options.seeds} seeds")
    axes = ["epochs", *(f"time with {workers}" for workers in options.workers)]
    print(f"rank correlation with the best val mIoU: {_rank_correlations(table)}")
    print(f"| policy | {' | '.join(axes)} | regret at 0.15 | at the end |")
    print("| --- " * (len(axes) + 3) + "|")
    baselines: dict[int, tuple[float, float]] = {}
    for policy in ["random", *(p for p in options.policies if p != "random")]:
        spec, space = specs_of(name, policy, others)
        row = []
        for workers in options.workers:
            share = 1.0 if policy == "random" else options.share
            runs = []
            for seed in range(options.seeds):
                landscape = Landscape(table, space, seed)
                seeded = spec.model_copy(update={"seed": seed})
                runs.append(search(seeded, space, landscape, workers, share * TRIALS * EPOCHS))
            if policy == "random":
                final = float(np.mean([run.steps[-1][2] for run in runs]))
                baselines[workers] = final, float(np.mean([run.seconds for run in runs]))
            target, seconds = baselines[workers]
            shares = np.arange(0.0, share + 1e-9, 0.005)
            if workers == options.workers[0]:
                by_epochs = regrets_at(runs, 0, shares * TRIALS * EPOCHS)
                row.append(_cell(share_to_reach(by_epochs, target, shares), share))
                early, late = 100 * by_epochs[:, 30].mean(), 100 * by_epochs[:, -1].mean()
            by_time = regrets_at(runs, 1, shares * seconds)
            row.append(_cell(share_to_reach(by_time, target, shares), share))
        print(f"| {policy} | {' | '.join(row)} | {early:.1f} | {late:.1f} |", flush=True)


def _table(name: str, configurations: int | None) -> CurveTable:
    """Return the table of a set, or its first configurations alone."""
    table = CurveTable.load(name)
    limit = math.inf if configurations is None else configurations
    table.curves = {row: curve for row, curve in table.curves.items() if row[0] < limit}
    return table


def _rank_correlations(table: CurveTable) -> str:
    """Return how well the val mIoU after a few epochs ranks the configurations."""
    curves = np.nan_to_num(np.stack([curve.miou for curve in table.curves.values()]))
    best = curves.max(1)
    texts = []
    for epoch in (1, 3, 9, 18):
        texts.append(f"{spearmanr(curves[:, epoch - 1], best).statistic:.2f} at epoch {epoch}")
    return ", ".join(texts)


def _cell(shares: tuple[float, float, float], limit: float) -> str:
    texts = [f"> {limit:g}" if math.isinf(share) else f"{share:.2f}" for share in shares]
    return texts[0] if math.isinf(shares[1]) else f"{texts[0]} ({texts[1]} to {texts[2]})"


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=["street", "camvid"])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument(
        "--configurations", type=int, help="take so many of each table alone; by default all"
    )
    parser.add_argument(
        "--share", type=float, default=0.5, help="of random search's epochs that a policy may spend"
    )
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4, 8])
    options = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for name in options.sets:
        judge(name, options)


if __name__ == "__main__":
    main()
