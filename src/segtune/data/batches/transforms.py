"""Training augmentation: one affine map for image and mask, then changes of the image's colours.

An image is warped directly into the crop, which takes a fraction of the time of resizing the whole
image before cropping it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.schema import AugmentConfig
from segtune.data.batches.photometric import (
    add_noise,
    blur,
    cut_out,
    jitter_color,
    jitter_sharpness,
)
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.view import View
from segtune.errors import ConfigError
from segtune.plugins.registry import find


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
        image, config = view.warp_image(image), self.config
        if config.blur:
            image = blur(image, config.blur, rng)
        if config.sharpness:
            image = jitter_sharpness(image, config.sharpness, rng)
        if config.color_jitter:
            image = jitter_color(image, config.color_jitter, rng)
        if config.noise:
            image = add_noise(image, config.noise, rng)
        if config.cutout:
            keeps_labels = config.cutout_labels == "keep"
            image, view_mask = cut_out(image, view_mask, config.cutout, keeps_labels, rng)
        for part in self._parts:
            image, view_mask = part(image, view_mask, rng)
        return image, view_mask

    @cached_property
    def _parts(self) -> list["NamedAugmentation"]:
        """The registered augmentations that the config names."""
        return [NamedAugmentation(name, values) for name, values in self.config.parts.items()]

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
        """Draw zoom, flips, angle and place of a view of `size` (height, width)."""
        low, high = self.config.scale
        zoom = math.exp(rng.uniform(math.log(low), math.log(high))) if high > low else low
        flip = rng.random() < self.config.hflip
        # nothing is drawn for what is off: recorded runs go on with the views that they had
        upside_down = self.config.vflip > 0 and rng.random() < self.config.vflip
        turn = self.config.rotate
        degrees = rng.uniform(-turn, turn) if turn else 0.0
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
        return View(size, zoom, y, x, flip, upside_down, degrees)


class NamedAugmentation:
    """A registered augmentation: (image, mask, rng) -> (image, mask) of the same sizes."""

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
