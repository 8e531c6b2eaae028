"""The contract of a metric."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segtune.measure.table import EpochCounts


def check_metric(metric: Callable[[Any], Any], direction: str = "maximize") -> None:
    """Check a metric of `each_epoch` on matrices.

    It is a finite number, a mapping of such numbers or None; an absent class and a matrix without
    pixels raise nothing; it is better for right predictions than for wrong ones.

    Raises:
        AssertionError: one of these does not hold.
    """
    right = np.diag([40, 30, 20, 0]).astype(np.int64)
    wrong = np.roll(right, 1, axis=1)
    values = [_value(metric, matrix) for matrix in (right, wrong)]
    _value(metric, np.zeros((4, 4), np.int64))
    sign = -1.0 if direction == "minimize" else 1.0
    if isinstance(values[0], float) and isinstance(values[1], float):
        assert sign * values[0] > sign * values[1], (
            f"right predictions have {values[0]:.6g}, wrong ones {values[1]:.6g}, and direction is "
            f"{direction}"
        )


def _value(metric: Callable[[Any], Any], matrix: Any) -> Any:
    value = metric(EpochCounts(matrix, ("a", "b", "c", "d")))
    numbers = list(value.values()) if isinstance(value, Mapping) else [value]
    for number in numbers:
        assert number is None or math.isfinite(number), f"it returns {number!r}"
    return float(value) if isinstance(value, int | float | np.number) else value
