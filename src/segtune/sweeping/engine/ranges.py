"""Check a numeric range under `search:`: its ends, step and scale."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from segtune.errors import ConfigError
from segtune.sweeping.engine.dimensions import TOLERANCE, Dimension

RANGE_KEYS = ("min", "max", "step", "log")
DimensionT = TypeVar("DimensionT", bound=Dimension)


def numeric_range(
    dimension: DimensionT, fields: Mapping[str, Any], declared_step: float | None = None
) -> DimensionT:
    """Return a dimension with a step and a scale, after its range was checked.

    Args:
        dimension: with its ends.
        fields: of the line under `search:`; may hold `step` and `log`.
        declared_step: of the template, which allows no values between its steps.

    Raises:
        ConfigError: ends, step and scale do not fit together.
    """
    key, low, high, is_int = dimension.key, dimension.low, dimension.high, dimension.is_int
    log = fields.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"search.{key}: log is true or false, not {log!r}.")
    if not low < high:
        raise ConfigError(
            f"search.{key}: min {low:g} must lie below max {high:g}. One value for all trials is "
            "an override."
        )
    if log and low <= 0:
        raise ConfigError(f"search.{key}: a logarithmic range starts above 0, not at {low:g}.")
    written_step = fields.get("step")
    step = declared_step if written_step is None else finite_number(key, "step", written_step)
    if is_int and step == 1:
        step = None  # whole numbers have that step anyway
    if step is None:
        return replace(dimension, log=log)
    _check_step(dimension, step, declared_step)
    if log:
        origin = " (the template declares that step)" if written_step is None else ""
        raise ConfigError(
            f"search.{key}: log and step {step:g} cannot be combined{origin}: leave one of them "
            f"out, or give a list of choices, as [{', '.join(_doubling(low, high, step))}]."
        )
    if not _divides(step, high - low):
        last = low + math.floor((high - low) / step) * step
        raise ConfigError(
            f"search.{key}: step {step:g} does not lead from min {low:g} to max {high:g}. Give "
            f"max: {last:g} or {last + step:g}, or another step."
        )
    return replace(dimension, step=step)


def finite_number(key: str, name: str, value: Any) -> float:
    """Return a value of a range if it is a finite number.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"search.{key}: min, max and step are numbers, and {value!r} is none.")
    if not math.isfinite(value):
        raise ConfigError(f"search.{key}: {name} is {value}; a finite number is expected.")
    return value


def _check_step(dimension: Dimension, step: float, declared_step: float | None) -> None:
    key = dimension.key
    if step <= 0:
        raise ConfigError(f"search.{key}: step {step:g} must lie above 0.")
    if dimension.is_int and step != int(step):
        raise ConfigError(f"search.{key}: it takes whole numbers, and step {step:g} is not one.")
    if declared_step and not _divides(declared_step, step):
        raise ConfigError(
            f"search.{key}: step {step:g} leaves the template's values, which have a step of "
            f"{declared_step:g}. Give a multiple of {declared_step:g}."
        )


def _divides(step: float, span: float) -> bool:
    count = span / step
    return count > 0.5 and abs(count - round(count)) <= TOLERANCE * max(1.0, count)


def _doubling(low: float, high: float, step: float) -> list[str]:
    """Return up to six values on the steps from low, each about twice the one before."""
    values = [low]
    while values[-1] + step <= high and len(values) < 6:
        steps = max(1, round(values[-1] / step))
        values.append(values[-1] + steps * step)
    return [f"{value:g}" for value in values if value <= high]
