"""JSON that every reader takes: Python's own writer emits NaN and Infinity."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """Write plain data as JSON; numbers that are not finite become null.

    Args:
        options: keyword arguments of `json.dumps`.

    >>> to_json({"iou": [0.5, float("nan")], "loss": float("inf")})
    '{"iou": [0.5, null], "loss": null}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
