"""Axes of parallel coordinates: each value of a parameter becomes a height in [0, 1]."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = object()
"""Stands for the value of a trial without the parameter, since None is a possible value."""
_LOWEST = 0.15  # height of the lowest value on an axis that some trials lack


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        heights: of each trial, in [0, 1].
        ticks: (height, label).
    """

    heights: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel_axis(values: Sequence[Any], is_log: bool = False) -> Axis:
    """Return the axis of a parameter; ABSENT is a dash below all values.

    Args:
        is_log: the parameter is searched on a logarithmic scale.
    """
    present = [v for v in values if v is not ABSENT]
    if all(map(is_number, present)):
        axis = _number_axis(present, is_log)
    else:
        axis = _choice_axis([str(v) for v in present])
    if len(present) == len(values):
        return axis
    raised = iter(_raised(height) for height in axis.heights)
    heights = [0.0 if v is ABSENT else next(raised) for v in values]
    ticks = [(_raised(height), label) for height, label in axis.ticks]
    return Axis(heights, [(0.0, "–"), *ticks])


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are choices."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def spans_decades(values: Sequence[Any]) -> bool:
    """Whether positive numbers differ so much that they need a logarithmic axis."""
    return bool(min(values) > 0 and max(values) / min(values) > 20)


def _raised(height: float) -> float:
    return _LOWEST + (1 - _LOWEST) * height


def _number_axis(values: Sequence[float], is_log: bool) -> Axis:
    is_log = min(values) > 0 and (is_log or spans_decades(values))
    scale = math.log if is_log else float
    low, high = scale(min(values)), scale(max(values))
    span = high - low or 1.0
    ticks = [(0.0, f"{min(values):.3g}")]
    if low < high:
        ticks.append((1.0, f"{max(values):.3g}"))
    return Axis([(scale(v) - low) / span for v in values], ticks)


def _choice_axis(values: Sequence[str]) -> Axis:
    """Return the axis of choices; numbers, which a study stores as text, are sorted as numbers."""
    try:
        choices = sorted(set(values), key=float)
    except ValueError:
        choices = sorted(set(values))
    step = 1 / max(1, len(choices) - 1)
    heights = [choices.index(v) * step for v in values]
    return Axis(heights, [(n * step, choice) for n, choice in enumerate(choices)])
