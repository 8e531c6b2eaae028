"""The class table: name and colour of each mask id, and the ids that are ignored."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segtune.errors import ConfigError

IGNORE_INDEX = 255
"""The id of ignored pixels after `ignore` and `label_map`: no loss and no metric counts them."""

MAX_CLASSES = 180
"""The confusion matrix counts in int16: (C + 1) * C must stay under 32768."""

CLASS_LIMIT = (
    f"at most {MAX_CLASSES} are supported, since masks hold ids of 8 bits and pairs of ids are "
    "counted in 16 bits"
)

_KEYS = {"name", "color", "finer"}
# chosen greedily: the largest smallest distance in OKLab, as seen with all kinds of colour vision
_APART = (
    *((34, 102, 204), (255, 238, 153), (102, 34, 0), (221, 102, 17), (34, 187, 255)),
    *((0, 51, 119), (136, 85, 102), (238, 170, 136), (170, 238, 255), (153, 136, 170)),
    *((85, 136, 255), (187, 51, 0), (0, 0, 221), (187, 221, 0), (153, 187, 0)),
    *((102, 85, 153), (204, 136, 119), (102, 17, 170), (136, 34, 68), (204, 153, 204)),
    *((187, 102, 102), (153, 0, 255), (255, 204, 170), (119, 119, 187), (170, 204, 255)),
    *((204, 255, 68), (68, 34, 85), (153, 102, 136), (51, 153, 17), (68, 68, 102)),
    *((221, 68, 238), (102, 238, 204)),
)


@dataclass(frozen=True)
class ClassInfo:
    """One class; its position in the table is its mask id.

    Attributes:
        color: RGB, each 0..255.
        finer: names of finer concepts in the order of their ids in the finer masks; may be empty.
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
    ignore: tuple[int, ...] = (IGNORE_INDEX,)

    @classmethod
    def parse(
        cls, entries: Sequence[str | Mapping[str, Any]], ignore: Sequence[int] = (IGNORE_INDEX,)
    ) -> "ClassTable":
        """Read a list of names, or of mappings with `name`, `color` and `finer`.

        Raises:
            ConfigError: no class, too many classes, a class without a name, two classes of one
                name, or a colour that is not three integers in 0..255.
        """
        if not entries:
            raise ConfigError(
                "dataset.classes is empty: list the class names in the order of their mask ids."
            )
        if len(entries) > MAX_CLASSES:
            raise ConfigError(
                f"dataset.classes lists {len(entries)} classes; {CLASS_LIMIT}. List those that "
                "matter, and map the ids of the others to one of them or to 255, "
                "dataset.label_map={200: 255}."
            )
        classes = tuple(_parse_class(index, entry) for index, entry in enumerate(entries))
        names = [c.name for c in classes]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ConfigError(
                f"dataset.classes names {repeated} more than once; each name stands for one id."
            )
        return cls(classes, tuple(int(i) for i in ignore))

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
        """The table as plain data that `parse` reads."""
        return [
            {"name": c.name, "color": list(c.color), "finer": list(c.finer)} for c in self.classes
        ]


def _parse_class(index: int, entry: str | Mapping[str, Any]) -> ClassInfo:
    item = {"name": entry} if isinstance(entry, str) else dict(entry)
    if set(item) - _KEYS or not str(item.get("name", "")).strip():
        raise ConfigError(
            f"dataset.classes[{index}] is {entry!r}: give name, and if you like color and finer."
        )
    color = tuple(item.get("color") or distinct_color(index))
    if len(color) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in color):
        raise ConfigError(
            f"dataset.classes[{index}].color is {list(color)}: give three integers in 0..255."
        )
    return ClassInfo(str(item["name"]), color, tuple(item.get("finer") or ()))


def distinct_color(index: int) -> tuple[int, int, int]:
    """A colour for class `index` that differs from those of the classes before it.

    The first 32 stay apart for readers with protanopia, deuteranopia or tritanopia too: each is
    the colour farthest from black and from the ones before it. After those, the hue moves by the
    golden ratio.

    >>> distinct_color(0), distinct_color(32)
    ((34, 102, 204), (36, 242, 90))
    """
    if index < len(_APART):
        return _APART[index]
    hue = (0.6 + index * 0.61803398875) % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.65 if index % 2 else 0.85, 0.95 if index % 3 else 0.75)
    return int(r * 255), int(g * 255), int(b * 255)
