"""JSON that every reader takes: Python's own writer emits NaN and Infinity."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segtune.errors import DataError


def to_json(value: Any, **options: Any) -> str:
    """Write plain data as JSON; numbers that are not finite become null.

    Args:
        options: keyword arguments of `json.dumps`.

    >>> to_json({"iou": [0.5, float("nan")], "loss": float("inf")})
    '{"iou": [0.5, null], "loss": null}'
    """
    return json.dumps(_finite(value), allow_nan=False, **options)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: it is damaged, or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{path}' cannot be read: {error}. Restore it from a copy.") from None
    if not isinstance(content, dict):
        raise DataError(f"'{path}' is damaged: it holds no object. Restore it from a copy.")
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
