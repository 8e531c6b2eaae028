"""What a sweep would do: its space, the time of a trial over the choices that change it, and of all trials."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.errors import SegtuneError
from segtune.runtime.log import Log
from segtune.sweeping.budget import trial_seconds
from segtune.sweeping.dimensions import Dimension, literal
from segtune.sweeping.launch import located, threads_of, with_workers
from segtune.sweeping.location import sweep_folder
from segtune.sweeping.records import load_study
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import build_space, compose_trial
from segtune.sweeping.spec import SweepSpec, load_spec
from segtune.sweeping.study import SweepStudy
from segtune.training.time_budget import forecast_seconds

_MOST_TIMED = 12  # configurations
_PATIENCE = 0.5  # seconds of steps of each kind, for each configuration
_FIRST = (
    "hp.image_size",
    "augment.crop_size",
    "augment.crop_start",
    "hp.batch_size",
    "hp.encoder",
    "hp.width",
)
# what a step's time does not depend on
_FREE_SECTIONS = ("seed", "scheduler", "sampling")
_FREE_WORDS = (
    "lrate",
    "decay",
    "drop",
    "pretrained",
    "smoothing",
    "class_weights",
    "momentum",
    "warmup",
    "num_epochs",
)


@dataclass(frozen=True)
class Timing:
    """What a whole trial takes.

    Attributes:
        mean: over the space, of the trials that finished or as it was timed.
        low: of the fastest configuration.
        high: of the slowest.
        measured: on what that rests.
        parts: for people, one line a template.
        untimed: keys and choices that change the cost and were not timed, one line a template.
    """

    mean: float
    low: float
    high: float
    measured: str
    parts: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do.

    Attributes:
        size: configurations in the space; None for no end of them.
        left: trials; None where a budget alone decides.
        budget: seconds of it that are left; None without one.
    """

    name: str
    space: Space
    size: int | None
    left: int | None
    workers: int
    trial: Timing
    budget: float | None

    def wall_seconds(self, each: float) -> float:
        """All that is left to do, with so many seconds for each trial; a budget's own where that is less."""
        bounds = [] if self.left is None else [-(-self.left // self.workers) * each]
        bounds += [] if self.budget is None else [self.budget]
        return max(0.0, min(bounds))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        trial = self.trial
        return {
            "sweep": self.name,
            "space": [vars(d) for d in self.space.dimensions],
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
        """For people."""
        size = "no end of configurations" if self.size is None else f"{self.size:,} configurations"
        left = (
            "as many trials as the budget allows"
            if self.left is None
            else f"{self.left} trials left"
        )
        trial, low, high = (
            self.trial,
            self.wall_seconds(self.trial.low),
            self.wall_seconds(self.trial.high),
        )
        one = _range(trial.mean, trial.low, trial.high, 1, "s")
        whole = _range(self.wall_seconds(trial.mean), low, high, 60, "minutes")
        return [
            f"sweep {self.name} would search {size}:",
            *(f"  {d.describe()}" for d in self.space.dimensions),
            *(f"  tried first: {' '.join(words)}" for words in self._enqueued()),
            f"{left}, {self.workers} at a time, each about {one} unpruned ({trial.measured})",
            *(f"  {part}" for part in trial.parts),
            *(f"  not timed: {line}; the range may be too narrow" for line in trial.untimed),
            f"about {whole} in all; nothing was started",
        ]

    def _enqueued(self) -> list[list[str]]:
        fixed = len(self.space.fixed)
        return [self.space.overrides_of(values)[fixed:] for values in self.space.enqueued]


def _range(mean: float, low: float, high: float, unit: float, name: str) -> str:
    """A mean with its range, which is left out where it rounds to the mean.

    >>> _range(90, 60, 150, 60, "minutes"), _range(40, 40, 40, 1, "s")
    ('1.5 minutes (1.0 to 2.5)', '40 s')
    """
    digits = 1 if unit > 1 else 0
    words = [f"{value / unit:.{digits}f}" for value in (mean, low, high)]
    return f"{words[0]} {name}" + (f" ({words[1]} to {words[2]})" if len(set(words)) > 1 else "")


def plan_sweep(name: str, overrides: list[str], say: Log = lambda _: None) -> SweepPlan:
    """The space, the forecast and the compute of a sweep; starts and writes nothing of it.

    Raises:
        ConfigError: a fault in the sweep file.
        DataError: a dataset that cannot be used.
    """
    spec = with_workers(load_spec(name, overrides), say)
    space = build_space(spec)
    config = compose_trial(spec.base, threads_of(spec))
    folder = sweep_folder(config.tracking.root, spec.name)
    spec = located(spec, folder)
    study = SweepStudy(folder, spec) if load_study(folder, spec.name, spec.storage) else None
    took = trial_seconds(study.study) if study else []
    if took:
        timing = Timing(
            statistics.mean(took), min(took), max(took), f"by the {len(took)} trials that finished"
        )
    else:
        timing = time_choices(spec, space, say)
    done = study.counts().done if study else 0
    left = None if spec.n_trials is None else max(0, spec.n_trials - done)
    budget = (
        None
        if spec.budget_seconds is None
        else spec.budget_seconds - (study.spent() if study else 0.0)
    )
    size = space.size(at_most=1_000_000)
    return SweepPlan(spec.name, space, size, left, spec.processes, timing, budget)


def time_choices(spec: SweepSpec, space: Space, say: Log = lambda _: None) -> Timing:
    """Times each template, and with it the choices that change what a step costs, one at a time.

    Of each key at least the first and the last choice are timed, and more of them as _MOST_TIMED allows.
    The time of a combination is estimated as the product of what its choices change. Epochs count in proportion.
    """
    each = max(1, _MOST_TIMED // len(space.templates))
    rows, parts, untimed, count = [], [], [], 0
    for template in space.templates:
        values = {d.param: _ends(d)[0] for d in space.counting(template) if d.key != "template"}
        values |= {d.param: template for d in space.counting(template) if d.key == "template"}
        costly = _costly(space, template)
        dimensions, missed = costly[: each - 1], [d.key for d in costly[each - 1 :]]
        beside = f", with each of {', '.join(d.key for d in dimensions)}" if dimensions else ""
        say(f"timing a few steps of {template}{beside}")
        base = _seconds(spec, space, values)
        mean, low, high, count = base, base, base, count + 1
        for dimension in dimensions:
            ratios = [1.0]
            others = _ends(dimension)[1:]
            timed = _spread(len(others), (each - 1) // len(dimensions))
            missed += [f"{dimension.key}={others[n]}" for n in range(len(others)) if n not in timed]
            for value in (others[n] for n in timed):
                ratios.append(_seconds(spec, space, {**values, dimension.param: value}) / base)
                count += 1
            mean, low, high = mean * statistics.mean(ratios), low * min(ratios), high * max(ratios)
        factors = _epoch_factors(space, template)
        mean, low, high = mean * statistics.mean(factors), low * min(factors), high * max(factors)
        rows.append((mean, low, high))
        untimed += [f"{template}: {', '.join(missed)}"] if missed else []
        parts.append(f"{template}: about {_range(mean, low, high, 1, 's')}")
    measured = f"from a few steps of {count} configurations, each alone on this machine"
    means, lows, highs = zip(*rows, strict=True)
    shown = tuple(parts) if len(parts) > 1 else ()
    return Timing(statistics.mean(means), min(lows), max(highs), measured, shown, tuple(untimed))


def _spread(length: int, most: int) -> list[int]:
    """Places in a list: the last one, and others at even distances before it.

    >>> _spread(3, 1), _spread(7, 3), _spread(2, 5)
    ([2], [1, 3, 6], [0, 1])
    """
    count = min(length, most)
    return [(n + 1) * length // count - 1 for n in range(count)]


def _costly(space: Space, template: str) -> list[Dimension]:
    """The dimensions that change what a step costs, those that change it most first."""
    rows = [d for d in space.counting(template) if d.key != "template" and _changes_cost(d.key)]
    return sorted(rows, key=lambda d: _FIRST.index(d.key) if d.key in _FIRST else len(_FIRST))


def _changes_cost(key: str) -> bool:
    section, _, name = key.partition(".")
    if (
        section in _FREE_SECTIONS
        or (section == "optimizer" and name)
        or any(w in key for w in _FREE_WORDS)
    ):
        return False
    return section != "augment" or not name or "crop" in name


def _ends(dimension: Dimension) -> Sequence[Any]:
    """The values that are timed: all choices, the ends of a range."""
    return dimension.choices if dimension.choices is not None else (dimension.low, dimension.high)


def _epoch_factors(space: Space, template: str) -> list[float]:
    found = [d for d in space.counting(template) if d.key == "hp.num_epochs"]
    return [value / _ends(found[0])[0] for value in _ends(found[0])] if found else [1.0]


def _seconds(spec: SweepSpec, space: Space, values: Mapping[str, Any]) -> float:
    overrides = space.overrides_of(values)
    config = compose_trial(overrides, threads_of(spec))
    hyperparameters = config.template["hyperparameters"]
    if "none" in (hyperparameters.get("pretrained_weights", {}).get("choices") or ()):
        # weights change no time, and nothing is downloaded
        config = compose_trial(
            [*overrides, f"hp.pretrained_weights={literal('none')}"], threads_of(spec)
        )
    try:
        return forecast_seconds(config, _PATIENCE)
    except SegtuneError as error:
        words = " ".join(overrides[len(space.fixed) :])
        raise type(error)(f"{words or 'the configuration'} cannot be timed: {error}") from None
