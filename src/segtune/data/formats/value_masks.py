"""Masks whose values a format gives a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.images import read_mask
from segtune.errors import DataError


@dataclass(frozen=True)
class ValueMask:
    """Reads a mask and gives its values the ids of the classes.

    Attributes:
        ids: value -> class id, or 255.
        allowed: ends the message on another value: what names the values, and what to do.
    """

    path: Path
    ids: Mapping[int, int]
    allowed: str

    def __call__(self) -> NDArray[np.uint8]:
        """Class ids and 255, (H, W).

        Raises:
            DataError: the file cannot be read, or holds another value.
        """
        stored = read_mask(self.path)
        values, indices, counts = np.unique(stored, return_inverse=True, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if value not in self.ids:
                raise DataError(
                    f"mask '{self.path}' holds the value {value} ({count:,} px); {self.allowed}"
                )
        table = np.array([self.ids[value] for value in values.tolist()], np.uint8)
        return np.asarray(table[indices].reshape(stored.shape))
