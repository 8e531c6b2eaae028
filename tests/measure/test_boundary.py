"""Boundary IoU against a case counted by hand and against SciPy's erosion."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from segtune.measure.boundary import boundary_counts, boundary_iou

SQUARE = np.zeros((10, 10), np.uint8)
SQUARE[2:8, 2:8] = 1


def test_a_square_moved_by_one_pixel_counted_by_hand():
    moved = np.roll(SQUARE, 1, 1)
    counts = boundary_counts(moved, SQUARE, 2, ratio=0.05)  # d = 1: a ring of 20 pixels each
    # the rings share the upper and the lower row but for one pixel at each end
    assert counts[:, 1].tolist() == [10, 30]
    assert boundary_iou(counts)[1] == pytest.approx(1 / 3)


def test_equal_masks_agree_and_absent_classes_have_no_iou():
    assert boundary_iou(boundary_counts(SQUARE, SQUARE, 3)) == (1.0, 1.0, None)


def test_predictions_on_ignored_pixels_change_nothing():
    target = SQUARE.copy()
    target[:, 6:] = 255
    other = np.where(target == 255, 0, SQUARE).astype(np.uint8)
    np.testing.assert_array_equal(
        boundary_counts(SQUARE, target, 2), boundary_counts(other, target, 2)
    )


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_scipys_erosion(seed):
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 60)), int(rng.integers(1, 60))
    classes = int(rng.integers(2, 150))
    prediction = rng.integers(0, classes, (height, width)).astype(np.uint8)
    target = rng.integers(0, classes, (height, width)).astype(np.uint8)
    for mask in (prediction, target):
        mask[: height // 2, : width // 2] = 1
    distance = max(1, round(0.02 * float(np.hypot(height, width))))
    counts = boundary_counts(prediction, target, classes)
    for number in range(classes):
        areas = [m == number for m in (prediction, target)]
        ours, theirs = (a & ~binary_erosion(a, np.ones((3, 3)), distance) for a in areas)
        assert counts[:, number].tolist() == [(ours & theirs).sum(), (ours | theirs).sum()]
