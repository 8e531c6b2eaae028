"""How the rows and columns of a mask pass from one area to the next.

A *run* is a stretch of equal pixels of a row or column. Long runs are the areas that a line
crosses; short runs between two of them are a *rim*.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHORT = 4
"""Longest run, in pixels, that counts as a part of a rim: bilinear interpolation at eight times the
size makes the rim between the ids 0 and 2 as wide."""

_LONGEST_RIM = 12  # pixels; a rim of bilinear interpolation is as wide as its factor
_WIDE = 4 * SHORT  # longest run of a band that is somewhat wider than a rim
_OVERSHOOT = 0.15  # of the step between both sides, by which bicubic and Lanczos kernels exceed it

Integers = NDArray[np.int64]


class Kind(IntEnum):
    """How a line passes from an area to another.

    DIRECT: the areas touch. OTHER: through values that are not in order between both sides.
    LINE: through one value in between. RAMP: through several in order. FULL: through every whole
    number in between. WIDE: through one value in between that is somewhat wider than a rim.
    """

    DIRECT = 0
    OTHER = 1
    LINE = 2
    RAMP = 3
    FULL = 4
    WIDE = 5


@dataclass(frozen=True)
class Passages:
    """The passages of the rows of a mask; each array has one entry a passage.

    Attributes:
        ends: rank of the areas' values, (N, 2).
        middle: rank of the value in the middle of the rim; of an end where there is no rim.
        kind: a `Kind`.
        start, stop: flat places of the rim's pixels.
    """

    ends: Integers
    middle: Integers
    kind: Integers
    start: Integers
    stop: Integers


@dataclass(frozen=True)
class _Runs:
    start: Integers
    length: Integers
    rank: Integers
    row: Integers


def passages(ranks: Integers, vectors: NDArray[np.float64]) -> Passages:
    """The passages of the rows of a mask whose ends differ by more than neighbouring ids do.

    Args:
        ranks: place of each pixel's value among those of the mask, (H, W).
        vectors: the values by rank, (V, 1) numbers or (V, 3) colours.
    """
    runs = _runs(ranks)
    is_long = runs.length > SHORT
    long_runs = np.flatnonzero(is_long)
    first, last = long_runs[:-1], long_runs[1:]
    gap = np.abs(vectors[runs.rank[first]] - vectors[runs.rank[last]]).max(1, initial=0)
    start, stop = runs.start[first] + runs.length[first], runs.start[last]
    is_passage = (runs.row[first] == runs.row[last]) & (gap >= 2) & (stop - start <= _LONGEST_RIM)
    first, last = first[is_passage], last[is_passage]
    start, stop, gap = start[is_passage], stop[is_passage], gap[is_passage]
    middle = np.where(last - first > 1, (first + last) // 2, first)
    kind = np.full(len(first), Kind.DIRECT, np.int64)
    has_rim = last - first > 1
    kind[has_rim] = _kinds(runs, vectors, first[has_rim], last[has_rim], gap[has_rim])
    bands = _bands(runs, vectors, is_long)
    ends = np.stack([runs.rank[first], runs.rank[last]], 1)
    return Passages(
        np.concatenate([ends, np.stack([runs.rank[bands - 1], runs.rank[bands + 1]], 1)]),
        np.concatenate([runs.rank[middle], runs.rank[bands]]),
        np.concatenate([kind, np.full(len(bands), Kind.WIDE, np.int64)]),
        np.concatenate([start, runs.start[bands]]),
        np.concatenate([stop, runs.start[bands]]),
    )


def _runs(ranks: Integers) -> _Runs:
    height, width = ranks.shape
    flat = ranks.ravel()
    is_start = np.ones(ranks.shape, bool)
    is_start[:, 1:] = ranks[:, 1:] != ranks[:, :-1]
    start = np.flatnonzero(is_start)
    length = np.diff(start, append=height * width)
    return _Runs(start, length, flat[start], start // width)


def _kinds(
    runs: _Runs, vectors: NDArray[np.float64], first: Integers, last: Integers, gap: Integers
) -> Integers:
    """The kind of each rim, by its runs `first + 1 .. last - 1`.

    Values are placed on the way from the first area (0) to the last (1).
    """
    counts = last - first - 1
    rim = np.repeat(np.arange(len(first)), counts)
    begins = np.cumsum(counts) - counts
    run = np.arange(counts.sum()) - begins[rim] + first[rim] + 1
    origin, target = vectors[runs.rank[first]][rim], vectors[runs.rank[last]][rim]
    way = target - origin
    offset = vectors[runs.rank[run]] - origin
    place = (offset * way).sum(1) / (way**2).sum(1)
    aside = np.abs(offset - place[:, None] * way).max(1)
    is_fit = (place > -_OVERSHOOT) & (place < 1 + _OVERSHOOT)
    is_fit &= (place != 0) & (place != 1) & (aside <= np.maximum(1, _OVERSHOOT * gap[rim]))
    is_between = (place > 0) & (place < 1)
    is_rising = np.ones(len(run), bool)
    is_rising[1:] = (rim[1:] != rim[:-1]) | (place[1:] > place[:-1]) | ~is_between[1:]
    is_ordered = np.logical_and.reduceat(is_fit & is_rising, begins)
    is_ordered &= np.logical_or.reduceat(is_between, begins)
    kind = np.where(counts == 1, Kind.LINE, Kind.RAMP)
    is_full = (counts == gap - 1) & np.logical_and.reduceat(is_between, begins)
    kind[is_full & (vectors.shape[1] == 1)] = Kind.FULL
    return np.asarray(np.where(is_ordered, kind, Kind.OTHER), np.int64)


def _bands(runs: _Runs, vectors: NDArray[np.float64], is_long: NDArray[np.bool_]) -> Integers:
    """The runs between two areas that hold a value in between and are little wider than a rim."""
    if vectors.shape[1] > 1:
        return np.empty(0, np.int64)
    inner = np.arange(1, len(runs.start) - 1)
    is_band = is_long[:-2] & is_long[1:-1] & is_long[2:] & (runs.length[1:-1] <= _WIDE)
    is_band &= (runs.row[:-2] == runs.row[1:-1]) & (runs.row[2:] == runs.row[1:-1])
    inner = inner[is_band]
    low, middle, high = (vectors[runs.rank[inner + step], 0] for step in (-1, 0, 1))
    return np.asarray(inner[(middle - low) * (high - middle) > 0], np.int64)


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of equal pixels that are no areas; each array has one entry a piece.

    Attributes:
        rank: of the value.
        size: in pixels.
        is_rim: whether a marked pixel is a part of it.
    """

    rank: Integers
    size: Integers
    is_rim: NDArray[np.bool_]


