"""Decide how masks hold their classes, from what all of them hold and from a table of classes."""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from segtune.classes import IGNORE_INDEX, MAX_CLASSES
from segtune.config.commands import word
from segtune.data.proposal.color_coding import by_color
from segtune.data.proposal.interpolated import (
    INTERPOLATED,
    interpolation_in,
    refuse_values,
    with_thin_classes,
)
from segtune.data.proposal.scan import BRIGHT, DARK, MaskFacts
from segtune.data.proposal.tables import Table
from segtune.data.proposal.two_values import Coding, of_two, with_remark
from segtune.data.reading.blending import Interpolation
from segtune.data.reading.class_words import is_no_object, is_void
from segtune.errors import DataError

_FEWEST_STEP = 10  # grey levels, evenly spaced from 0, that stand for classes
_VOID_OF_16_BITS = 65535  # marks pixels without data, unless it is the last of even steps
_SHOWN = 8


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
    hidden = [fact for fact in readable if fact.is_hidden]
    if hidden and all(fact.is_hidden or fact.is_blank for fact in readable):
        ways = [of_two("alpha", "the object is what is opaque", table, is_given)]
    elif any(fact.is_colored for fact in readable) or _has_palette_of(readable, table):
        ways = [by_color(readable, table, is_given)]
    elif hidden:
        raise DataError(
            f"{len(hidden)} of {len(readable)} masks hold their object in the opacity, as "
            f"'{hidden[0].path}', and the others in their values. Store all of them in one way; "
            "dataset.mask_format=alpha reads what is opaque as class 1."
        )
    else:
        ways = _by_value(readable, table, is_given)
    return [with_remark(way, readable) for way in ways]


def _has_palette_of(facts: Sequence[MaskFacts], table: Table | None) -> bool:
    """Whether the colours of palettes are those of a table."""
    if table is None or not table.colors:
        return False
    return all(fact.colors and set(fact.colors) <= set(table.colors) for fact in facts)


