"""The images of an epoch and the positions of their crops, for classes of unequal frequency."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import SamplingConfig

_MAX_TRIES = 10  # crops with too many ignored pixels, before one is accepted


@dataclass(frozen=True)
class Sampling:
    """The configured sampling of one split.

    Attributes:
        counts: (N, C) pixels of each class in each mask.
    """

    config: SamplingConfig
    counts: NDArray[np.int64]

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(N,) indices of an epoch's images, which depend on seed and epoch alone.

        `class_balanced` draws with replacement: first one of the classes that occur, all equally
        likely, then an image that shows it.
        """
        rng = np.random.default_rng([seed, epoch])
        number = len(self.counts)
        if self.config.images == "shuffle":
            return rng.permutation(number)
        by_class = [np.flatnonzero(column) for column in self.counts.T]
        by_class = [images for images in by_class if len(images)] or [np.arange(number)]
        classes = rng.integers(len(by_class), size=number)
        return np.array([rng.choice(by_class[c]) for c in classes], np.int64)

    @cached_property
    def class_weights(self) -> NDArray[np.float64]:
        """(C,) inverse of each class's pixels in the split; 0 for classes that do not occur."""
        totals = self.counts.sum(0).astype(np.float64)
        return np.asarray(np.where(totals > 0, 1.0 / np.maximum(totals, 1.0), 0.0), np.float64)

    def rare_place(
        self,
        mask: NDArray[np.uint8],
        index: int,
        height: float,
        width: float,
        rng: np.random.Generator,
    ) -> tuple[float, float] | None:
        """Corner (y, x) of a window around a pixel of a class, drawn by inverse frequency.

        The pixel lies anywhere in the window. The window stays inside the mask if it fits.

        Args:
            index: of the mask in the split.

        Returns:
            None if no such window is drawn: a share of `rare_crops` of the crops gets one.
        """
        if not self.config.rare_crops or rng.random() >= self.config.rare_crops:
            return None
        weights = self.class_weights * (self.counts[index] > 0)
        if not weights.any():
            return None
        class_id = rng.choice(len(weights), p=weights / weights.sum())
        pixels = np.flatnonzero(mask == class_id)
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
        corner = []
        for pixel, window, size in ((y, height, mask.shape[0]), (x, width, mask.shape[1])):
            start = pixel + 0.5 - rng.uniform(0, window)
            corner.append(float(np.clip(start, min(0.0, size - window), max(0.0, size - window))))
        return corner[0], corner[1]

    def accepts(self, mask: NDArray[np.uint8], tries: int) -> bool:
        """Whether few enough pixels of a crop's mask are ignored, or no further try is allowed."""
        limit = self.config.max_ignored
        return limit >= 1.0 or tries >= _MAX_TRIES or float(np.mean(mask == IGNORE_INDEX)) <= limit


def repeats(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry of an epoch's order occurs before it, (N,).

    Two views of one image in an epoch need two seeds.

    >>> repeats(np.array([7, 2, 7, 7, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    seen: dict[int, int] = {}
    counts = []
    for index in order.tolist():
        counts.append(seen.get(index, 0))
        seen[index] = counts[-1] + 1
    return np.array(counts, np.int64)
