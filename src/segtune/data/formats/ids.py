"""Ids as keys: of one type, and each for one thing."""

import math
from collections.abc import Sequence
from typing import Any

from segtune.errors import DataError


def id_key(value: object, where: str) -> str:
    """An id as text: 2, 2.0 and "2" are one id.

    >>> id_key(2, "a"), id_key(2.0, "a"), id_key(" 2", "a")
    ('2', '2', '2')

    Raises:
        DataError: it is neither a number nor a text.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        raise DataError(f"{where} is {str(value)[:40]!r}; a number or a text is allowed as id.")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    return str(value).strip()


def id_order(key: str) -> tuple[int, int, str]:
    """A key for sorting: ids that are numbers by their value, then the others."""
    is_number = key.isascii() and key.isdigit()
    return (0, int(key[:30]), key) if is_number else (1, 0, key)


def rows_by_id(
    rows: Sequence[dict[str, Any]], where: str, name_key: str
) -> dict[str, dict[str, Any]]:
    """Id -> row; a row that repeats another one is left out.

    Args:
        where: file and list, for messages.
        name_key: the key of what a row stands for.

    Raises:
        DataError: two rows of other names share an id.
    """
    by_id: dict[str, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        key = id_key(row["id"], f"{where}[{index}].id")
        first = by_id.setdefault(key, row)
        if first[name_key] != row[name_key]:
            raise DataError(
                f"{where}[{index}]: the id {key} is given twice, to '{first[name_key]}' and to "
                f"'{row[name_key]}'; every id must be unique in a file. Export the file again, or "
                "keep files that were joined apart: all files of a folder are read."
            )
    return by_id
