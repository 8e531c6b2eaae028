"""Small pictures for reports: masks match their images."""

import numpy as np
import pytest

from segtune.tasks.evidence import shrink


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
