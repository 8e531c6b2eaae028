"""Evidence of a split, counted by hand, and its small pictures for reports."""

import numpy as np
import pytest

from segtune.classes import ClassTable
from segtune.data.batches.decoded import Decoded
from segtune.tasks.evidence import Comparison, SplitFacts, collect_evidence, shrink


@pytest.mark.parametrize("width", [480, 640, 500, 960, 321, 1000])
def test_small_masks_match_small_images(width):
    """The image is a ramp of positions; its area average is the one that the mask must show."""
    positions = np.arange(width, dtype=np.float64)
    image = np.repeat((positions * 255 / width)[None, :, None], 3, axis=2).repeat(
        width // 2, axis=0
    )
    mask = (np.arange(width) * 255 // width).astype(np.uint8)[None].repeat(width // 2, axis=0)
    shrunk = shrink(mask).astype(int)
    centres = (np.arange(shrunk.shape[1]) + 0.5) * width / shrunk.shape[1] - 0.5
    seen = shrink(np.rint(image).astype(np.uint8))
    assert seen.shape[:2] == shrunk.shape and max(shrunk.shape) == 320
    np.testing.assert_allclose(seen[5, :, 0], centres * 255 / width, atol=1.0)
    for label, centre in zip(shrunk[5], centres, strict=True):
        nearest = (int(centre + 0.5 - 1e-9), int(centre + 0.5 + 1e-9))  # two, if both are as near
        assert label in [pixel * 255 // width for pixel in nearest]


@pytest.mark.parametrize("unit", ["pixel", "region"])
def test_evidence_counts_each_image_in_its_place_and_ignores_255(unit):
    truth = np.array([[0, 1], [1, 255]], np.uint8)
    predicted = np.array([[0, 1], [0, 0]], np.uint8)
    confidence = np.array([[0.5, 0.95], [0.95, 0.99]], np.float32)
    ignored = np.full((2, 2), 255, np.uint8)
    split = Decoded(("x", "y"), [np.zeros((2, 2, 3), np.uint8)] * 2, [truth, ignored], "f")
    second = Comparison(1, predicted, confidence, ignored, predicted)
    first = Comparison(0, predicted, confidence, truth, predicted)
    facts = SplitFacts(dataset="d", groups=["g", "h"])
    classes = ClassTable.parse(["a", "b"])
    evidence = collect_evidence([second, first], split, classes, facts, unit)
    assert evidence.matrices.tolist() == [[[1, 0], [1, 1]], [[0, 0], [0, 0]]]  # rows are targets
    assert evidence.disputed.tolist() == [1 / 3, 0.0]  # one sure error among three pixels
    assert evidence.calibration.pixels.sum() == 3 and evidence.outlines.any() == (unit == "pixel")
    assert set(evidence.masks) == {"x", "y"} and evidence.groups == ("g", "h")
    assert (evidence.origin.dataset, evidence.origin.unit) == ("d", unit)
