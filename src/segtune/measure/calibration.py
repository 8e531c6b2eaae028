"""Calibration: whether a segmenter that says 0.8 is right in 80 % of such pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX

BINS = 15  # Guo et al., 2017


@dataclass(frozen=True)
class Calibration:
    """Counted pixels by the confidence of their prediction, in 15 bins of equal width.

    Attributes:
        pixels: (15,) int64.
        confidence: (15,) float64, summed over a bin's pixels.
        right: (15,) int64, of them, predicted right.
    """

    pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]

    @classmethod
    def count(
        cls,
        confidence: NDArray[np.float32],
        prediction: NDArray[np.uint8],
        target: NDArray[np.uint8],
    ) -> "Calibration":
        """Of masks of any one shape; a target of 255 counts nowhere, and confidences are in [0, 1]."""
        counted = target != IGNORE_INDEX
        sure = confidence[counted].astype(np.float64)
        bins = np.clip(
            np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1
        )  # (0, 1/15], (1/15, 2/15], …
        hits = (prediction[counted] == target[counted]).astype(np.float64)
        return cls(
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, sure, BINS).astype(np.float64),
            np.bincount(bins, hits, BINS).astype(np.int64),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.pixels + other.pixels, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1] (Naeini et al., 2015).

        The mean over pixels of |confidence - accuracy| of their bin.
        """
        total = int(self.pixels.sum())
        return float(np.abs(self.confidence - self.right).sum() / total) if total else 0.0

    def points(self) -> list[tuple[float, float, int]]:
        """(mean confidence, share right, pixels) of each bin that holds any: the reliability diagram."""
        rows = zip(self.confidence, self.right, self.pixels, strict=True)
        return [(float(c / n), float(r / n), int(n)) for c, r, n in rows if n]
