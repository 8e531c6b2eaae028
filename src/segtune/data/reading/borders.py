"""Count how the borders of masks run, of one mask or of many together."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.passages import Integers, Kind, Pieces, passages, thin_pieces

_SQUARE = np.ones((3, 3), np.uint8)
_NEAR = np.ones((13, 13), np.uint8)  # how far a kernel of Lanczos reaches, at twice the size
_LEAST_INSIDE = 0.25  # of the pixels of a value that fills areas, with 3 x 3 neighbours of it
_MOST_VALUES = 2**15  # of a mask that is looked at
_MOST_KEYS = 200_000  # kinds of passages that are told apart; more are not counted
_SPECK = 4  # pixels of the largest piece that is no line

Passage = tuple[int, int, int, int]
"""Lower and higher value of two areas, the value between them, and a `Kind`."""


@dataclass
class Borders:
    """Where the values of one or several masks lie; a colour is its number `R << 16 | G << 8 | B`.

    Attributes:
        pixels: value -> pixels.
        inside: value -> pixels whose 3 x 3 neighbours hold it too.
        at_borders: value -> pixels that lie near two values of areas.
        passages: how rows and columns pass from an area to the next -> places.
        pieces, specks: value -> connected pieces that fill no area, and those of a few pixels.
        rim_pieces, rim_specks: the same, of pieces on the way from one value to another.
        is_colored: whether values are colours.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    at_borders: Counter[int] = field(default_factory=Counter)
    passages: Counter[Passage] = field(default_factory=Counter)
    pieces: Counter[int] = field(default_factory=Counter)
    specks: Counter[int] = field(default_factory=Counter)
    rim_pieces: Counter[int] = field(default_factory=Counter)
    rim_specks: Counter[int] = field(default_factory=Counter)
    is_colored: bool = False

    def add(self, other: "Borders") -> None:
        """Count those of other masks too."""
        for name in ("pixels", "inside", "at_borders", "pieces", "specks"):
            getattr(self, name).update(getattr(other, name))
        self.rim_pieces.update(other.rim_pieces)
        self.rim_specks.update(other.rim_specks)
        self.is_colored |= other.is_colored
        if len(self.passages) < _MOST_KEYS:
            self.passages.update(other.passages)

    def levels(self) -> list[int]:
        """The values that fill areas, ascending."""
        shares = {v: self.inside[v] / count for v, count in self.pixels.items()}
        return sorted(value for value, share in shares.items() if share >= _LEAST_INSIDE)


def packed(pixels: NDArray[Any]) -> NDArray[Any]:
    """One number for each pixel: its value (H, W), or that of its colour (H, W, 3)."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))


def unpacked(values: NDArray[Any], is_colored: bool) -> NDArray[np.float64]:
    """The numbers (N, 1), or the colours (N, 3), that values stand for."""
    if not is_colored:
        return values.astype(np.float64)[:, None]
    return np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.float64)


def borders_of(pixels: NDArray[Any]) -> Borders:
    """How the borders of a mask run; empty where it holds thousands of values.

    Args:
        pixels: whole numbers (H, W), or colours (H, W, 3) of uint8.
    """
    numbers = packed(pixels)
    values, ranks = _ranked(numbers)
    result = Borders(is_colored=pixels.ndim == 3)
    if len(values) > _MOST_VALUES:
        return result
    grid = ranks.astype(np.float32)
    counts = np.bincount(ranks.ravel(), minlength=len(values))
    is_even = cv2.erode(grid, _SQUARE) == cv2.dilate(grid, _SQUARE)
    inside = np.bincount(ranks[is_even], minlength=len(values))
    listed = values.tolist()
    result.pixels = Counter(dict(zip(listed, counts.tolist(), strict=True)))
    result.inside = Counter(dict(zip(listed, inside.tolist(), strict=True)))
    if len(values) < 3:
        return result  # nothing can lie in between
    is_level = inside >= _LEAST_INSIDE * counts
    near = _near_two_levels(ranks, is_level)
    at_borders = np.bincount(ranks[near], minlength=len(values))
    result.at_borders = Counter(dict(zip(listed, at_borders.tolist(), strict=True)))
    is_rim = _count_passages(result, ranks, values)
    is_thin = cv2.dilate(is_even.astype(np.uint8), _SQUARE) == 0
    _count_pieces(result, thin_pieces(ranks, is_thin, is_rim), values)
    return result


def _ranked(numbers: NDArray[Any]) -> tuple[NDArray[Any], Integers]:
    """The values of a mask, ascending, and the place of each pixel's value among them."""
    if numbers.dtype in (np.uint8, np.uint16):  # much faster than sorting
        counts = np.bincount(numbers.ravel())
        values = np.flatnonzero(counts)
        place = np.zeros(len(counts), np.int64)
        place[values] = np.arange(len(values))
        return values, place[numbers]
    values, ranks = np.unique(numbers, return_inverse=True)
    return values, ranks.reshape(numbers.shape).astype(np.int64)


def _near_two_levels(ranks: Integers, is_level: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels near two values that fill areas."""
    highest = np.where(is_level, np.arange(len(is_level)), -1).astype(np.float32)[ranks]
    lowest = np.where(highest < 0, np.float32(len(is_level)), highest)
    return np.asarray(cv2.dilate(highest, _NEAR) > cv2.erode(lowest, _NEAR), bool)


def _count_passages(result: Borders, ranks: Integers, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Count the passages of rows and columns; return the pixels of those in order."""
    vectors = unpacked(values, result.is_colored)
    is_rim = np.zeros(ranks.shape, bool)
    for grid, marks in ((ranks, is_rim), (np.ascontiguousarray(ranks.T), is_rim.T)):
        found = passages(grid, vectors)
        is_ordered = found.kind >= Kind.LINE
        steps = np.zeros(grid.size + 1, np.int64)
        np.add.at(steps, found.start[is_ordered], 1)
        np.add.at(steps, found.stop[is_ordered], -1)
        marks |= (steps[:-1].cumsum() > 0).reshape(grid.shape)
        low, high = found.ends.min(1), found.ends.max(1)
        code = ((low * len(values) + high) * len(values) + found.middle) * len(Kind) + found.kind
        codes, counts = np.unique(code, return_counts=True)
        for number, count in zip(codes.tolist(), counts.tolist(), strict=True):
            rest, kind = divmod(number, len(Kind))
            rest, middle = divmod(rest, len(values))
            first, second = divmod(rest, len(values))
            ends = int(values[first]), int(values[second])
            result.passages[ends[0], ends[1], int(values[middle]), kind] += count
    return is_rim


def _count_pieces(result: Borders, pieces: Pieces, values: NDArray[Any]) -> None:
    is_speck = pieces.size <= _SPECK
    chosen = (
        (result.pieces, np.ones(len(is_speck), bool)),
        (result.specks, is_speck),
        (result.rim_pieces, pieces.is_rim),
        (result.rim_specks, pieces.is_rim & is_speck),
    )
    for counter, is_counted in chosen:
        counts = np.bincount(pieces.rank[is_counted], minlength=len(values))
        for rank in np.flatnonzero(counts).tolist():
            counter[int(values[rank])] += int(counts[rank])
