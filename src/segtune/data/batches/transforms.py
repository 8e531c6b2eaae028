"""Training augmentation: one affine map for image and mask, one colour map for the image.

Measured on 360x480 PNGs: warping straight into the crop costs a fraction of resizing the whole image and then cropping.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.schema import AugmentConfig
from segtune.data.batches.sampling import Sampling

_FILL = (
    124,
    116,
    104,
)  # ImageNet's mean colour: what lies outside the image, normalised to about zero
_GREY = np.array([0.299, 0.587, 0.114])
_EXACT = (
    1e-6  # of a pixel: what floating-point errors may add to a place, less than a grey level shows
)


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
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        index: int,
        epoch: int,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A view of image (h, w, 3) and mask (h, w): both at `size(epoch)`; outside the image the mask is ignored.

        Args:
            index: their place in the split that `sampling` knows.
        """
        view, shown = self._accepted(mask, index, self.size(epoch), rng)
        image = view.of_image(image)
        if self.config.sharpness:
            image = jitter_sharpness(image, self.config.sharpness, rng)
        if self.config.color_jitter:
            image = jitter_color(image, self.config.color_jitter, rng)
        return image, shown

    def _accepted(
        self, mask: NDArray[np.uint8], index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple["View", NDArray[np.uint8]]:
        """The first view that `sampling` accepts, and its mask. Only the mask is warped for the views before it."""
        tried = 1
        view = self._draw(mask, index, size, rng)
        shown = view.of_mask(mask)
        while self.sampling is not None and not self.sampling.accepts(shown, tried):
            tried += 1
            view = self._draw(mask, index, size, rng)
            shown = view.of_mask(mask)
        return view, shown

    def _draw(
        self, mask: NDArray[np.uint8], index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> "View":
        """A random zoom, flip and place, at (height, width)."""
        low, high = self.config.scale
        zoom = math.exp(rng.uniform(math.log(low), math.log(high))) if high > low else low
        flip = rng.random() < self.config.hflip
        height, width = size[0] / zoom, size[1] / zoom
        corner = (
            self.sampling.rare_place(mask, index, height, width, rng) if self.sampling else None
        )
        exact = (
            zoom == 1.0
        )  # between two pixels, every pixel of the view would be a mean of neighbours
        if corner is None:
            y, x = (
                _offset(mask.shape[0], height, rng, exact),
                _offset(mask.shape[1], width, rng, exact),
            )
        else:
            y, x = (float(math.floor(v + 0.5)) for v in corner) if exact else corner
        return View(size, zoom, y, x, flip)


@dataclass(frozen=True)
class View:
    """A window of an image, brought to a size.

    Attributes:
        size: (height, width) of the view.
        zoom: pixels of the view for one pixel of the image.
        y: upper edge of the window, in pixels of the image; negative where the window begins outside of it.
        x: left edge, likewise.
        flip: whether left and right change places.
    """

    size: tuple[int, int]
    zoom: float
    y: float
    x: float
    flip: bool

    def of_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of an image (h, w, 3), bilinear; outside of the image it is grey."""
        return image if self._is_whole(image) else self._warped(image, cv2.INTER_LINEAR, _FILL)

    def of_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of a mask (h, w), nearest neighbour; 255 wherever `of_image` interpolates with the outside."""
        if self._is_whole(mask):
            return mask
        shown = self._warped(mask, cv2.INTER_NEAREST, IGNORE_INDEX)
        for axis in (0, 1):
            place = self._places(axis)
            inside = np.flatnonzero((place >= -_EXACT) & (place <= mask.shape[axis] - 1 + _EXACT))
            first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            along = shown if axis == 0 else shown.T
            along[:first] = along[last:] = IGNORE_INDEX
        return shown

    def _is_whole(self, array: NDArray[np.uint8]) -> bool:
        return (self.zoom, self.y, self.x, self.flip) == (1.0, 0, 0, False) and array.shape[
            :2
        ] == self.size

    def _affine(self, axis: int) -> tuple[float, float]:
        """(step, start): pixel t of the view along an axis lies at step * t + start in the image."""
        step, corner = 1 / self.zoom, self.y if axis == 0 else self.x
        if axis == 1 and self.flip:
            step, corner = -step, corner + self.size[1] / self.zoom
        return step, corner + 0.5 * step - 0.5  # pixel centres lie at 0.5

    def _places(self, axis: int) -> NDArray[np.float64]:
        """Where the image is read for each row (axis 0) or column (axis 1) of the view."""
        step, start = self._affine(axis)
        return np.asarray(step * np.arange(self.size[axis]) + start, np.float64)

    def _warped(
        self, array: NDArray[np.uint8], method: int, outside: int | tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        row_step, row_start = self._affine(0)
        column_step, column_start = self._affine(1)
        to_source = np.array([[column_step, 0, column_start], [0, row_step, row_start]])
        flags = method | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(array, to_source, self.size[::-1], flags=flags, borderValue=outside),
            np.uint8,
        )


def jitter_sharpness(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Fine detail, what a Gaussian of 0.8 pixels takes away, weakened or strengthened by up to `amount` of itself.

    A zoom interpolates, and so blurs, every view that is trained on; images that are segmented at their own size are
    not blurred. Without this, a net takes their texture for another class (LOG.md).
    """
    factor = float(rng.uniform(-amount, amount))
    blurred = cv2.GaussianBlur(image, (3, 3), 0.8)
    return np.asarray(cv2.addWeighted(image, 1.0 + factor, blurred, -factor, 0.0), np.uint8)


def jitter_color(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation changed by a factor in 1 ± amount each, as one affine map of the colours."""
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3)
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    offset = 127.0 * (1 - contrast) * brightness
    matrix = np.concatenate([mix * brightness * contrast, np.full((3, 1), offset)], axis=1)
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def _offset(available: int, window: float, rng: np.random.Generator, exact: bool) -> float:
    """Where a window starts: anywhere inside the image, or around it where the window is larger.

    Args:
        exact: only between two pixels, where the window holds whole pixels.
    """
    slack = available - window
    low, high = min(0.0, slack), max(0.0, slack)
    if exact:
        return float(rng.integers(int(low), int(high), endpoint=True))
    return float(rng.uniform(low, high)) if slack else 0.0
