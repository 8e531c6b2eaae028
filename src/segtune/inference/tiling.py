"""Tiled inference: overlapping tiles, blended, in memory that does not grow with the image.

Tiles start at multiples of the model's stride, so that a convolution samples the same grid as in
the whole image. The logits of a pixel are the weighted mean over the tiles that cover it. A tile
has weight zero at its rim, where its convolutions see the padding (the overlap-tile strategy of
Ronneberger et al., 2015, arXiv 1505.04597).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segtune.errors import ConfigError

_BUFFER = 96_000_000  # bytes of logits that are blended at a time

ReadWindow = Callable[[int, int, int, int], NDArray[np.uint8]]
"""(top, left, bottom, right) -> that part of the image, (h, w, 3) uint8."""

Infer = Callable[[NDArray[np.uint8]], Tensor]
"""An image (h, w, 3) uint8 -> its logits (C, h, w)."""


def windows_of(image: NDArray[np.uint8]) -> ReadWindow:
    """Return a function that reads windows of an image (H, W, 3) in memory."""
    return lambda top, left, bottom, right: image[top:bottom, left:right]


@dataclass(frozen=True)
class Part:
    """A finished rectangle of the image: its logits (C, h, w), with the corner (top, left).

    Attributes:
        columns: the first column of this part, and the end. The logits hold one more column on
            each side where another part follows, for interpolation.
    """

    top: int
    left: int
    logits: Tensor
    columns: tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `tile` pixels; neighbours share the fraction `overlap` of their side.

    >>> Tiling(128, 0.25).starts(300, multiple=32)
    [0, 96, 192]
    """

    tile: int = 512
    overlap: float = 0.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.overlap <= 0.75:
            raise ConfigError(f"overlap={self.overlap}: a share of a tile in 0..0.75 is expected.")
        if self.tile < 32:
            raise ConfigError(f"tile={self.tile}: tiles of at least 32 pixels are expected.")

    def side(self, multiple: int) -> int:
        """Return the side of a tile, rounded up to the model's stride."""
        return -(-self.tile // multiple) * multiple

    def step(self, multiple: int) -> int:
        """Return the pixels from the start of one tile to the start of the next."""
        return max(multiple, int(self.side(multiple) * (1 - self.overlap)) // multiple * multiple)

    def starts(self, length: int, multiple: int) -> list[int]:
        """Return the starts of the tiles along a side; the image's edge may cut the last tile."""
        side, step = self.side(multiple), self.step(multiple)
        return [0, *range(step, max(0, length - side) + step, step)] if length > side else [0]


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one image.

    Attributes:
        size: (height, width) of the image.
        multiple: the model's stride; see `Preprocessing`.
    """

    size: tuple[int, int]
    tiling: Tiling
    multiple: int
    num_classes: int

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return self.tiling.side(self.multiple)

    @property
    def step(self) -> int:
        """Pixels from one tile to the next."""
        return self.tiling.step(self.multiple)

    @property
    def rows(self) -> list[int]:
        """The first row of each tile."""
        return self.tiling.starts(self.size[0], self.multiple)

    @property
    def columns(self) -> list[int]:
        """The first column of each tile."""
        return self.tiling.starts(self.size[1], self.multiple)


def blended(read: ReadWindow, grid: TileGrid, infer: Infer) -> Iterator[Part]:
    """Compute the logits of an image, rectangle by rectangle; each pixel is in one part's columns.

    Strips of tile columns, as wide as the buffer allows, go from top to bottom. Tiles that cross
    the seam of two strips are computed for both.
    """
    width, starts = grid.size[1], grid.columns
    columns_per_strip = max(1, _BUFFER // (4 * grid.num_classes * grid.side * grid.step))
    for first in range(0, len(starts), columns_per_strip):
        end = first + columns_per_strip
        left = starts[first]
        right = starts[end] if end < len(starts) else width
        strip = max(0, left - 1), min(width, right + 1)
        for top, logits in _blended_strip(read, grid, strip, infer):
            yield Part(top, strip[0], logits, (left, right))


def _blended_strip(
    read: ReadWindow, grid: TileGrid, strip: tuple[int, int], infer: Infer
) -> Iterator[tuple[int, Tensor]]:
    """Compute the columns `strip` (first, end); yield the top and logits of each finished band.

    A band is finished when no later tile covers it.
    """
    (height, width), (left, right), side = grid.size, strip, grid.side
    starts = [start for start in grid.columns if start < right and start + side > left]
    across = _TileWeights(starts, side, grid.step, width)
    down = _TileWeights(grid.rows, side, grid.step, height)
    total: Tensor | None = None
    for top, next_top in zip(grid.rows, [*grid.rows[1:], height], strict=True):
        bottom = min(top + side, height)
        for start in starts:
            end = min(start + side, width)
            logits = infer(read(top, start, bottom, end)).float().cpu()
            if total is None:
                total = logits.new_zeros(logits.shape[0], min(side, height), right - left)
            logits = logits * (down.weight(top)[:, None] * across.weight(start)[None])
            first, last = max(start, left), min(end, right)
            covered = total[:, : bottom - top, first - left : last - left]
            covered += logits[:, :, first - start : last - start]
        assert total is not None
        yield top, total[:, : next_top - top].clone()
        unfinished = total[:, next_top - top :].clone()
        total.zero_()
        total[:, : unfinished.shape[1]] = unfinished


class _TileWeights:
    """The weight of each tile at each pixel along one side; the weights of a pixel sum to 1."""

    def __init__(self, starts: list[int], side: int, step: int, length: int) -> None:
        self.side, self.length = side, length
        self.overlap = side - step
        self.total = torch.zeros(length)
        for start in starts:
            self.total[start : start + side] += self._ramp(start)

    def weight(self, start: int) -> Tensor:
        """Return the weights of the tile at `start`, one per pixel."""
        end = min(start + self.side, self.length)
        return self._ramp(start) / self.total[start:end].clamp_min(1e-12)

    def _ramp(self, start: int) -> Tensor:
        """Return 0 over the outer quarter of the overlap, a rise over the next half, then 1.

        At the image's own edge there is no rise.
        """
        end = min(start + self.side, self.length)
        centers = torch.arange(start, end, dtype=torch.float32) + 0.5
        weight = torch.ones(end - start)
        rim, rise = self.overlap / 4, max(self.overlap / 2, 1e-6)
        if start > 0:
            weight *= ((centers - start - rim) / rise).clamp(0, 1)
        if end < self.length:
            weight *= ((start + self.side - centers - rim) / rise).clamp(0, 1)
        return weight
