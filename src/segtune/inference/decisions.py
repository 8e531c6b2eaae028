"""From logits to decisions: the class and the confidence of each pixel, at any size.

On a CPU, logits are interpolated strip by strip, each small enough for a cache; the logits of the
whole image never exist at once. For a photo of twelve million pixels and 150 classes they would
take 7 GB, and most of the time (LOG.md).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segtune.errors import DataError

_STRIP = 2**20  # logits: 4 MB
_DEVICE_STRIP = 2**27  # logits on a GPU: 512 MB
_LOG2_E = math.log2(math.e)  # a CPU computes powers of 2 in half the time of powers of e

Decided = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Class ids, and their softmax probabilities in [0, 1]."""


@dataclass(frozen=True)
class Rectangle:
    """A rectangle of an image whose logits are known in part.

    The logits of the whole image have the size `input_size`. The known part starts at `origin` in
    them.

    Attributes:
        rows: first row of the rectangle in the image, and the end.
        columns: first column, and the end.
        origin: (top, left).
        input_size: (height, width).
        steps: pixels of `input_size` per pixel of the image, down and across.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    origin: tuple[int, int]
    input_size: tuple[int, int]
    steps: tuple[float, float]


def decide(logits: Tensor, size: Sequence[int], grid: Sequence[int] | None = None) -> list[Decided]:
    """Return class ids and their softmax probabilities, each (H, W), of logits (B, C, h, w).

    The logits are interpolated bilinearly.

    Args:
        size: (H, W).
        grid: the size that the logits cover, if the image was padded below and on the right.

    Raises:
        DataError: logits that are not finite.

    >>> logits = torch.tensor([[0.0, 4.0], [1.0, 0.0]]).reshape(1, 2, 1, 2)  # 2 classes, 2 pixels
    >>> ids, confidence = decide(logits, (1, 4))[0]
    >>> ids.tolist(), (100 * confidence).astype(int).tolist()
    ([[1, 0, 0, 0]], [[73, 56, 93, 98]])
    """
    results = []
    for logits_of_image in logits:
        ids, confidence = np.empty(tuple(size), np.uint8), np.empty(tuple(size), np.float32)
        for rows, strip_ids, strip_confidence in decided_strips(logits_of_image, size, grid):
            ids[rows], confidence[rows] = strip_ids, strip_confidence
        results.append((ids, confidence))
    return results


def decided_strips(
    logits: Tensor, size: Sequence[int], grid: Sequence[int] | None = None
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.float32]]]:
    """Decide one image's logits (C, h, w) strip by strip, from top to bottom; see `decide`."""
    for rows, strip, spare in _strips(logits, size, grid or size):
        yield rows, *_decided(strip, spare)


def decided_rectangle(
    logits: Tensor, rectangle: Rectangle
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.float32]]]:
    """Decide a rectangle from logits (C, h, w); yield first row, ids and confidence of strips."""
    for first_row, strip in _interpolated(logits, rectangle):
        yield first_row, *_decided(strip, torch.empty_like(strip))


