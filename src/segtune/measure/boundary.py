"""Boundary IoU (Cheng et al., 2021, arXiv 2103.16562): how well the outlines of areas agree.

Of both masks only the pixels within a distance d of their own outline are compared, per class. As
for mIoU, intersections and unions are summed over all images before the division. d is 2 % of the
image's diagonal, as in the paper.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX

DILATION_RATIO = 0.02


def boundary_counts(
    prediction: NDArray[np.uint8],
    target: NDArray[np.uint8],
    num_classes: int,
    ratio: float = DILATION_RATIO,
) -> NDArray[np.int64]:
    """Pixels in the intersection and the union of the outlines of one image, (2, C) int64.

    Pixels whose target is 255 do not count, and an area has no outline along them, since their
    class is not known.

    Args:
        prediction: class ids (H, W).
        target: class ids (H, W), 255 for ignored.
        ratio: of d to the image's diagonal; d is at least one pixel.
    """
    distance = max(1, round(ratio * float(np.hypot(*target.shape))))
    unknown = target == IGNORE_INDEX
    counts = np.zeros((2, num_classes), np.int64)
    for number in np.union1d(np.unique(prediction), np.unique(target)):
        if number < num_classes:
            predicted = _outline((prediction == number) | unknown, distance) & ~unknown
            true = _outline((target == number) | unknown, distance) & ~unknown
            counts[0, number] = np.count_nonzero(predicted & true)
            counts[1, number] = np.count_nonzero(predicted | true)
    return counts


def boundary_iou(counts: NDArray[np.int64]) -> tuple[float | None, ...]:
    """IoU per class, in [0, 1], from summed counts (2, C); None where neither mask has the class.

    >>> boundary_iou(np.array([[1, 0], [4, 0]]))
    (0.25, None)
    """
    return tuple(float(i / u) if u else None for i, u in counts.T)


def _outline(area: NDArray[np.bool_], distance: int) -> NDArray[np.bool_]:
    """Pixels of an area within a chessboard distance of its outside, where the image also ends."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    inner = cv2.erode(
        area.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
    )
    return np.asarray(area & (inner == 0))