def _by_value(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> list[Coding]:
    """Masks of numbers.

    Raises:
        DataError: no way to read them fits.
    """
    values = set[int]().union(*(fact.values for fact in facts))
    lossy = [fact for fact in facts if fact.is_lossy and len(fact.values) > 2]
    if lossy and all(fact.is_soft or len(fact.values) <= 2 for fact in facts):
        return [of_two("binary", "dark and bright, stored as JPEG", table, is_given)]
    if lossy:
        raise DataError(
            f"mask '{lossy[0].path}' holds {len(lossy[0].values)} grey levels: it was stored as "
            "JPEG, which mixes class ids. Export the masks again as PNG."
        )
    blend = interpolation_in(facts, _possible_ids(values, table))
    if blend is not None and blend.is_certain:
        return [_interpolated(blend, facts, table, is_given)]
    ways = _as_ids(facts, values, table, is_given)
    return ways if blend is None else [with_thin_classes(way, blend, table) for way in ways]


def _as_ids(
    facts: Sequence[MaskFacts], values: set[int], table: Table | None, is_given: bool
) -> list[Coding]:
    """Masks of numbers that are ids, or one object.

    Raises:
        DataError: no way to read them fits.
    """
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
        binary = of_two("binary", "0/1 in some masks, 0/255 in others", table, is_given)
        void = of_two("index", "0 and 1; 255 is ignored", table, is_given)
        return [binary, void]
    if table is None:
        return _without_table(values)
    return _with_table(values, table, is_given)


def _interpolated(
    blend: Interpolation, facts: Sequence[MaskFacts], table: Table | None, is_given: bool
) -> Coding:
    """Masks of two values, of which each pixel takes the nearer one.

    Raises:
        DataError: there are more values, so that borders would be labelled wrongly.
    """
    low, high = blend.levels[0], blend.levels[-1]
    is_dark_and_bright = low <= DARK and high >= BRIGHT
    if len(blend.levels) > 2 or high > 255 or (is_given and not is_dark_and_bright):
        refuse_values(blend, table, _ways_as_ids(facts, table, is_given))
    held = f"{low} and {high}, {INTERPOLATED}"
    if is_dark_and_bright:
        return of_two("binary", held, table, is_given)
    coding = of_two("rgb_nearest", held, table, is_given)
    names, colors = coding.settings["classes"], [[low] * 3, [high] * 3]
    rows = [{"name": n, "color": c} for n, c in zip(names, colors, strict=True)]
    return Coding({**coding.settings, "classes": rows}, f"{coding.evidence}; the nearer one counts")


def _ways_as_ids(facts: Sequence[MaskFacts], table: Table | None, is_given: bool) -> list[Coding]:
    """The ways to read masks as ids; none where these do not fit."""
    try:
        values = set[int]().union(*(fact.values for fact in facts))
        return _as_ids(facts, values, table, is_given)
    except DataError:
        return []


def _possible_ids(values: set[int], table: Table | None) -> set[int]:
    """The values that may be ids of classes: those of a table, or ids without a gap."""
    if table is not None:
        stated = {entry.value for entry in table.entries if entry.value is not None}
        return stated if table.has_values else set(range(len(table.names) + 1))
    ids = sorted(value for value in values if 0 <= value != IGNORE_INDEX)
    return set(ids) if ids and ids[-1] - ids[0] < len(ids) and ids[0] <= 1 else set()


def _of_two_values(value: int, table: Table | None, is_given: bool) -> list[Coding]:
    if value == 1:
        if table is not None and len(table.names) > 2:
            return _with_table({0, 1}, table, is_given)
        return [of_two("index", "ids 0 and 1", table, is_given)]
    if table is not None and value < len(table.names):
        return _with_table({0, value}, table, is_given)
    return [of_two("binary", f"0 and {value}", table, is_given)]


def _without_table(values: set[int]) -> list[Coding]:
    """Ids whose classes no file names: classes are called after their ids."""
    is_void = _VOID_OF_16_BITS in values and not _are_even(sorted(values))
    no_class = {value for value in values if value < 0 or (is_void and value == _VOID_OF_16_BITS)}
    label_map = dict.fromkeys(sorted(no_class), IGNORE_INDEX)
    ids = sorted(values - no_class - {IGNORE_INDEX})
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
    is_background_first = is_no_object(names[0])
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
    unknown = [value for value in sorted(ids) if value >= count]
    ignoring = _ignoring_ids(names, negative.get("label_map", {}), unknown)
    raise DataError(
        f"the masks hold the ids {_listed(sorted(ids))}, but {where} names {count} classes: "
        f"{_listed(names)}. Give the classes in the order of the ids, "
        f"'dataset.classes=[road,car]'. If '{names[0]}' is 0, '{names[-1]}' is {count - 1}, and "
        f"the other ids are to be ignored: {ignoring}"
    )


def _by_stated_value(ids: set[int], table: Table, held: str, negative: dict[str, Any]) -> Coding:
    """Ids that the table states.

    Raises:
        DataError: the masks hold others.
    """
    entries = sorted(table.entries, key=lambda entry: entry.value or 0)
    unknown = sorted(ids - {entry.value for entry in entries})
    entries = [e for e in entries if e.value != IGNORE_INDEX or not is_void(e.name)]
    names = [entry.name for entry in entries]
    label_map = dict(negative.get("label_map", {}))
    label_map.update({e.value: place for place, e in enumerate(entries) if e.value != place})
    if unknown:
        raise DataError(
            f"the masks hold the ids {_listed(unknown)}, which '{table.path}' does not name. Add "
            f"them there, or ignore them: {_ignoring_ids(names, label_map, unknown)}"
        )
    settings: dict[str, Any] = {"classes": names}
    if label_map:
        settings["label_map"] = label_map
    return Coding(settings, f"{held}, by the stated values")


def _ignoring_ids(names: list[str], label_map: dict[int, int], unknown: Sequence[int]) -> str:
    """The words that name the classes of a table and ignore other ids."""
    ignored = {**label_map, **dict.fromkeys(unknown, IGNORE_INDEX)}
    return shlex.join([word("dataset.classes", names), word("dataset.label_map", ignored)])


def _listed(items: Sequence[Any]) -> str:
    shown = ", ".join(str(item) for item in items[:_SHOWN])
    return f"{shown}, … ({len(items)})" if len(items) > _SHOWN else shown
