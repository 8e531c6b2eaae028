"""Which images an epoch shows, and where their crops lie, when classes are far from equally frequent."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import SamplingConfig

_TRIES = 10


@dataclass(frozen=True)
class Sampling:
    """The configured choice, for one split.

    Attributes:
        counts: (N, C) pixels of each class in each mask.
    """

    config: SamplingConfig
    counts: NDArray[np.int64]

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(N,) indices of an epoch's images, the same for the same seed and epoch.

        `class_balanced` draws with replacement: a class of those that occur, each as likely, then an image with it.
        """
        rng = np.random.default_rng([seed, epoch])
        number = len(self.counts)
        if self.config.images == "shuffle":
            return rng.permutation(number)
        holders = [np.flatnonzero(column) for column in self.counts.T]
        holders = [h for h in holders if len(h)] or [np.arange(number)]
        return np.array(
            [rng.choice(holders[c]) for c in rng.integers(len(holders), size=number)], np.int64
        )

    @cached_property
    def chances(self) -> NDArray[np.float64]:
        """(C,) inverse share of each class among all pixels, 0 for those that do not occur; any scale."""
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
        """Corner (y, x) of a window around a pixel of a class drawn by inverse frequency; None where none is due.

        The pixel lies anywhere in the window, which stays inside the mask where it fits.

        Args:
            index: the mask's place in the split.
        """
        if not self.config.rare_crops or rng.random() >= self.config.rare_crops:
            return None
        weights = self.chances * (self.counts[index] > 0)
        if not weights.any():
            return None
        chosen = rng.choice(len(weights), p=weights / weights.sum())
        pixels = np.flatnonzero(mask == chosen)
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
        corner = []
        for at, window, size in ((y, height, mask.shape[0]), (x, width, mask.shape[1])):
            start = at + 0.5 - rng.uniform(0, window)
            corner.append(float(np.clip(start, min(0.0, size - window), max(0.0, size - window))))
        return corner[0], corner[1]

    def accepts(self, mask: NDArray[np.uint8], tried: int) -> bool:
        """Whether a crop's mask shows enough that counts, or enough crops were tried."""
        limit = self.config.max_ignored
        return limit >= 1.0 or tried >= _TRIES or float(np.mean(mask == IGNORE_INDEX)) <= limit


def repeats(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry of an epoch's order has occurred before, (N,): two views of one image need two seeds.

    >>> repeats(np.array([7, 2, 7, 7, 2])).tolist()
    [0, 0, 1, 2, 1]
    """
    seen: dict[int, int] = {}
    counts = []
    for index in order.tolist():
        counts.append(seen.get(index, 0))
        seen[index] = counts[-1] + 1
    return np.array(counts, np.int64)
