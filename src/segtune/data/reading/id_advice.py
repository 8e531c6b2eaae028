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
        return background_advice(config, classes)
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
    return f"{name} To ignore {ids}: {ignoring(unknown, config)}"


def is_moved(unknown: Sequence[int], config: DatasetConfig, classes: ClassTable) -> bool:
    """Whether ids exceed the classes by one, as where 0 is a background without a name."""
    is_plain = not config.label_map and not config.reduce_zero_label
    return is_plain and list(unknown) == [len(classes)] and not is_no_object(classes.names[0])


def background_advice(config: DatasetConfig, classes: ClassTable) -> str:
    """The lines for ids that exceed the classes by one."""
    last = len(classes)
    return (
        f"The ids are one more than the classes. If 0 is the background, name it: "
        f"{_named_first(config, classes)}. If 0 is nothing and '{classes.names[0]}' is 1: "
        f"dataset.reduce_zero_label=true. If '{classes.names[0]}' is 0, name {last} too."
    )


def ignoring(unknown: Sequence[int], config: DatasetConfig) -> str:
    """The word that ignores ids, beside those that are mapped already."""
    ignored = dict(config.label_map) | dict.fromkeys(unknown, 255)
    return shlex.quote(word("dataset.label_map", ignored))


def _named_first(config: DatasetConfig, classes: ClassTable) -> str:
    """The word that names the background before the classes."""
    rows: list[Any] = list(config.classes or classes.names)
    return shlex.quote(word("dataset.classes", ["background", *rows]))
