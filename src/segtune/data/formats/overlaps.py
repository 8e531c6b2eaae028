"""How much of each class lies under other areas, and which order of painting would show it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats.areas import ClassRow, DrawnArea, paint

_ORDERS = ("largest_first", "file", "file_reversed")
_TOLD_SHARE = 0.05  # of a class's pixels: less is what overlapping outlines hide in any order
_LOST_SHARE = 0.5  # of a class's pixels, from which a class is nearly lost
_NAMED = 5  # classes in a note

Counts = NDArray[np.int64]
"""Pixels, (2 + orders, C): of the areas of each class; of them hidden as painted; hidden in each
other order."""


def hidden_pixels(
    drawn: Sequence[DrawnArea],
    mask: NDArray[np.uint8],
    classes: Sequence[ClassRow],
    options: AnnotationsConfig,
) -> Counts:
    """Count the pixels of each class's areas, and those that show another class.

    Args:
        mask: class ids as painted, (H, W).
    """
    counts = no_pixels(len(classes))
    covered = _covered(drawn, classes)
    for class_id, bits in covered.items():
        counts[0, class_id] = bits.sum()
        counts[1:, class_id] = (bits & (mask != class_id)).sum()
    if counts[1].any():
        for row, order in enumerate(_ORDERS, 2):
            reordered = options.model_copy(update={"order": order})
            other, _ = paint(drawn, (mask.shape[0], mask.shape[1]), classes, reordered)
            for class_id, bits in covered.items():
                counts[row, class_id] = (bits & (other != class_id)).sum()
    return counts


def no_pixels(num_classes: int) -> Counts:
    """Counts of an image without areas."""
    return np.zeros((2 + len(_ORDERS), num_classes), np.int64)


def _covered(
    drawn: Sequence[DrawnArea], classes: Sequence[ClassRow]
) -> dict[int, NDArray[np.bool_]]:
    """Class id -> the pixels of all its areas."""
    ids = {str(row["name"]): index for index, row in enumerate(classes)}
    covered: dict[int, NDArray[np.bool_]] = {}
    for area, bits in drawn:
        if area.concept is not None and not area.crowd:
            class_id = ids[area.concept]
            covered[class_id] = covered[class_id] | bits if class_id in covered else bits
    return covered


def overlap_note(counts: Counts, classes: Sequence[ClassRow], order: str) -> list[str]:
    """The note on classes that other areas cover, where another order shows more of them.

    A car on a road hides a part of it in every sensible order: that is no news.

    Args:
        counts: the sum over images.
        order: `annotations.order` as painted.
    """
    shares = counts[1:] / np.maximum(counts[0], 1)
    best = int(shares[1:].max(1).argmin())
    worst, least = float(shares[0].max()), float(shares[1 + best].max())
    if worst - least < _TOLD_SHARE and worst < _LOST_SHARE:
        return []
    hidden = [int(c) for c in np.argsort(-shares[0]) if shares[0, c] >= _TOLD_SHARE]
    names = [f"{shares[0, c]:.0%} of '{classes[c]['name']}'" for c in hidden[:_NAMED]]
    more = f" and parts of {len(hidden) - _NAMED} classes more" if len(hidden) > _NAMED else ""
    text = f"areas overlap: with dataset.annotations.order={order}, those on top cover "
    text += f"{', '.join(names)}{more}"
    if worst - least >= _TOLD_SHARE:
        text += f"; with dataset.annotations.order={_ORDERS[best]} at most {least:.0%} of a class"
    return [text]
