"""Runs of equal numbers in a mask: areas, run lengths and sums of all regions in one pass each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""COCO's compressed run lengths: {"size": [H, W], "counts": bytes}."""


@dataclass(frozen=True)
class Runs:
    """The runs of a mask of numbers, column by column, as COCO's run lengths go.

    Attributes:
        size: (height, width).
        labels: the number of each run.
        edges: where each run begins in the mask's columns, and the end of the last one.
    """

    size: tuple[int, int]
    labels: NDArray[Any]
    edges: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: NDArray[Any]) -> "Runs":
        """Find the runs of a mask (H, W) of bytes or 32-bit integers."""
        height, width = numbers.shape
        flat = cv2.transpose(numbers).ravel()
        return cls((height, width), *_runs(flat))

    @cached_property
    def pixels(self) -> NDArray[np.int64]:
        """Number -> pixels, up to the largest number."""
        sums = np.bincount(self.labels, np.diff(self.edges))
        return sums.astype(np.int64)  # exact: floats hold whole numbers up to 2^53

    def encoded(self, numbers: Sequence[int]) -> list[Rle]:
        """The run lengths of some numbers, as `pycocotools.mask.encode` makes them."""
        order = np.argsort(self.labels, kind="stable")
        first = np.searchsorted(self.labels[order], numbers, "left")
        last = np.searchsorted(self.labels[order], numbers, "right")
        return [self._encoded(order[a:b]) for a, b in zip(first, last, strict=True)]

    def _encoded(self, runs: NDArray[np.int64]) -> Rle:
        """The run lengths of one number, from its runs in order."""
        starts, ends = self.edges[runs], self.edges[runs + 1]
        counts = np.empty(2 * len(runs) + 1, np.int64)
        counts[:1] = starts[:1]
        counts[1::2] = ends - starts
        counts[2:-1:2] = starts[1:] - ends[:-1]
        counts[-1] = self.edges[-1] - ends[-1]
        shown = counts if counts[-1] else counts[:-1]
        uncompressed = {"size": list(self.size), "counts": shown.tolist()}
        return dict(coco_mask.frPyObjects(uncompressed, *self.size))


def sums(numbers: NDArray[Any], values: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """The sum of the values (H, W) of each number below `length`."""
    labels, edges = _runs(numbers.ravel())
    of_runs = np.add.reduceat(values.ravel(), edges[:-1], dtype=np.float64)
    return np.asarray(np.bincount(labels, of_runs, length), np.float64)


def _runs(flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    return flat[edges[:-1]], edges
