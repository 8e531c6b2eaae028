"""Images too large to be looked at whole: overlapping tiles, blended, in memory that does not grow with the image.

Tiles lie on a lattice whose steps fit the model's stride, so that a convolution sees the same grid as in the whole
image. A pixel takes the weighted mean of the logits of the tiles that cover it; a tile counts nothing at its rim,
where its convolutions see the padding (Ronneberger et al., 2015, arXiv 1505.04597, call it overlap-tile).
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


def windows_of(image: NDArray[np.uint8]) -> ReadWindow:
    """Reads windows of an image (H, W, 3) that lies in memory."""
    return lambda top, left, bottom, right: image[top:bottom, left:right]


@dataclass(frozen=True)
class Part:
    """A finished rectangle of the image: its logits (C, h, w), from (top, left).

    Attributes:
        columns: the first and the end of those that are this part's own; there is one more on each side where another
            part goes on, so that logits can be interpolated.
    """

    top: int
    left: int
    logits: Tensor
    columns: tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """Squares of `tile` pixels that share `overlap` of their side with the next one.

    >>> Tiling(128, 0.25).starts(300, multiple=32)
    [0, 96, 192]
    """

    tile: int = 512
    overlap: float = 0.25

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not 0 <= self.overlap <= 0.75:
            raise ConfigError(f"overlap={self.overlap}: a share of a tile in 0..0.75 is expected.")
        if self.tile < 32:
            raise ConfigError(f"tile={self.tile}: tiles of at least 32 pixels are expected.")

    def side(self, multiple: int) -> int:
        """The tile's side, brought to the model's stride."""
        return -(-self.tile // multiple) * multiple

    def step(self, multiple: int) -> int:
        """Pixels from one tile to the next."""
        return max(multiple, int(self.side(multiple) * (1 - self.overlap)) // multiple * multiple)

    def starts(self, length: int, multiple: int) -> list[int]:
        """Where tiles begin along a side of the image; the last one may be cut by the image's edge."""
        side, step = self.side(multiple), self.step(multiple)
        return [0, *range(step, max(0, length - side) + step, step)] if length > side else [0]


def blended(
    read: ReadWindow,
    size: tuple[int, int],
    tiling: Tiling,
    multiple: int,
    num_classes: int,
    infer: Callable[[NDArray[np.uint8]], Tensor],
) -> Iterator[Part]:
    """The logits of an image (height, width), rectangle by rectangle; their own columns cover each pixel once.

    Strips of tile columns, as wide as the buffer holds, are walked from top to bottom; where strips meet, the tiles
    that reach over the seam are computed for both.

    Args:
        read: gives parts of the image.
        multiple: the model's stride, see `Preprocessing`.
        infer: an image (h, w, 3) -> logits (C, h, w).
    """
    _, width = size
    side = tiling.side(multiple)
    columns = tiling.starts(width, multiple)
    own = max(1, _BUFFER // (4 * num_classes * side * tiling.step(multiple)))
    for first in range(0, len(columns), own):
        left = columns[first]
        right = columns[first + own] if first + own < len(columns) else width
        seen = max(0, left - 1), min(width, right + 1)
        reaching = [c for c in columns if c < seen[1] and c + side > seen[0]]
        for top, logits in _strip(read, size, seen, reaching, tiling, multiple, infer):
            yield Part(top, seen[0], logits, (left, right))


def _strip(
    read: ReadWindow,
    size: tuple[int, int],
    seen: tuple[int, int],
    columns: list[int],
    tiling: Tiling,
    multiple: int,
    infer: Callable[[NDArray[np.uint8]], Tensor],
) -> Iterator[tuple[int, Tensor]]:
    """Where they begin, and the logits of bands that no later tile changes, of some columns of the image."""
    (height, width), (left, right) = size, seen
    side, rows = tiling.side(multiple), tiling.starts(height, multiple)
    across, down = (
        _Ramp(columns, side, tiling.step(multiple), width),
        _Ramp(rows, side, tiling.step(multiple), height),
    )
    total: Tensor | None = None
    for top, following in zip(rows, [*rows[1:], height], strict=True):
        bottom = min(top + side, height)
        for start in columns:
            end = min(start + side, width)
            logits = infer(read(top, start, bottom, end)).float().cpu()
            if total is None:
                total = logits.new_zeros(logits.shape[0], min(side, height), right - left)
            weight = down.weight(top)[:, None] * across.weight(start)[None]
            a, b = max(start, left), min(end, right)
            total[:, : bottom - top, a - left : b - left] += (logits * weight)[
                :, :, a - start : b - start
            ]
        assert total is not None
        yield top, total[:, : following - top].clone()
        kept = total[:, following - top :].clone()
        total.zero_()
        total[:, : kept.shape[1]] = kept


class _Ramp:
    """Along one side: what each tile counts at each of its pixels; the tiles of a pixel count 1 together."""

    def __init__(self, starts: list[int], side: int, step: int, length: int) -> None:
        self.starts, self.side, self.length = starts, side, length
        self.overlap = side - step
        self.total = torch.zeros(length)
        for start in starts:
            self.total[start : start + side] += self._raw(start)

    def weight(self, start: int) -> Tensor:
        """Of the tile that begins there, one value per pixel of it."""
        end = min(start + self.side, self.length)
        return self._raw(start) / self.total[start:end].clamp_min(1e-12)

    def _raw(self, start: int) -> Tensor:
        """0 over the outer quarter of the overlap, then rising over half of it; 1 at the image's own edge."""
        end = min(start + self.side, self.length)
        place = torch.arange(start, end, dtype=torch.float32) + 0.5
        weight = torch.ones(end - start)
        rim, rise = self.overlap / 4, max(self.overlap / 2, 1e-6)
        if start > 0:
            weight *= ((place - start - rim) / rise).clamp(0, 1)
        if end < self.length:
            weight *= ((start + self.side - place - rim) / rise).clamp(0, 1)
        return weight
