"""Refuse masks that were resized with interpolation, with what helps."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from segtune.classes import IGNORE_INDEX
from segtune.config.commands import word
from segtune.data.proposal.choice import setting_words
from segtune.data.proposal.scan import MaskFacts
from segtune.data.proposal.tables import Table
from segtune.data.proposal.two_values import Coding
from segtune.data.reading.blending import (
    RESIZE_AGAIN,
    Interpolation,
    between_words,
    find_interpolation,
    interpolation_words,
)
from segtune.data.reading.borders import Borders
from segtune.data.reading.class_words import is_line
from segtune.errors import DataError

_LEAST_GAP = 10  # between levels, so that most values in between have one nearest level
_MOST_CLASSES = 24  # without an area of their own, that masks may hold
INTERPOLATED = "with values in between at the borders, as interpolation leaves them"
Color = tuple[int, int, int]


def interpolation_in(facts: Sequence[MaskFacts], known: Collection[int]) -> Interpolation | None:
    """What shows that masks were resized with interpolation, or may have been, by all together.

    Args:
        known: values that may be ids of classes.
    """
    borders = Borders()
    for fact in facts:
        if fact.borders is not None:
            borders.add(fact.borders)
    return find_interpolation(borders, known, harmless=[IGNORE_INDEX])


def refuse_values(found: Interpolation, table: Table | None, ways: Sequence[Coding]) -> None:
    """Refuse masks of numbers with others in between.

    Args:
        ways: to read the masks as ids, if they were not interpolated.

    Raises:
        DataError: always.
    """
    text = f"the masks hold {interpolation_words(found)}. {RESIZE_AGAIN}"
    gaps = [b - a for a, b in zip(found.levels, found.levels[1:], strict=False)]
    if min(gaps) >= _LEAST_GAP and max(found.levels) <= 255:
        text += _nearest_line([(v, v, v) for v in found.levels], table)
    for way in ways[:1] if len(found.strays) <= _MOST_CLASSES else ():
        words = setting_words({"mask_format": "index", **way.settings, **_thin(found, way, table)})
        text += f" If all of them are ids, of thin classes too: {shlex.join(words)}"
    raise DataError(text)


def with_thin_classes(way: Coding, found: Interpolation, table: Table | None) -> Coding:
    """A way to read masks as ids, with a remark on ids that lie as thin lines between others."""
    thin = _thin(found, way, table)
    names = thin.get("thin_classes", [])
    if names and all(map(is_line, names)):
        return way
    line = shlex.join(setting_words(thin))
    return replace(
        way,
        evidence=f"{way.evidence}. They hold {between_words(found)}: if they were resized so, "
        f"export them again with nearest neighbour; if these are thin classes, say so: {line}",
    )


def _thin(found: Interpolation, way: Coding, table: Table | None) -> dict[str, list[str]]:
    """The setting that names the classes of ids that lie between others."""
    settings = way.settings
    names = list(settings.get("classes", table.names if table is not None else []))
    moved = settings.get("label_map", {})
    shift = 1 if settings.get("reduce_zero_label") else 0
    places = sorted({moved.get(value, value - shift) for value in found.between})
    return {"thin_classes": [names[place] for place in places if 0 <= place < len(names)]}


def refuse_colors(found: Interpolation, table: Table | None) -> None:
    """Refuse masks of colours with others in between.

    Raises:
        DataError: always.
    """
    levels = [_color(level) for level in found.levels]
    raise DataError(
        f"the masks hold {len(found.strays)} colours ({found.pixels:,} px) that lie on the borders "
        f"between areas of {len(levels)} colours alone: they were resized or turned with "
        f"interpolation, which mixes classes. {RESIZE_AGAIN}{_nearest_line(levels, table)}"
    )


def _nearest_line(levels: Sequence[Color], table: Table | None) -> str:
    """The words that read each pixel as the nearest level, and what they cannot mend."""
    known = {} if table is None else {place: color for color, place in table.colors.items()}
    rows: list[dict[str, Any]] = []
    if table is not None and set(levels) <= set(known.values()):
        rows = [
            {"name": table.names[place], "color": list(known[place])} for place in sorted(known)
        ]
    else:
        stated = {} if table is None else {e.value: e.name for e in table.entries}
        # a grey level may be a value that the table states; a colour tells nothing of a name
        names = [stated.get(_grey(level)) or _called(level) for level in levels]
        are_grey = all(_grey(level) >= 0 for level in levels)
        if table is not None and not table.has_values and are_grey:
            names = table.names if len(table.names) == len(levels) else names  # in their order
        rows = [{"name": n, "color": list(c)} for n, c in zip(names, levels, strict=True)]
    words = ["dataset.mask_format=rgb_nearest", word("dataset.classes", rows)]
    caveat = "" if len(levels) == 2 else ", although some borders then show a thin line of a third"
    return f" Or take the nearest class{caveat}: {shlex.join(words)}"


def _grey(level: Color) -> int:
    """The value of a grey level; -1 for a colour."""
    return level[0] if len(set(level)) == 1 else -1


def _called(level: Color) -> str:
    red, green, blue = level
    return f"class_{red}" if _grey(level) >= 0 else f"color_{red:02x}{green:02x}{blue:02x}"


def _color(number: int) -> Color:
    return number >> 16, number >> 8 & 255, number & 255
