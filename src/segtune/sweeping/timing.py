"""Forecast a trial's time from a few training steps of the choices that change it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.errors import SegtuneError
from segtune.runtime.log import Log, silent
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.dimensions import literal
from segtune.sweeping.launch import threads_of
from segtune.sweeping.space import Space
from segtune.sweeping.space_building import compose_trial
from segtune.sweeping.spec import SweepSpec
from segtune.training.time_budget import forecast_seconds

_MAX_TIMED = 12  # configurations
_PATIENCE = 0.5  # seconds of steps of each kind, for each configuration
# the keys that change a step's time most, the strongest first
_COSTLIEST = (
    "hp.image_size",
    "augment.crop_size",
    "augment.crop_start",
    "hp.batch_size",
    "hp.encoder",
    "hp.width",
)
# keys that do not change a step's time: whole sections, and parts of a name
_FREE_SECTIONS = ("seed", "scheduler", "sampling")
_FREE_NAMES = (
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
    """The seconds of an unpruned trial.

    Attributes:
        mean: over the finished trials, or over the timed configurations.
        low: of the fastest configuration.
        high: of the slowest configuration.
        measured: the source of these figures.
        parts: for people, one line for each template.
        untimed: keys and choices that may change the cost and were not timed, one line for each
            template.
    """

    mean: float
    low: float
    high: float
    measured: str
    parts: tuple[str, ...] = ()
    untimed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TemplateTiming:
    """The seconds of a template's trials, and what was timed for them."""

    mean: float
    low: float
    high: float
    timed: int
    untimed: list[str]


def time_choices(spec: SweepSpec, space: Space, say: Log = silent) -> Timing:
    """Time each template, and one at a time the choices that change a step's cost.

    At least the first and the last choice of a key are timed, and as many others as _MAX_TIMED
    allows. The time of a combination is estimated as the product of the changes of its choices.
    Epochs count in proportion.
    """
    each = max(1, _MAX_TIMED // len(space.templates))
    timings = {t: _time_template(spec, space, t, each, say) for t in space.templates}
    parts, untimed = [], []
    for template, timing in timings.items():
        seconds = format_range(timing.mean, timing.low, timing.high, 1, "s")
        parts.append(f"{template}: about {seconds}")
        if timing.untimed:
            untimed.append(f"{template}: {', '.join(timing.untimed)}")
    count = sum(timing.timed for timing in timings.values())
    return Timing(
        mean=statistics.mean(timing.mean for timing in timings.values()),
        low=min(timing.low for timing in timings.values()),
        high=max(timing.high for timing in timings.values()),
        measured=f"from a few steps of {count} configurations, each alone on this machine",
        parts=tuple(parts) if len(parts) > 1 else (),
        untimed=tuple(untimed),
    )


def _time_template(
    spec: SweepSpec, space: Space, template: str, at_most: int, say: Log
) -> _TemplateTiming:
    values = {}
    for dimension in space.dimensions_of(template):
        is_template = dimension.key == "template"
        values[dimension.param] = template if is_template else _timed_values(dimension)[0]
    costly = _costly(space, template)
    dimensions, untimed = costly[: at_most - 1], [d.key for d in costly[at_most - 1 :]]
    keys = ", ".join(dimension.key for dimension in dimensions)
    say(f"timing a few steps of {template}" + (f", with each of {keys}" if keys else ""))
    base = _seconds(spec, space, values)
    mean, low, high, timed = base, base, base, 1
    all_factors = []
    for dimension in dimensions:
        others = _timed_values(dimension)[1:]
        numbers = _spread(len(others), (at_most - 1) // len(dimensions))
        factors = [1.0]
        for number, value in enumerate(others):
            if number in numbers:
                seconds = _seconds(spec, space, {**values, dimension.param: value})
                factors.append(seconds / base)
                timed += 1
            else:
                untimed.append(f"{dimension.key}={value}")
        all_factors.append(factors)
    all_factors.append(_epoch_factors(space, template))
    for factors in all_factors:
        mean, low, high = mean * statistics.mean(factors), low * min(factors), high * max(factors)
    return _TemplateTiming(mean, low, high, timed, untimed)


def _spread(length: int, most: int) -> list[int]:
    """Return indices into a list: the last one, and others at even distances before it.

    >>> _spread(3, 1), _spread(7, 3), _spread(2, 5)
    ([2], [1, 3, 6], [0, 1])
    """
    count = min(length, most)
    return [(number + 1) * length // count - 1 for number in range(count)]


def _costly(space: Space, template: str) -> list[SweepDimension]:
    """Return the dimensions that change a step's cost, the costliest first."""
    dimensions = [d for d in space.dimensions_of(template) if _changes_cost(d.key)]
    order = {key: number for number, key in enumerate(_COSTLIEST)}
    return sorted(dimensions, key=lambda dimension: order.get(dimension.key, len(order)))


def _changes_cost(key: str) -> bool:
    section, _, name = key.partition(".")
    if key == "template" or section in _FREE_SECTIONS:
        return False
    if section == "optimizer" and name:
        return False
    if any(free in key for free in _FREE_NAMES):
        return False
    return section != "augment" or not name or "crop" in name


def _timed_values(dimension: SweepDimension) -> Sequence[Any]:
    """Return the values to time: all choices, or the ends of a range."""
    return dimension.choices if dimension.choices is not None else (dimension.low, dimension.high)


def _epoch_factors(space: Space, template: str) -> list[float]:
    """Return the searched numbers of epochs, relative to the first."""
    for dimension in space.dimensions_of(template):
        if dimension.key == "hp.num_epochs":
            epochs = _timed_values(dimension)
            return [number / epochs[0] for number in epochs]
    return [1.0]


def _seconds(spec: SweepSpec, space: Space, values: Mapping[str, Any]) -> float:
    """Forecast the seconds of a trial with the configuration {param: value}."""
    overrides = space.overrides_of(values)
    config = compose_trial(overrides, threads_of(spec))
    weights = config.template["hyperparameters"].get("pretrained_weights", {})
    if "none" in (weights.get("choices") or ()):
        # weights change no time, and nothing is downloaded
        without_weights = [*overrides, f"hp.pretrained_weights={literal('none')}"]
        config = compose_trial(without_weights, threads_of(spec))
    try:
        return forecast_seconds(config, _PATIENCE)
    except SegtuneError as error:
        words = " ".join(overrides[len(space.fixed) :]) or "the configuration"
        raise type(error)(f"{words} cannot be timed: {error}") from None


def format_range(mean: float, low: float, high: float, unit: float, name: str) -> str:
    """Return a mean with its range, which is left out if it rounds to the mean.

    >>> format_range(90, 60, 150, 60, "minutes"), format_range(40, 40, 40, 1, "s")
    ('1.5 minutes (1.0 to 2.5)', '40 s')
    """
    digits = 1 if unit > 1 else 0
    mean_text, low_text, high_text = (f"{value / unit:.{digits}f}" for value in (mean, low, high))
    is_one_number = mean_text == low_text == high_text
    return f"{mean_text} {name}" + ("" if is_one_number else f" ({low_text} to {high_text})")