def class_ids(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return the class ids (B, H, W) uint8 of logits (B, C, h, w), as `decide` does."""
    ids = torch.empty((len(logits), *size), dtype=torch.uint8, device=logits.device)
    for logits_of_image, target in zip(logits, ids, strict=True):
        for rows, strip, spare in _strips(logits_of_image, size, size):
            target[rows] = _argmax(strip, spare)
    return ids


def _decided(strip: Tensor, spare: Tensor) -> Decided:
    """Return ids and confidence (h, W) of base-2 logits (h, C, W), whose memory is overwritten.

    Raises:
        DataError: logits that are not finite.
    """
    ids = _argmax(strip, spare).to(torch.uint8)
    confidence = strip.exp2_().sum(1).reciprocal_().cpu().numpy()
    if not np.isfinite(confidence.sum()):  # NaN or infinity in any pixel stays in the sum
        raise DataError(
            "the model's outputs are not finite and decide nothing: its weights, or the precision "
            "of the computation (runtime=eager is fp32), do not fit this image."
        )
    return ids.cpu().numpy(), confidence


def _argmax(strip: Tensor, spare: Tensor) -> Tensor:
    """Return the first largest class of (h, C, w) as floats (h, w); subtract its value in place.

    `max(1)` goes pixel by pixel; this arithmetic is vectorised on a CPU.

    Args:
        spare: memory of the same shape.
    """
    strip -= strip.amax(1, keepdim=True)
    last = strip.shape[1] - 1
    rank = torch.arange(last, -1, -1, dtype=strip.dtype, device=strip.device)[:, None]
    # the largest logits are 0 now; all others become far lower than any rank
    return last - torch.add(rank, strip, alpha=1e30, out=spare).amax(1)


def _interpolated(logits: Tensor, rectangle: Rectangle) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row and the base-2 logits (h, C, W) of strips of a rectangle."""
    above, below, down = _neighbours(logits, rectangle, axis=0)
    left, right, across = _neighbours(logits, rectangle, axis=1)
    limit = _STRIP if logits.device.type == "cpu" else _DEVICE_STRIP
    (first_row, end_row), (first_column, end_column) = rectangle.rows, rectangle.columns
    step = max(1, limit // (len(logits) * max(1, end_column - first_column)))
    height = end_row - first_row
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        first, end = int(above[rows][0]), int(below[rows][-1]) + 1
        lines = logits[:, first:end].transpose(0, 1).float() * _LOG2_E
        wide = lines.index_select(2, left).lerp_(lines.index_select(2, right), across)
        upper = wide.index_select(0, above[rows] - first)
        lower = wide.index_select(0, below[rows] - first)
        yield first_row + start, upper.lerp_(lower, down[rows, None, None])


def _neighbours(logits: Tensor, rectangle: Rectangle, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two lines of logits around each pixel along an axis, and the second's weight."""
    first, end = (rectangle.rows, rectangle.columns)[axis]
    pixels = torch.arange(first, end, dtype=torch.float64)
    positions = (pixels + 0.5) * rectangle.steps[axis] - 0.5
    positions = positions.clamp_(0, rectangle.input_size[axis] - 1) - rectangle.origin[axis]
    last_line = logits.shape[1 + axis] - 1
    positions = positions.clamp_(0, last_line)
    low = positions.long()
    high, weight = (low + 1).clamp_(max=last_line), (positions - low).float()
    return low.to(logits.device), high.to(logits.device), weight.to(logits.device)


def _strips(
    logits: Tensor, size: Sequence[int], grid: Sequence[int]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Interpolate logits (C, h, w) that cover `grid` to `size`, strip by strip.

    Yields:
        rows, their base-2 logits (rows, C, W), and spare memory of the same shape. On a CPU, all
        strips use the same memory.
    """
    if logits.device.type == "cpu":
        yield from _strips_on_cpu(logits, size, grid)
        return
    height, width = size
    _, lines, columns = logits.shape
    if len(logits) * grid[0] * grid[1] > _DEVICE_STRIP:
        steps = lines / grid[0], columns / grid[1]
        rectangle = Rectangle((0, height), (0, width), (0, 0), (lines, columns), steps)
        for start, strip in _interpolated(logits, rectangle):
            yield slice(start, start + len(strip)), strip, torch.empty_like(strip)
        return
    full = logits[None]
    if tuple(grid) != (lines, columns):
        full = F.interpolate(full, size=tuple(grid), mode="bilinear")
    strip = (full[0, :, :height, :width].float() * _LOG2_E).transpose(0, 1).contiguous()
    yield slice(0, height), strip, torch.empty_like(strip)


def _strips_on_cpu(
    logits: Tensor, size: Sequence[int], grid: Sequence[int]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    (height, width), (classes, lines, columns) = size, logits.shape
    step = max(1, _STRIP // (classes * grid[1]))
    memory = torch.empty(2, min(step, height), classes, width)
    positions = ((torch.arange(height) + 0.5) * (lines / grid[0]) - 0.5).clamp_(0, lines - 1)
    above = positions.long()
    below, weight = (above + 1).clamp_(max=lines - 1), (positions - above)[:, None, None]
    strips = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    most_lines = max(int(below[s.stop - 1] - above[s.start]) + 1 for s in strips)
    wide_memory = np.empty((most_lines * classes, grid[1]), np.float32)
    for rows in strips:
        strip, spare = memory[:, : rows.stop - rows.start]
        if tuple(grid) == (lines, columns):
            torch.mul(logits[:, rows, :width].transpose(0, 1), _LOG2_E, out=strip)
        else:
            first, end = int(above[rows.start]), int(below[rows.stop - 1]) + 1
            narrow = (logits[:, first:end].transpose(0, 1).float() * _LOG2_E).contiguous()
            wide = wide_memory[: (end - first) * classes]
            cv2.resize(narrow.flatten(0, 1).numpy(), wide.shape[::-1], dst=wide)
            resized = torch.from_numpy(wide).view(end - first, classes, grid[1])[..., :width]
            torch.index_select(resized, 0, above[rows] - first, out=strip)
            torch.index_select(resized, 0, below[rows] - first, out=spare)
            strip.lerp_(spare, weight[rows])
        yield rows, strip, spare
