"""Advice on ids in masks that no class has, as words of the command line."""

import shlex
from collections.abc import Collection, Sequence
from typing import Any

from segtune.classes import CLASS_LIMIT, MAX_CLASSES, ClassTable
from segtune.config.commands import word
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.reading.class_words import is_no_object

_SHOWN = 8


def advice(
    unknown: Sequence[int], values: Collection[int], config: DatasetConfig, classes: ClassTable
) -> str:
    """How masks can be read that hold ids which no class has.

    Every line states when it is right: one that ignores an id is wrong where ids count from 1.

    Args:
        unknown: ids that no class has, ascending.
        values: all that the masks hold.
    """
    if is_moved(unknown, config, classes):
        return moved_advice(unknown, config, classes)
    others = set(values) - {0}
    if 0 in values and len(others) == 1 and len(classes) <= 2:
        (value,) = others
        names = f" {_named_first(config, classes)}" if len(classes) == 1 else ""
        return (
            f"It looks like a mask of one object, 0/{value}: dataset.mask_format=binary{names} "
            f"makes 0 class 0 and {value} class 1."
        )
    if max(unknown) >= MAX_CLASSES:
        name = f"Of classes, {CLASS_LIMIT}."
    else:
        name = "Name a class for each id, in the order of the ids, in dataset.classes."
    if len(unknown) > _SHOWN:
        return name
    ids = "it" if len(unknown) == 1 else "them"
    return f"{name} '{classes.names[0]}' is id 0. To ignore {ids}: {ignoring(unknown, config)}"


def is_moved(unknown: Sequence[int], config: DatasetConfig, classes: ClassTable) -> bool:
    """Whether ids may count from 1, as where 0 is a background without a name.

    Then the last class has an id that none has where they count from 0.
    """
    is_plain = not config.label_map and not config.reduce_zero_label
    is_next = len(classes) in unknown and len(unknown) <= _SHOWN
    return is_plain and is_next and not is_no_object(classes.names[0])


def moved_advice(unknown: Sequence[int], config: DatasetConfig, classes: ClassTable) -> str:
    """The lines for ids that may count from 1, and for those that count from 0.

    Args:
        unknown: ids that no class has, ascending; one is that of the last class plus one.
    """
    last, first = len(classes), f"'{classes.names[0]}'"
    others = [value for value in unknown if value != last]
    also = f" {ignoring(others, config)}" if others else ""
    from_0 = f"ignore the rest: {ignoring(unknown, config)}" if others else f"name {last} too"
    return (
        f"'{classes.names[-1]}' is id {last - 1} here, and no class is id {last}. "
        f"If 0 is the background, name it: {_named_first(config, classes)}{also}. "
        f"If 0 is nothing and {first} is 1: dataset.reduce_zero_label=true{also}. "
        f"If {first} is 0, {from_0}."
    )


def ignoring(unknown: Sequence[int], config: DatasetConfig) -> str:
    """The word that ignores ids, beside those that are mapped already."""
    ignored = dict(config.label_map) | dict.fromkeys(unknown, 255)
    return shlex.quote(word("dataset.label_map", ignored))


def _named_first(config: DatasetConfig, classes: ClassTable) -> str:
    """The word that names the background before the classes."""
    rows: list[Any] = list(config.classes or classes.names)
    return shlex.quote(word("dataset.classes", ["background", *rows]))
