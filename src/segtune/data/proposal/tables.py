"""Find the files that name the classes: `classes.txt`, `class_dict.csv`, `data.yaml` and others."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from segtune.data.source.files import walk
from segtune.data.source.text import read_text
from segtune.errors import DataError

Color = tuple[int, int, int]

_CALLED = re.compile(
    r"class|label|categor|codes|palette|colou?r|names|id2|data(set)?\.(ya?ml|json)|meta|config",
    re.IGNORECASE,
)
_SETTINGS = re.compile(r"data|meta|config", re.IGNORECASE)
_SUFFIXES = (".txt", ".csv", ".tsv", ".yaml", ".yml", ".json", ".names")
_MOST_BYTES = 200_000
_MOST_CLASSES = 256
_MOST_FOLDERS = 3  # above a file
_LONGEST_NAME = 60
_NUMBER_FIRST = re.compile(r"(\d+)\s*[:,;=\t ]\s*(.+)")
_COLOR = re.compile(r"\(?\[?(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})\)?\]?")


@dataclass(frozen=True)
class Entry:
    """A class as a file names it.

    Attributes:
        value: that masks hold for it; None where the file states no number.
    """

    name: str
    value: int | None = None
    color: Color | None = None


@dataclass(frozen=True)
class Table:
    """The classes that a file names.

    Attributes:
        path: of the file below the root; empty for classes that the user gave.
    """

    path: str
    entries: tuple[Entry, ...]

    @property
    def names(self) -> list[str]:
        """In the order of the file."""
        return [entry.name for entry in self.entries]

    @property
    def has_values(self) -> bool:
        """Whether the file states the value of every class."""
        return all(entry.value is not None for entry in self.entries)

    @property
    def colors(self) -> dict[Color, int]:
        """Colour -> place of the class; empty unless every class has a colour of its own."""
        colors = {e.color: i for i, e in enumerate(self.entries) if e.color is not None}
        return colors if len(colors) == len(self.entries) else {}


def tables_in(root: Path, stems: frozenset[str]) -> list[Table]:
    """The tables of classes below root, those with colours or values first; each once.

    Args:
        stems: names of the images: a list of them is no table of classes.
    """
    tables: list[Table] = []
    for file in walk(root, _SUFFIXES):
        path = PurePosixPath(file)
        is_small = (root / file).stat().st_size <= _MOST_BYTES
        if len(path.parts) > _MOST_FOLDERS or not is_small or not _CALLED.search(path.name):
            continue
        try:
            entries = _entries(read_text(root / file), path)
        except (DataError, ValueError, yaml.YAMLError, csv.Error):
            continue
        if _is_table(entries, stems):
            tables.append(Table(file, tuple(entries)))
    tables.sort(key=lambda table: (not table.colors, not table.has_values))
    kept: list[Table] = []
    for table in tables:
        if not any(_says_the_same(table, other) for other in kept):
            kept.append(table)
    return kept


def _says_the_same(table: Table, other: Table) -> bool:
    """Whether a table adds nothing to another one: names without values, in the same order."""
    if table.has_values or other.has_values:
        return set(table.names) == set(other.names)
    return table.names == other.names


def _is_table(entries: Sequence[Entry], stems: frozenset[str]) -> bool:
    names = [entry.name for entry in entries]
    values = [entry.value for entry in entries if entry.value is not None]
    is_list = any(PurePosixPath(name).stem in stems for name in names)
    are_names = all(0 < len(n) <= _LONGEST_NAME and re.search(r"[^\W\d_]", n) for n in names)
    are_unique = len(set(names)) == len(names) and len(set(values)) == len(values)
    return 0 < len(names) <= _MOST_CLASSES and are_names and are_unique and not is_list


def _entries(text: str, path: PurePosixPath) -> list[Entry]:
    suffix = path.suffix.lower()
    if suffix in (".json", ".yaml", ".yml"):
        data = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
        # a file of settings holds numbers that are no ids of classes
        return _of_data(data, may_be_bare=not _SETTINGS.search(path.name))
    if suffix in (".csv", ".tsv"):
        return _of_rows(text)
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]
    return [_of_line(line) for line in lines]


def _of_line(line: str) -> Entry:
    """A class from `name`, `3: name`, `128 0 0 name`, `name 128 0 0` or `name:128,0,0::`."""
    color = _COLOR.search(line)
    if color is not None:
        name = f"{line[: color.start()]} {line[color.end() :]}".strip(" \t:,;=")
        value = _NUMBER_FIRST.fullmatch(name)
        red, green, blue = (int(level) for level in color.groups())
        if max(red, green, blue) <= 255 and name:
            text = value[2] if value else name
            return Entry(text.strip(" \t:,;"), int(value[1]) if value else None, (red, green, blue))
    number = _NUMBER_FIRST.fullmatch(line)
    if number:
        return Entry(number[2].strip(), int(number[1]))
    return Entry(line.strip(" \t:,;"))


def _of_rows(text: str) -> list[Entry]:
    """The classes of a table with a header that names a column of names."""
    lines = [line for line in text.split("\n") if line.strip()]
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=separator))
    header = [cell.strip().lower() for cell in rows[0]]
    name = _column(header, ("name", "class", "class name", "class_name", "label", "category"))
    value = _column(header, ("pixel value", "value", "id", "index", "idx", "pixel", "class id"))
    levels = [_column(header, (long, long[0])) for long in ("red", "green", "blue")]
    if name is None:
        return [_of_line(",".join(row)) for row in rows]
    entries = []
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        color = [int(cells[level]) for level in levels if level is not None]
        stated = int(cells[value]) if value is not None and value != name else None
        is_color = len(color) == 3 and max(color) <= 255
        entries.append(
            Entry(cells[name], stated, (color[0], color[1], color[2]) if is_color else None)
        )
    return entries


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _of_data(data: Any, may_be_bare: bool = True) -> list[Entry]:
    """The classes of JSON or YAML: a list, `names:`, `id2label`, or entries with name and color.

    Args:
        may_be_bare: whether a mapping may itself be that of ids and names.
    """
    if isinstance(data, Mapping):
        for key in ("names", "classes", "labels", "categories", "id2label", "class_names"):
            if isinstance(data.get(key), list | Mapping):
                return _of_data(data[key])
        return _of_mapping(data) if may_be_bare else []
    if not isinstance(data, list):
        return []
    entries = []
    for item in data:
        if isinstance(item, Mapping):
            entries.append(_of_item(item))
        elif isinstance(item, str):
            entries.append(Entry(item))
        else:
            return []
    return entries


def _of_mapping(data: Mapping[Any, Any]) -> list[Entry]:
    """`{0: road}` or `{road: 0}`."""
    if data and all(str(key).isdecimal() and isinstance(v, str) for key, v in data.items()):
        rows = sorted((int(key), name) for key, name in data.items())
        return [Entry(name, value) for value, name in rows]
    if data and all(isinstance(v, int) and not isinstance(v, bool) for v in data.values()):
        rows = sorted((value, str(key)) for key, value in data.items())
        return [Entry(name, value) for value, name in rows]
    return []


def _of_item(item: Mapping[str, Any]) -> Entry:
    name = item.get("name") or item.get("readable") or item.get("label") or ""
    value = next((item[key] for key in ("id", "value", "index") if key in item), None)
    stated = item.get("color")
    color = stated if isinstance(stated, list) else []
    is_color = len(color) == 3
    is_color = is_color and all(isinstance(level, int) and 0 <= level <= 255 for level in color)
    return Entry(
        str(name),
        value if isinstance(value, int) else None,
        (color[0], color[1], color[2]) if is_color else None,
    )
