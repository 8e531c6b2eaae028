"""The plan of a sweep: its space, the forecast of a trial's time, and of the time of all trials."""

import statistics
from dataclasses import dataclass
from typing import Any

from segtune.runtime.log import Log, silent
from segtune.sweeping.engine.budget import trial_seconds
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.launch import located, threads_of, with_workers
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.records import load_study
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.sweeping.start_from import with_earlier_best
from segtune.sweeping.timing import Timing, format_range, time_choices


@dataclass(frozen=True)
class SweepPlan:
    """The plan of a sweep.

    Attributes:
        size: number of configurations in the space; None if it is continuous.
        left: number of trials to go; None if a budget alone decides.
        trial: seconds of one trial.
        budget: seconds of the budget to go; None without a budget.
    """

    name: str
    space: Space
    size: int | None
    left: int | None
    workers: int
    trial: Timing
    budget: float | None

    def wall_seconds(self, each: float) -> float:
        """Return the seconds to go if each trial takes `each` seconds; the budget limits them."""
        bounds = []
        if self.left is not None:
            rounds = -(-self.left // self.workers)  # rounded up
            bounds.append(rounds * each)
        if self.budget is not None:
            bounds.append(self.budget)
        return max(0.0, min(bounds))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        trial = self.trial
        return {
            "sweep": self.name,
            "space": [vars(dimension) for dimension in self.space.dimensions],
            "size": self.size,
            "left": self.left,
            "workers": self.workers,
            "measured": trial.measured,
            "trial_seconds": trial.mean,
            "trial_seconds_range": [trial.low, trial.high],
            "untimed": list(trial.untimed),
            "wall_seconds": self.wall_seconds(trial.mean),
            "wall_seconds_range": [self.wall_seconds(trial.low), self.wall_seconds(trial.high)],
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        size, left, trial = "infinitely many", "as many trials as the budget allows", self.trial
        if self.size is not None:
            size = f"{self.size:,}"
        if self.left is not None:
            left = f"{self.left} trials to go"
        each = format_range(trial.mean, trial.low, trial.high, 1, "s")
        low, high = self.wall_seconds(trial.low), self.wall_seconds(trial.high)
        total = format_range(self.wall_seconds(trial.mean), low, high, 60, "minutes")
        return [
            f"sweep {self.name} would search {size} configurations:",
            *(f"  {dimension.describe()}" for dimension in self.space.dimensions),
            *(f"  tried first: {' '.join(words)}" for words in self._enqueued()),
            f"{left}, {self.workers} at a time, each about {each} unpruned ({trial.measured})",
            *(f"  {part}" for part in trial.parts),
            *(f"  not timed: {line}; the range may be too narrow" for line in trial.untimed),
            f"about {total} in all; nothing was started",
        ]

    def _enqueued(self) -> list[list[str]]:
        fixed = len(self.space.fixed)
        return [self.space.overrides_of(values)[fixed:] for values in self.space.enqueued]


def plan_sweep(name: str, overrides: list[str], say: Log = silent) -> SweepPlan:
    """Return the space of a sweep, and the forecast of its time; start and write nothing.

    Raises:
        ConfigError: the sweep file has a fault.
        DataError: the dataset cannot be used.
    """
    spec = with_workers(load_spec(name, overrides), say)
    space = build_space(spec)
    config = compose_trial(spec.base, threads_of(spec))
    folder = sweep_folder(config.tracking.root, spec.name)
    spec = located(spec, folder)
    if spec.start_from:
        spec = with_earlier_best(spec, space, config.tracking.root, silent)
        space = build_space(spec)
    study = SweepStudy(folder, spec) if load_study(folder, spec.name, spec.storage) else None
    done = study.counts().done if study else 0
    left = None if spec.n_trials is None else max(0, spec.n_trials - done)
    budget = spec.budget_seconds
    if budget is not None and study:
        budget -= study.spent()
    size = space.size(at_most=1_000_000)
    timing = _timing(spec, space, study, say)
    return SweepPlan(spec.name, space, size, left, spec.processes, timing, budget)


def _timing(spec: SweepSpec, space: Space, study: SweepStudy[SweepSpec] | None, say: Log) -> Timing:
    """Return the timing of the finished trials; without any, time the choices."""
    durations = trial_seconds(study.study) if study else []
    if not durations:
        return time_choices(spec, space, say)
    measured = f"by the {len(durations)} trials that finished"
    return Timing(statistics.mean(durations), min(durations), max(durations), measured)
