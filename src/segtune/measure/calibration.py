"""Calibration: whether 80 % of the pixels with confidence 0.8 are right."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX

BINS = 15  # Guo et al., 2017


@dataclass(frozen=True)
class Calibration:
    """Counted pixels by the confidence of their prediction, in 15 bins of equal width.

    Attributes:
        pixels: (15,) int64, pixels of each bin.
        confidence: (15,) float64, sum of the confidences of a bin's pixels.
        right: (15,) int64, correctly predicted pixels of each bin.
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
        """Count the pixels of arrays of one shape.

        Args:
            confidence: in [0, 1].
            prediction: class ids.
            target: class ids; pixels of 255 do not count.
        """
        counted = target != IGNORE_INDEX
        certainty = confidence[counted].astype(np.float64)
        # the bins are (0, 1/15], (1/15, 2/15], …
        bins = np.clip(np.ceil(certainty * BINS).astype(np.int64) - 1, 0, BINS - 1)
        hits = (prediction[counted] == target[counted]).astype(np.float64)
        return cls(
            np.bincount(bins, minlength=BINS),
            np.bincount(bins, certainty, BINS).astype(np.float64),
            np.bincount(bins, hits, BINS).astype(np.int64),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.pixels + other.pixels, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def error(self) -> float:
        """Expected calibration error in [0, 1] (Naeini et al., 2015).

        The mean over all pixels of |confidence - accuracy| of their bin.
        """
        total = int(self.pixels.sum())
        return float(np.abs(self.confidence - self.right).sum() / total) if total else 0.0

    def points(self) -> list[tuple[float, float, int]]:
        """The reliability diagram: (mean confidence, accuracy, pixels) of each bin with pixels."""
        rows = zip(self.confidence, self.right, self.pixels, strict=True)
        return [(float(c / n), float(r / n), int(n)) for c, r, n in rows if n]
