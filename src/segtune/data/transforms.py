"""Training augmentation: one affine map for image and mask, one colour map for the image.

Measured on 360x480 PNGs: warping straight into the crop costs a fraction of resizing the whole image and then cropping.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.sampling import Sampling
from segtune.settings import AugmentConfig

_FILL = (124, 116, 104)  # ImageNet's mean colour: what lies outside the image, normalised to about zero
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Augment:
    """Draws a random view of an image and its mask.

    Attributes:
        config: what may vary, and by how much.
        whole: (height, width) of a view where the config asks for no crops.
        num_epochs: over which crops grow.
        sampling: where crops lie; None for anywhere.
    """

    config: AugmentConfig
    whole: tuple[int, int]
    num_epochs: int
    sampling: Sampling | None = None

    def size(self, epoch: int) -> tuple[int, int]:
        """(height, width) of the views of an epoch: crops grow in steps of 32, so that few shapes occur.

        >>> config = AugmentConfig(crop_size=256, crop_start=128, crop_growth=0.5)
        >>> [Augment(config, (360, 480), 10).size(e)[0] for e in (0, 2, 5, 9)]
        [128, 160, 256, 256]
        """
        full = self.config.crop_size
        if full is None:
            return self.whole
        start = self.config.crop_start or full
        grown = min(1.0, epoch / max(1.0, self.num_epochs * self.config.crop_growth))
        side = full if grown >= 1.0 else start + math.floor((full - start) * grown / 32) * 32
        return side, side

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], index: int, epoch: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A view of image (h, w, 3) and mask (h, w): both at `size(epoch)`; outside the image the mask is ignored.

        Args:
            index: their place in the split that `sampling` knows.
        """
        size = self.size(epoch)
        tried, shown = 1, self._view(image, mask, index, size, rng)
        while self.sampling is not None and not self.sampling.accepts(shown[1], tried):
            tried, shown = tried + 1, self._view(image, mask, index, size, rng)
        image, mask = shown
        if self.config.sharpness:
            image = jitter_sharpness(image, self.config.sharpness, rng)
        if self.config.color_jitter:
            image = jitter_color(image, self.config.color_jitter, rng)
        return image, mask

    def _view(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        index: int,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A random zoom, flip and place of both, at (height, width)."""
        height, width = size
        low, high = self.config.scale
        zoom = math.exp(rng.uniform(math.log(low), math.log(high))) if high > low else low
        flip = rng.random() < self.config.hflip
        place = self.sampling.rare_place(mask, index, height / zoom, width / zoom, rng) if self.sampling else None
        y, x = place or (_offset(image.shape[0], height / zoom, rng), _offset(image.shape[1], width / zoom, rng))
        if (zoom, x, y, flip) == (1.0, 0.0, 0.0, False) and image.shape[:2] == (height, width):
            return image, mask
        step = -1 / zoom if flip else 1 / zoom
        start = x + (width / zoom if flip else 0.0)
        # pixel centres: source = (target + 0.5) / zoom + corner - 0.5
        to_source = np.array([[step, 0, start + 0.5 * step - 0.5], [0, 1 / zoom, y + 0.5 / zoom - 0.5]])
        return (
            _warped(image, to_source, size, cv2.INTER_LINEAR, _FILL),
            _warped(mask, to_source, size, cv2.INTER_NEAREST, IGNORE_INDEX),
        )


def jitter_sharpness(image: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Fine detail, what a Gaussian of 0.8 pixels takes away, weakened or strengthened by up to `amount` of itself.

    A zoom interpolates, and so blurs, every view that is trained on; images that are segmented at their own size are
    not blurred. Without this, a net takes their texture for another class (LOG.md).
    """
    factor = float(rng.uniform(-amount, amount))
    blurred = cv2.GaussianBlur(image, (3, 3), 0.8)
    return np.asarray(cv2.addWeighted(image, 1.0 + factor, blurred, -factor, 0.0), np.uint8)


def jitter_color(image: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation changed by a factor in 1 ± amount each, as one affine map of the colours."""
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3)
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    offset = 127.0 * (1 - contrast) * brightness
    matrix = np.concatenate([mix * brightness * contrast, np.full((3, 1), offset)], axis=1)
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def _warped(
    array: NDArray[np.uint8],
    to_source: NDArray[np.float64],
    size: tuple[int, int],
    how: int,
    outside: int | tuple[int, int, int],
) -> NDArray[np.uint8]:
    """A view of (height, width), whose pixels `to_source` (2, 3) maps to those of the array."""
    flags = how | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(array, to_source, size[::-1], flags=flags, borderValue=outside), np.uint8)


def _offset(available: int, window: float, rng: np.random.Generator) -> float:
    """Where a window starts: anywhere inside the image, or around it where the window is larger."""
    slack = available - window
    return float(rng.uniform(min(0.0, slack), max(0.0, slack))) if slack else 0.0
