"""A user's table of images: each of its columns divides the split into parts."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from segtune.errors import ConfigError, DataError

_NAMES = ("image", "name", "file", "filename")  # headings of the column of image names


def read_image_table(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the value of each image in each column; an image without a row has empty values.

    A row names its image as the split does, or by its file name, with or without its suffix. Rows
    of other images, such as those of another split, are left out.

    Args:
        path: CSV file (comma, semicolon or tab). The column of names is `image`, `name`, `file` or
            `filename`, else the first.
        names: of the split's images.

    Raises:
        ConfigError: there is no such file, or it names no image of the split.
        DataError: the file is no table, or names an image twice.
    """
    rows = _rows(path)
    heads = list(rows[0])
    key = next((h for h in heads if h.strip().lower() in _NAMES), heads[0])
    forms = {form: name for name in names for form in _forms(name)} | {n: n for n in names}
    found: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        text = row[key].strip()
        name = next((forms[form] for form in (text, *_forms(text)) if form in forms), None)
        if name in found:
            raise DataError(f"'{path}' line {number}: image '{text}' has a row already.")
        if name is not None:
            found[name] = row
    if not found:
        raise ConfigError(
            f"image_table='{path}': no row names an image of the split, such as '{names[0]}'; "
            f"column '{key}' begins with '{rows[0][key]}'."
        )
    columns = [head for head in heads if head != key]
    return {c: [(found[n][c] if n in found else "").strip() for n in names] for c in columns}


def number_or_nan(text: str) -> float:
    """Return a cell as a number; NaN if it is empty or no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _forms(name: str) -> list[str]:
    """Return the ways in which a table may name an image."""
    file = PurePosixPath(name.replace("\\", "/"))
    return [str(file.with_suffix("")) if file.name else name, file.name, file.stem]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"image_table='{path}' cannot be read: {error}") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    rows = [{h: row[h] for h in reader.fieldnames or []} for row in reader]
    if not rows or len(rows[0]) < 2:
        raise DataError(
            f"'{path}' is no table of images: it needs a heading, a column of image names and "
            f"another column; it has {len(rows)} rows and the heading '{head[:80]}'."
        )
    return rows
