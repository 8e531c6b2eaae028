"""JSON that every reader takes: Python's own writes NaN and Infinity, which are no JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """Plain data as JSON; a figure that is not finite is null, as one that is not defined.

    Args:
        options: of `json.dumps`.

    >>> to_json({"iou": [0.5, float("nan")], "loss": float("inf")})
    '{"iou": [0.5, null], "loss": null}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
