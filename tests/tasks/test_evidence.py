"""What evidence keeps for reports: small pictures that lie over each other."""

import numpy as np
import pytest

from segtune.tasks.pixel_evidence import small


@pytest.mark.parametrize("width", [480, 640, 500, 960, 321, 1000])
def test_small_masks_lie_where_small_images_do(width):
    """A ramp's area average is the centre of the area, so an image of places says which pixel the mask should show."""
    places = np.arange(width, dtype=np.float64)
    image = np.repeat((places * 255 / width)[None, :, None], 3, axis=2).repeat(width // 2, axis=0)
    mask = (np.arange(width) * 255 // width).astype(np.uint8)[None].repeat(width // 2, axis=0)
    shrunk = small(mask).astype(int)
    centres = (np.arange(shrunk.shape[1]) + 0.5) * width / shrunk.shape[1] - 0.5
    seen = small(np.rint(image).astype(np.uint8))
    assert seen.shape[:2] == shrunk.shape and max(shrunk.shape) == 320
    np.testing.assert_allclose(seen[5, :, 0], centres * 255 / width, atol=1.0)
    nearest = [
        (int(centre + 0.5 - 1e-9), int(centre + 0.5 + 1e-9)) for centre in centres
    ]  # both, where two are as near
    for got, pixels in zip(shrunk[5], nearest, strict=True):
        assert got in [p * 255 // width for p in pixels]
