"""The class table: which id of a mask means what, in which colour, and which ids count nowhere."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segtune.errors import ConfigError

IGNORE_INDEX = 255
"""The id that a mask holds after `ignore` and `label_map` were applied: counted in no loss and no metric."""

MAX_CLASSES = 180
"""The confusion matrix counts in int16: (C + 1) * C must stay under 32768."""


@dataclass(frozen=True)
class ClassInfo:
    """One class: its mask id is its place in the table.

    Attributes:
        color: RGB, each 0..255.
        finer: names of finer concepts, in the order of their ids in the finer masks; may be empty.
    """

    name: str
    color: tuple[int, int, int]
    finer: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassTable:
    """The classes of a dataset or segmenter, ids 0..C-1 in order.

    >>> ClassTable.parse(["road", {"name": "car", "color": [0, 0, 142]}]).names
    ('road', 'car')
    """

    classes: tuple[ClassInfo, ...]
    ignore: tuple[int, ...] = field(default=(IGNORE_INDEX,))

    @classmethod
    def parse(
        cls, entries: Sequence[str | Mapping[str, Any]], ignore: Sequence[int] = (IGNORE_INDEX,)
    ) -> "ClassTable":
        """Reads a list of names, or of mappings with `name`, `color` and `finer`.

        Raises:
            ConfigError: no classes, too many, an unnamed or repeated one, or a colour that is not three bytes.
        """
        if not entries:
            raise ConfigError(
                "dataset.classes is empty: list the class names in the order of their mask ids."
            )
        if len(entries) > MAX_CLASSES:
            raise ConfigError(
                f"dataset.classes lists {len(entries)} classes; at most {MAX_CLASSES} can be counted."
            )
        classes = []
        for index, entry in enumerate(entries):
            item = {"name": entry} if isinstance(entry, str) else dict(entry)
            unknown = set(item) - {"name", "color", "finer"}
            if unknown or not str(item.get("name", "")).strip():
                raise ConfigError(
                    f"dataset.classes[{index}] is {entry!r}: give name, and if you like color and finer."
                )
            color = tuple(item.get("color") or distinct_color(index))
            if len(color) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in color):
                raise ConfigError(
                    f"dataset.classes[{index}].color is {list(color)}: give three integers in 0..255."
                )
            classes.append(ClassInfo(str(item["name"]), color, tuple(item.get("finer") or ())))
        names = [c.name for c in classes]
        repeated = {n for n in names if names.count(n) > 1}
        if repeated:
            raise ConfigError(
                f"dataset.classes names {sorted(repeated)} more than once; each name stands for one id."
            )
        return cls(tuple(classes), tuple(int(i) for i in ignore))

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by id."""
        return tuple(c.name for c in self.classes)

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """RGB colours by id."""
        return [c.color for c in self.classes]

    def __len__(self) -> int:
        return len(self.classes)

    def to_json(self) -> list[dict[str, Any]]:
        """The table as plain data, readable by `parse`."""
        return [
            {"name": c.name, "color": list(c.color), "finer": list(c.finer)} for c in self.classes
        ]


def distinct_color(index: int) -> tuple[int, int, int]:
    """A colour for class `index` that differs from its neighbours': golden-ratio steps around the hue circle."""
    hue = (0.6 + index * 0.61803398875) % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.65 if index % 2 else 0.85, 0.95 if index % 3 else 0.75)
    return int(r * 255), int(g * 255), int(b * 255)
