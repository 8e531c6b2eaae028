"""Training augmentation: one affine map for image and mask, one colour map for the image.

An image is warped directly into the crop, which takes a fraction of the time of resizing the whole
image before cropping it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.schema import AugmentConfig
from segtune.data.batches.sampling import Sampling
from segtune.errors import ConfigError
from segtune.plugins.registry import find

_FILL = (124, 116, 104)  # ImageNet's mean colour outside the image: normalised, about 0
_GREY = np.array([0.299, 0.587, 0.114])
_TOLERANCE = 1e-6  # of a pixel: above floating-point errors, below the effect of one grey level


@dataclass(frozen=True)
class Augment:
    """Draws a random view of an image and its mask.

    Attributes:
        config: the random changes and their ranges.
        full_size: (height, width) of a view without crops.
        num_epochs: of the run, over which crops grow.
        sampling: of the positions of crops; None for any position.
    """

    config: AugmentConfig
    full_size: tuple[int, int]
    num_epochs: int
    sampling: Sampling | None = None

    def size(self, epoch: int) -> tuple[int, int]:
        """(height, width) of the views of an epoch.

        Crops grow in steps of 32 pixels, so that few shapes occur.

        >>> config = AugmentConfig(crop_size=256, crop_start=128, crop_growth=0.5)
        >>> [Augment(config, (360, 480), 10).size(e)[0] for e in (0, 2, 5, 9)]
        [128, 160, 256, 256]
        """
        full = self.config.crop_size
        if full is None:
            return self.full_size
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
        """A view of image (h, w, 3) and mask (h, w) at `size(epoch)`.

        Pixels outside of the image are ignored.

        Args:
            index: of the image in the split.
        """
        view, view_mask = self._accepted_view(mask, index, self.size(epoch), rng)
        image = view.warp_image(image)
        if self.config.sharpness:
            image = jitter_sharpness(image, self.config.sharpness, rng)
        if self.config.color_jitter:
            image = jitter_color(image, self.config.color_jitter, rng)
        for part in self._parts:
            image, view_mask = part(image, view_mask, rng)
        return image, view_mask

    @cached_property
    def _parts(self) -> list["PluginAugmentation"]:
        """The augmentations of plugins."""
        return [PluginAugmentation(name, values) for name, values in self.config.parts.items()]

    def _accepted_view(
        self, mask: NDArray[np.uint8], index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple["View", NDArray[np.uint8]]:
        """The first view that `sampling` accepts, and its mask; no rejected image is warped."""
        tries = 0
        while True:
            tries += 1
            view = self._draw(mask, index, size, rng)
            view_mask = view.warp_mask(mask)
            if self.sampling is None or self.sampling.accepts(view_mask, tries):
                return view, view_mask

    def _draw(
        self, mask: NDArray[np.uint8], index: int, size: tuple[int, int], rng: np.random.Generator
    ) -> "View":
        """Draw zoom, flip and place of a view of `size` (height, width)."""
        low, high = self.config.scale
        zoom = math.exp(rng.uniform(math.log(low), math.log(high))) if high > low else low
        flip = rng.random() < self.config.hflip
        height, width = size[0] / zoom, size[1] / zoom
        corner = None
        if self.sampling:
            corner = self.sampling.rare_place(mask, index, height, width, rng)
        # without a zoom, a place between two pixels would blur the view
        whole_pixels = zoom == 1.0
        if corner is None:
            y = _offset(mask.shape[0], height, rng, whole_pixels)
            x = _offset(mask.shape[1], width, rng, whole_pixels)
        elif whole_pixels:
            y, x = (float(math.floor(place + 0.5)) for place in corner)
        else:
            y, x = corner
        return View(size, zoom, y, x, flip)


class PluginAugmentation:
    """An augmentation of a plugin: (image, mask, rng) -> (image, mask) of the same sizes."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        loaded = find("augmentation", name, "augment.parts").load()
        is_class = isinstance(loaded, type)
        self._change: Any = loaded(**options) if is_class else loaded
        self._options = {} if is_class else dict(options)

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Change image (h, w, 3) and mask (h, w).

        Raises:
            ConfigError: the result has another size or type.
        """
        # copies: an image that is taken whole is the one in the cache
        result = self._change(image.copy(), mask.copy(), rng, **self._options)
        found = [_form(array) for array in result] if isinstance(result, tuple) else [_form(result)]
        if found != [_form(image), _form(mask)]:
            raise ConfigError(
                f"augmentation '{self.name}' returns {', '.join(found)} for an image and a mask of "
                f"{_form(image)} and {_form(mask)}; sizes and types must stay."
            )
        return result  # type: ignore[no-any-return]  # checked above


def _form(array: Any) -> str:
    """Return the size and type of an array in words."""
    if isinstance(array, np.ndarray):
        return f"{array.shape} {array.dtype}"
    return type(array).__name__


@dataclass(frozen=True)
class View:
    """A window of an image, resized.

    Attributes:
        size: (height, width) of the view.
        zoom: pixels of the view per pixel of the image.
        y: upper edge of the window, in pixels of the image; negative above the image.
        x: left edge of the window, in pixels of the image; negative left of the image.
        flip: whether the view is mirrored left to right.
    """

    size: tuple[int, int]
    zoom: float
    y: float
    x: float
    flip: bool

    def warp_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of an image (h, w, 3), bilinear; it is grey outside of the image."""
        return image if self._is_whole(image) else self._warp(image, cv2.INTER_LINEAR, _FILL)

    def warp_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of a mask (h, w), by nearest neighbour.

        It is 255 wherever `warp_image` interpolates with pixels outside of the image.
        """
        if self._is_whole(mask):
            return mask
        view = self._warp(mask, cv2.INTER_NEAREST, IGNORE_INDEX)
        for axis in (0, 1):
            positions, last = self._positions(axis), mask.shape[axis] - 1
            is_inside = (positions >= -_TOLERANCE) & (positions <= last + _TOLERANCE)
            inside = np.flatnonzero(is_inside)
            first, end = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            along_axis = view if axis == 0 else view.T
            along_axis[:first] = along_axis[end:] = IGNORE_INDEX
        return view

    def _is_whole(self, array: NDArray[np.uint8]) -> bool:
        is_identity = (self.zoom, self.y, self.x, self.flip) == (1.0, 0, 0, False)
        return is_identity and array.shape[:2] == self.size

    def _affine(self, axis: int) -> tuple[float, float]:
        """(step, start): pixel t of the view lies at step * t + start in the image."""
        step, corner = 1 / self.zoom, self.y if axis == 0 else self.x
        if axis == 1 and self.flip:
            step, corner = -step, corner + self.size[1] / self.zoom
        return step, corner + 0.5 * step - 0.5  # pixel centres lie at 0.5

    def _positions(self, axis: int) -> NDArray[np.float64]:
        """Place in the image of each row (axis 0) or column (axis 1) of the view."""
        step, start = self._affine(axis)
        return np.asarray(step * np.arange(self.size[axis]) + start, np.float64)

    def _warp(
        self, array: NDArray[np.uint8], method: int, outside: int | tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        row_step, row_start = self._affine(0)
        column_step, column_start = self._affine(1)
        to_source = np.array([[column_step, 0, column_start], [0, row_step, row_start]])
        flags = method | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(array, to_source, self.size[::-1], flags=flags, borderValue=outside)
        return np.asarray(view, np.uint8)


def jitter_sharpness(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Weaken or strengthen fine detail by a random share of up to `amount`.

    Fine detail is the difference to a Gaussian blur of 0.8 pixels. A zoom interpolates and so blurs
    the views in training, but images are not blurred when they are segmented at their own size.
    Without this jitter a network takes their texture for another class (LOG.md).
    """
    factor = float(rng.uniform(-amount, amount))
    blurred = cv2.GaussianBlur(image, (3, 3), 0.8)
    return np.asarray(cv2.addWeighted(image, 1.0 + factor, blurred, -factor, 0.0), np.uint8)


def jitter_color(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast and saturation by a factor in 1 ± amount each.

    The three changes are one affine map of the colours.
    """
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3)
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    offset = 127.0 * (1 - contrast) * brightness
    matrix = np.concatenate([mix * brightness * contrast, np.full((3, 1), offset)], axis=1)
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def _offset(available: int, window: float, rng: np.random.Generator, whole_pixels: bool) -> float:
    """Draw the start of a window: inside the image, or around it if the window is larger.

    Args:
        whole_pixels: draw only starts at the edge of a pixel.
    """
    slack = available - window
    low, high = min(0.0, slack), max(0.0, slack)
    if whole_pixels:
        return float(rng.integers(int(low), int(high), endpoint=True))
    return float(rng.uniform(low, high)) if slack else 0.0
