"""Decide how masks of colours hold their classes."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from segtune.config.commands import word
from segtune.data.proposal.interpolated import INTERPOLATED, interpolation_in, refuse_colors
from segtune.data.proposal.scan import BRIGHT, DARK, Color, MaskFacts
from segtune.data.proposal.tables import Table
from segtune.data.proposal.two_values import Coding, of_two
from segtune.data.reading.blending import Interpolation
from segtune.data.reading.masks import NEAR_COLOR
from segtune.errors import DataError

_MOST_COLORS = 40  # that are taken for classes without a table of them
_NEAR_SHARE = 0.95  # share of the pixels that must be near the colours of a table
_CLASS_SHARE = 0.01  # share of the pixels, of one far colour that may be a class of its own
_SHOWN = 8


def by_color(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> Coding:
    """Masks of colours.

    Raises:
        DataError: there are too many colours, or some that the table does not name.
    """
    colors: Counter[Color] = Counter()
    for fact in facts:
        colors.update(fact.colors or {(v, v, v): n for v, n in fact.values.items() if v < 256})
    known = table.colors if table is not None else {}
    has_unknown = bool(colors.keys() - known.keys())
    blend = interpolation_in([f for f in facts if f.is_colored], ()) if has_unknown else None
    blend = blend if blend is not None and blend.is_certain else None
    if known:
        return _of_known_colors(colors, known, table, is_given, blend)
    if blend is not None:
        if len(blend.levels) == 2 and blend.levels[0] == 0 and max(map(max, colors)) >= BRIGHT:
            return of_two("binary", "black and one colour, " + INTERPOLATED, table, is_given)
        refuse_colors(blend, table)
    bright = [color for color in colors if max(color) > 0]
    has_black = any(max(color) <= DARK for color in colors)
    is_soft = all(f.is_soft or len(f.colors or f.values) <= 2 for f in facts)
    if has_black and (len(bright) == 1 or is_soft) and (table is None or len(table.names) <= 2):
        return of_two("binary", "black and one colour", table, is_given)
    if is_given:
        return Coding({}, f"{len(colors)} colours")
    if len(colors) > _MOST_COLORS:
        alpha = " If the object is what is opaque: dataset.mask_format=alpha."
        has_opacity = any(fact.has_opacity for fact in facts)
        raise DataError(
            f"the masks hold {len(colors)} or more colours and no file names those of the classes."
            f"{alpha if has_opacity else ''} "
            "Give them: 'dataset.classes=[{name:road,color:[128,64,128]},…]' "
            "dataset.mask_format=rgb (or rgb_nearest for masks that JPEG or "
            "interpolation changed)."
        )
    if table is not None:
        raise DataError(
            f"'{table.path}' names {len(table.names)} classes without colours, but the masks hold "
            f"{len(colors)} colours: {_listed(sorted(colors))}. Give the colours: "
            "'dataset.classes=[{name:road,color:[128,64,128]},…]' dataset.mask_format=rgb"
        )
    rows = [
        {"name": f"color_{r:02x}{g:02x}{b:02x}", "color": [r, g, b]} for r, g, b in sorted(colors)
    ]
    evidence = f"{len(colors)} colours, named nowhere: classes are called after them"
    return Coding({"mask_format": "rgb", "classes": rows}, evidence)


def _of_known_colors(
    colors: Counter[Color],
    known: dict[Color, int],
    table: Table | None,
    is_given: bool,
    blend: Interpolation | None,
) -> Coding:
    """Colours of a table.

    Args:
        blend: what shows interpolation.

    Raises:
        DataError: some are not near those of the table.
    """
    assert table is not None
    unknown = {color: count for color, count in colors.items() if color not in known}
    form, evidence = "rgb", f"{len(colors)} colours, all of them in '{table.path}'"
    if is_given:
        evidence = f"{len(colors)} colours, all of them in dataset.classes"
    if unknown:
        far = {c: n for c, n in unknown.items() if min(_distance(c, k) for k in known) > NEAR_COLOR}
        most = max(far.values(), default=0)
        is_far = sum(far.values()) > (1 - _NEAR_SHARE) * colors.total()
        if is_far or most > _CLASS_SHARE * colors.total() or len(far) == len(unknown):
            if blend is not None:
                refuse_colors(blend, table)
            first = max(unknown, key=unknown.__getitem__)
            raise DataError(
                f"the masks hold {len(unknown)} colours that '{table.path or 'dataset.classes'}' "
                f"does not name, most often {list(first)} ({unknown[first]:,} px). Name its class"
                f"{_ignoring_colors(unknown, table)}"
            )
        form = "rgb_nearest"
        evidence = f"{len(colors)} colours, most of them near those of '{table.path}'"
        evidence += f", {INTERPOLATED}" if blend is not None else ""
    settings: dict[str, Any] = {"mask_format": form}
    if not is_given:
        settings["classes"] = _colored_rows(table)
    return Coding(settings, evidence)


def _colored_rows(table: Table) -> list[dict[str, Any]]:
    """Rows of a class table with colours."""
    return [{"name": e.name, "color": list(e.color)} for e in table.entries if e.color is not None]


def _ignoring_colors(unknown: Counter[Color] | dict[Color, int], table: Table) -> str:
    """The end of a message: the words that ignore a few unknown colours."""
    if len(unknown) > _SHOWN:
        return "."
    ignored = [list(color) for color in sorted(unknown)]
    words = ["dataset.mask_format=rgb", word("dataset.classes", _colored_rows(table))]
    words.append(word("dataset.ignore_colors", ignored))
    return f", or ignore {'it' if len(unknown) == 1 else 'all of them'}: {shlex.join(words)}"


def _distance(first: Color, second: Color) -> float:
    return math.dist(first, second)


def _listed(items: Sequence[Any]) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return f"{shown}, … ({len(items)})" if len(items) > _SHOWN else shown