def thin_pieces(ranks: Integers, is_thin: NDArray[np.bool_], is_rim: NDArray[np.bool_]) -> Pieces:
    """Join the thin pixels of a mask with equal neighbours, also diagonal ones.

    Args:
        ranks: of the values, (H, W).
        is_rim: pixels whose pieces are marked, (H, W).
    """
    height, width = ranks.shape
    places = np.flatnonzero(is_thin)
    number = np.full(height * width, -1, np.int64)
    number[places] = np.arange(len(places))
    number = number.reshape(height, width)
    links = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows = slice(0, height - down), slice(down, height)
        here = slice(max(0, -right), width - max(0, right))
        there = slice(max(0, right), width - max(0, -right))
        first, second = number[rows[0], here], number[rows[1], there]
        is_equal = ranks[rows[0], here] == ranks[rows[1], there]
        is_link = (first >= 0) & (second >= 0) & is_equal
        links.append(np.stack([first[is_link], second[is_link]]))
    joined = np.concatenate(links, 1)
    graph = coo_array((np.ones(joined.shape[1], bool), joined), shape=(len(places),) * 2)
    count, labels = connected_components(graph, directed=False)
    rank, marked = np.zeros(count, np.int64), np.zeros(count, bool)
    rank[labels] = ranks.ravel()[places]
    marked[labels[is_rim.ravel()[places]]] = True
    return Pieces(rank, np.bincount(labels, minlength=count), marked)
