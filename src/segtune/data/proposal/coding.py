"""Decide how masks hold their classes, from what all of them hold and from a table of classes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from segtune.classes import IGNORE_INDEX, MAX_CLASSES
from segtune.data.proposal.scan import DARK, Color, MaskFacts
from segtune.data.proposal.tables import Table
from segtune.errors import DataError

BACKGROUND = ("background", "_background_", "bg", "unlabeled", "unlabelled", "void", "none")
_MOST_COLORS = 40  # that are taken for classes without a table of them
_NEAR = 60  # distance in RGB of a colour that JPEG has changed
_NEAR_SHARE = 0.95  # share of the pixels that must be near the colours of a table
_FEWEST_STEP = 10  # grey levels, evenly spaced from 0, that stand for classes
_SHOWN = 8


@dataclass(frozen=True)
class Coding:
    """One way to read masks.

    Attributes:
        settings: keys of the dataset's config.
        evidence: what the masks hold, and what it was taken for.
    """

    settings: dict[str, Any]
    evidence: str


def codings(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> list[Coding]:
    """The ways to read masks that are about as likely, the best first.

    Args:
        table: of classes; None if none is known.
        is_given: the user gave the table, which then stays as it is.

    Raises:
        DataError: the masks cannot be read as classes; it says what they hold.
    """
    readable = [fact for fact in facts if not fact.fault]
    if not readable:
        raise DataError(f"none of {len(facts)} masks can be read; the first: {facts[0].fault}")
    if all(fact.is_hidden for fact in readable):
        return [_of_two("alpha", "the object is what is opaque", table, is_given)]
    if any(fact.is_colored for fact in readable):
        return [_by_color(readable, table, is_given)]
    if _has_palette_of(readable, table):
        return [_by_color(readable, table, is_given)]
    return _by_value(readable, table, is_given)


def _has_palette_of(facts: Sequence[MaskFacts], table: Table | None) -> bool:
    """Whether the colours of palettes are those of a table."""
    if table is None or not table.colors:
        return False
    return all(fact.colors and set(fact.colors) <= set(table.colors) for fact in facts)


def _of_two(form: str, meaning: str, table: Table | None, is_given: bool) -> Coding:
    """Masks of one object and its background.

    Raises:
        DataError: the table names more than two classes, or the user one.
    """
    names = table.names if table is not None else []
    if len(names) > 2:
        raise DataError(
            f"the masks hold two values ({meaning}), but there are {len(names)} classes: "
            f"{', '.join(names[:_SHOWN])}. Which one the masks show is not stated."
        )
    settings: dict[str, Any] = {"mask_format": form} if form != "index" else {}
    classes = ["background", "object"]
    if len(names) == 1:
        classes = ["background", names[0]]
    elif len(names) == 2:
        is_turned = names[1].lower() in BACKGROUND and names[0].lower() not in BACKGROUND
        classes = names[::-1] if is_turned and not is_given else names
    if not is_given:
        settings["classes"] = classes
    elif len(names) == 1 and form != "index":
        raise DataError(
            f"the masks hold two values ({meaning}), but dataset.classes names one class. Name "
            f"both: 'dataset.classes=[background,{names[0]}]'."
        )
    return Coding(settings, f"{meaning}: class '{classes[-1]}'")


def _by_color(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> Coding:
    """Masks of colours.

    Raises:
        DataError: there are too many colours, or some that the table does not name.
    """
    colors: Counter[Color] = Counter()
    for fact in facts:
        colors.update(fact.colors or {(v, v, v): n for v, n in fact.values.items() if v < 256})
    known = table.colors if table is not None else {}
    if known:
        return _of_known_colors(colors, known, table, is_given)
    bright = [color for color in colors if max(color) > 0]
    has_black = any(max(color) <= DARK for color in colors)
    is_soft = all(f.is_soft or len(f.colors or f.values) <= 2 for f in facts)
    if has_black and (len(bright) == 1 or is_soft) and (table is None or len(table.names) <= 2):
        return _of_two("binary", "black and one colour", table, is_given)
    if is_given:
        return Coding({}, f"{len(colors)} colours")
    if len(colors) > _MOST_COLORS:
        raise DataError(
            f"the masks hold {len(colors)} or more colours and no file names those of the classes. "
            "Give them: 'dataset.classes=[{name:road,color:[128,64,128]},…]' "
            "dataset.mask_format=rgb (or rgb_nearest for masks stored as JPEG)."
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
    colors: Counter[Color], known: dict[Color, int], table: Table | None, is_given: bool
) -> Coding:
    assert table is not None
    unknown = {color: count for color, count in colors.items() if color not in known}
    form, evidence = "rgb", f"{len(colors)} colours, all of them in '{table.path}'"
    if is_given:
        evidence = f"{len(colors)} colours, all of them in dataset.classes"
    if unknown:
        far = {c: n for c, n in unknown.items() if min(_distance(c, k) for k in known) > _NEAR}
        if sum(far.values()) > (1 - _NEAR_SHARE) * colors.total() or len(far) == len(unknown):
            first = max(unknown, key=unknown.__getitem__)
            raise DataError(
                f"the masks hold {len(unknown)} colours that '{table.path or 'dataset.classes'}' "
                f"does not name, most often {list(first)} ({unknown[first]:,} px). Name its class, "
                f"or ignore it: 'dataset.ignore_colors=[{_tight(first)}]'"
            )
        form = "rgb_nearest"
        evidence = f"{len(colors)} colours, most of them near those of '{table.path}'"
    settings: dict[str, Any] = {"mask_format": form}
    if not is_given:
        settings["classes"] = [
            {"name": entry.name, "color": list(entry.color)}
            for entry in table.entries
            if entry.color is not None
        ]
    return Coding(settings, evidence)


def _by_value(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> list[Coding]:
    """Masks of numbers.

    Raises:
        DataError: no way to read them fits.
    """
    values = set[int]().union(*(fact.values for fact in facts))
    soft = [fact for fact in facts if fact.is_soft]
    if soft and all(fact.is_soft or len(fact.values) <= 2 for fact in facts):
        return [_of_two("binary", "dark and bright, blurred at the borders", table, is_given)]
    mixed = [fact for fact in facts if fact.is_soft or (fact.is_lossy and len(fact.values) > 2)]
    if mixed:
        lossy = mixed[0]
        raise DataError(
            f"mask '{lossy.path}' holds {len(lossy.values)} grey levels: it was resized with "
            "interpolation or stored as JPEG, which mixes class ids. Export the masks again as PNG."
        )
    if len(values) == 1:
        raise DataError(f"all masks hold {min(values)} alone: nothing is labelled.")
    if len(values) > MAX_CLASSES + 2:
        raise DataError(
            f"the masks hold {len(values)} values or more, {min(values)}..{max(values)}: more than "
            f"{MAX_CLASSES} classes. They may be depths, or ids of objects."
        )
    per_mask = [set(fact.values) for fact in facts]
    if len(values) == 2 and min(values) == 0 and not (table is not None and table.has_values):
        return _of_two_values(max(values), table, is_given)
    is_mixed = values == {0, 1, 255} and not any({1, 255} <= held for held in per_mask)
    if is_mixed:
        binary = _of_two("binary", "0/1 in some masks, 0/255 in others", table, is_given)
        void = _of_two("index", "0 and 1; 255 is ignored", table, is_given)
        return [binary, void]
    if table is None:
        return _without_table(values)
    return _with_table(values, table, is_given)


def _of_two_values(value: int, table: Table | None, is_given: bool) -> list[Coding]:
    if value == 1:
        if table is not None and len(table.names) > 2:
            return _with_table({0, 1}, table, is_given)
        return [_of_two("index", "ids 0 and 1", table, is_given)]
    if table is not None and value < len(table.names):
        return _with_table({0, value}, table, is_given)
    return [_of_two("binary", f"0 and {value}", table, is_given)]


def _without_table(values: set[int]) -> list[Coding]:
    """Ids whose classes no file names: classes are called after their ids."""
    label_map = {value: IGNORE_INDEX for value in values if value < 0}
    ids = sorted(value for value in values if 0 <= value != IGNORE_INDEX)
    names = [f"class_{value}" for value in ids]
    held = f"ids {_listed(ids)}, named nowhere: classes are called after them"
    void = "; 255 is ignored" if IGNORE_INDEX in values else ""
    void += f"; {_listed(sorted(label_map))} ignored" if label_map else ""
    settings: dict[str, Any] = {"classes": names}
    if ids == list(range(1, len(ids) + 1)):
        settings["reduce_zero_label"] = True
    else:
        label_map.update({v: place for place, v in enumerate(ids) if v != place})
    if label_map:
        settings["label_map"] = label_map
    if IGNORE_INDEX not in values or not set(label_map) & set(ids):
        return [Coding(settings, held + void)]
    levels = [*ids, IGNORE_INDEX]
    all_map = {v: place for place, v in enumerate(levels) if v != place}
    names = [f"class_{value}" for value in levels]
    as_class = Coding(
        {"classes": names, "label_map": {**label_map, **all_map}},
        f"values {_listed(levels)}, named nowhere: each is a class",
    )
    return [as_class] if _are_even(levels) else [as_class, Coding(settings, held + void)]


def _are_even(levels: Sequence[int]) -> bool:
    """Whether grey levels are evenly spaced, as 0, 128, 255."""
    steps = [b - a for a, b in pairwise(levels)]
    return min(steps) >= _FEWEST_STEP and max(steps) - min(steps) <= 1


def _with_table(values: set[int], table: Table, is_given: bool) -> list[Coding]:
    """Ids whose classes a file, or the user, names.

    Raises:
        DataError: the file names other ids.
    """
    ids = {value for value in values if 0 <= value != IGNORE_INDEX}
    where = f"'{table.path}'" if table.path else "dataset.classes"
    held = f"ids {_listed(sorted(ids))} of the {len(table.names)} classes in {where}"
    negative: dict[str, Any] = {}
    if any(value < 0 for value in values):
        negative = {"label_map": {v: IGNORE_INDEX for v in sorted(values) if v < 0}}
    if table.has_values and not is_given:
        return [_by_stated_value(ids, table, held, negative)]
    names, count = table.names, len(table.names)
    by_place = {**negative} if is_given else {**negative, "classes": names}
    from_one = {**by_place, "reduce_zero_label": True}
    is_background_first = names[0].lower() in BACKGROUND
    if max(ids, default=0) < count:
        direct = Coding(by_place, f"{held}, counted from 0")
        if 0 in ids or is_background_first or is_given:
            return [direct]
        return [direct, Coding(from_one, f"{held}, counted from 1")]
    if max(ids) == count and 0 not in ids:
        return [Coding(from_one, f"{held}, counted from 1; 0 is ignored")]
    if max(ids) == count and not is_background_first and not is_given:
        named = {**negative, "classes": ["background", *names]}
        return [Coding(named, f"{held}, counted from 1; 0 is the background")]
    if is_given:
        return [Coding({}, held)]  # the reader refuses them, and names the ids
    raise DataError(
        f"the masks hold the ids {_listed(sorted(ids))}, but {where} names {count} classes: "
        f"{_listed(names)}. Give the classes in the order of the ids "
        "('dataset.classes=[road,car]'), or map ids (dataset.label_map={7: 255})."
    )


def _by_stated_value(ids: set[int], table: Table, held: str, negative: dict[str, Any]) -> Coding:
    """Ids that the table states.

    Raises:
        DataError: the masks hold others.
    """
    entries = sorted(table.entries, key=lambda entry: entry.value or 0)
    stated = [entry.value or 0 for entry in entries]
    unknown = sorted(ids - set(stated))
    if unknown:
        raise DataError(
            f"the masks hold the ids {_listed(unknown)}, which '{table.path}' does not name. Add "
            f"them there, or ignore them: 'dataset.label_map={{{unknown[0]}: 255}}'"
        )
    entries = [entry for entry in entries if entry.value != IGNORE_INDEX]
    label_map = dict(negative.get("label_map", {}))
    label_map.update({e.value: place for place, e in enumerate(entries) if e.value != place})
    settings: dict[str, Any] = {"classes": [entry.name for entry in entries]}
    if label_map:
        settings["label_map"] = label_map
    return Coding(settings, f"{held}, by the stated values")


def _distance(first: Color, second: Color) -> float:
    return math.dist(first, second)


def _tight(color: Color) -> str:
    return "[" + ",".join(map(str, color)) + "]"


def _listed(items: Sequence[Any]) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return f"{shown}, … ({len(items)})" if len(items) > _SHOWN else shown
