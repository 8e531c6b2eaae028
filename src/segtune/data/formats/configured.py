"""The classes of annotations as `dataset.classes` names and orders them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import ClassRow, LabelledImage
from segtune.data.reading.class_words import is_background
from segtune.errors import DataError


def configured_classes(
    annotated: Sequence[ClassRow], config: DatasetConfig
) -> tuple[list[ClassRow], list[int]]:
    """Class rows with the names, order, colours and finer labels of `dataset.classes`.

    Returns:
        The rows, and for each the id that the annotations give its class.

    Raises:
        DataError: `dataset.classes` names other classes.
    """
    names = [str(row["name"]) for row in annotated]
    if config.classes is None:
        return list(annotated), list(range(len(names)))
    configured = ClassTable.parse(config.classes).to_json()
    configured_names = [str(row["name"]) for row in configured]
    if sorted(names) == sorted(configured_names):
        old_ids = [names.index(name) for name in configured_names]
        rows = zip(configured, old_ids, strict=True)
        return [{**annotated[old], **_without_empty(row)} for row, old in rows], old_ids
    if names == ["background", "object"] and len(configured) == 2:
        # the background is the class that is called so, else the first
        old_ids = [1, 0] if is_background(configured_names[1]) else [0, 1]
        rows = zip(configured, old_ids, strict=True)
        return [{**annotated[old], **row, "annotated_as": names[old]} for row, old in rows], old_ids
    raise DataError(
        f"dataset.classes names {', '.join(configured_names)}, but the annotations name "
        f"{', '.join(names)}. Leave dataset.classes out, or give the same names in any order."
    )


@dataclass(frozen=True)
class ReorderedMask:
    """A mask with the ids of the configured classes.

    Attributes:
        old_ids: for each class the id that the stored mask gives it.
    """

    mask: Callable[[], NDArray[np.uint8]]
    old_ids: tuple[int, ...]

    def __call__(self) -> NDArray[np.uint8]:
        new_ids = np.arange(256, dtype=np.uint8)
        new_ids[list(self.old_ids)] = np.arange(len(self.old_ids))
        return new_ids[self.mask()]


def reordered(images: Sequence[LabelledImage], old_ids: Sequence[int]) -> list[LabelledImage]:
    """Images whose masks hold ids in the order of the configured classes."""
    if list(old_ids) == sorted(old_ids):
        return list(images)
    return [
        image
        if image.mask is None
        else replace(image, mask=ReorderedMask(image.mask, tuple(old_ids)))
        for image in images
    ]


def _without_empty(row: ClassRow) -> ClassRow:
    return {key: value for key, value in row.items() if value}
