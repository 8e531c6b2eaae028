"""Masks of two values: an object and its background."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from segtune.data.proposal.scan import MaskFacts
from segtune.data.proposal.tables import Table
from segtune.data.reading.class_words import is_no_object
from segtune.errors import DataError

_LARGE = 0.75  # share of the pixels from which the object may be what is dark
_SHOWN = 8


@dataclass(frozen=True)
class Coding:
    """One way to read masks.

    Attributes:
        settings: keys of the dataset's config.
        evidence: what the masks hold, and what it was taken for.
        has_object: class 1 is an object, class 0 its background.
    """

    settings: dict[str, Any]
    evidence: str
    has_object: bool = False


def of_two(form: str, meaning: str, table: Table | None, is_given: bool) -> Coding:
    """Masks of one object and its background.

    Raises:
        DataError: the table names more than two classes, or the user one.
    """
    names = table.names if table is not None else []
    if table is not None and table.has_values:
        names = [entry.name for entry in sorted(table.entries, key=lambda e: e.value or 0)]
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
        is_turned = is_no_object(names[1]) and not is_no_object(names[0])
        classes = names[::-1] if is_turned and not is_given else names
    if not is_given:
        settings["classes"] = classes
    elif len(names) == 1 and form != "index":
        raise DataError(
            f"the masks hold two values ({meaning}), but dataset.classes names one class. Name "
            f"both: 'dataset.classes=[background,{names[0]}]'."
        )
    has_object = not is_no_object(classes[-1])
    if form == "index":  # else the ids may be two classes of equal rank
        has_object &= is_no_object(classes[0])
    return Coding(settings, f"{meaning}: class '{classes[-1]}'", has_object)


def with_remark(coding: Coding, facts: Sequence[MaskFacts]) -> Coding:
    """The way to read masks of two values, with the line that inverts them where most is object."""
    form = coding.settings.get("mask_format", "index")
    if form not in ("binary", "alpha", "index") or not coding.has_object:
        return coding
    share = sum(fact.bright_share for fact in facts) / len(facts)
    if share < _LARGE:
        return coding
    part = "transparent" if form == "alpha" else "dark"
    return replace(
        coding,
        evidence=f"{coding.evidence}. It covers {share:.0%} of the pixels: if the object is what "
        f"is {part}, add dataset.mask_format={form} 'dataset.label_map={{0: 1, 1: 0}}'",
    )
