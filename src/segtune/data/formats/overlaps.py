"""How much of each class lies under other areas, and which order of painting would show it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats.areas import ClassRow, DrawnArea, paint

_ORDERS = ("largest_first", "file", "file_reversed")
_TOLD_SHARE = 0.05  # of a class's pixels: less is what overlapping outlines hide in any order
_LOST_SHARE = 0.5  # of a class's pixels, from which a class is nearly lost
_CONTRADICTED_SHARE = 0.01  # of a class's pixels: less may be soft edges of masks
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
    counts[:2] = _covered_and_hidden(drawn, mask, classes)
    if counts[1].any():
        for row, order in enumerate(_ORDERS, 2):
            reordered = options.model_copy(update={"order": order})
            other, _ = paint(drawn, (mask.shape[0], mask.shape[1]), classes, reordered)
            counts[row] = _covered_and_hidden(drawn, other, classes)[1]
    return counts


def no_pixels(num_classes: int) -> Counts:
    """Counts of an image without areas."""
    return np.zeros((2 + len(_ORDERS), num_classes), np.int64)


def _covered_and_hidden(
    drawn: Sequence[DrawnArea], mask: NDArray[np.uint8], classes: Sequence[ClassRow]
) -> Counts:
    """Pixels of the areas of each class, and those of them that show another class, (2, C)."""
    by_name: dict[str, list[DrawnArea]] = {}
    for one in drawn:
        if one.area.concept is not None and not one.area.crowd:
            by_name.setdefault(one.area.concept, []).append(one)
    counts = np.zeros((2, len(classes)), np.int64)
    ids = {str(row["name"]): index for index, row in enumerate(classes)}
    for name, areas in by_name.items():
        covered, class_id = np.zeros(mask.shape, bool), ids[name]
        for one in areas:
            covered[one.window] |= one.bits
        counts[:, class_id] = covered.sum(), (covered & (mask != class_id)).sum()
    return counts


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
    hidden = _hidden_words(shares[0], classes, _TOLD_SHARE)
    text = f"areas overlap: with dataset.annotations.order={order}, those on top cover "
    text += hidden
    if worst - least >= _TOLD_SHARE:
        text += f"; with dataset.annotations.order={_ORDERS[best]} at most {least:.0%} of a class"
    return [text]


def contradiction_note(counts: Counts, classes: Sequence[ClassRow], order: str) -> list[str]:
    """The note on pixels that two masks give different classes, where each pixel has just one.

    Args:
        counts, order: see `overlap_note`.
    """
    shares = counts[1] / np.maximum(counts[0], 1)
    if shares.max() < _CONTRADICTED_SHARE:
        return []
    hidden = _hidden_words(shares, classes, _CONTRADICTED_SHARE)
    return [
        f"masks of different classes hold the same pixels: of {hidden}, the mask on top counts "
        f"(dataset.annotations.order={order})"
    ]


def _hidden_words(shares: NDArray[np.float64], classes: Sequence[ClassRow], least: float) -> str:
    """The shares of the classes of which at least a share is hidden, the largest first."""
    hidden = [int(c) for c in np.argsort(-shares) if shares[c] >= least]
    names = [f"{shares[c]:.0%} of '{classes[c]['name']}'" for c in hidden[:_NAMED]]
    more = f" and parts of {len(hidden) - _NAMED} classes more" if len(hidden) > _NAMED else ""
    return ", ".join(names) + more
