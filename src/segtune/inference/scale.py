"""The scale of an image: resize it as the training images were, in little memory.

A photo is brought to the shorter side that the model was trained at. If all training images state
one physical size of a pixel (maps, micrographs), an image that states one, too, is brought to the
metres per pixel of the training images.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from segtune.data.reading.images import resize_image, target_size
from segtune.errors import DataError
from segtune.inference.decisions import Rectangle, decided_rectangle
from segtune.inference.media.pixel_size import length_text
from segtune.inference.tiling import Part, ReadWindow

MAX_INPUT_PIXELS = 2**23
"""Pixels that a model segments in one piece; larger images are tiled."""

MAX_ENLARGEMENT = 4
"""How many times an image may be enlarged to the metres of the training images."""

_STRIP = 2**22  # pixels that are resized at a time

Size = tuple[int, int]
"""(height, width)."""

Interpolation = Literal["area", "linear", "area_linear"]
"""How OpenCV resizes; `area_linear` is INTER_AREA where a side grows."""


@dataclass(frozen=True)
class Scale:
    """The size to which images are resized.

    Attributes:
        image_size: one value is the shorter side, two are exact width and height.
        metres: physical size of a pixel that the model sees; None where the training images state
            none.

    >>> Scale((360,)).input_size((7200, 9600))
    (360, 480)
    >>> Scale((360,), metres=2.0).input_size((7200, 9600), metres=0.5)
    (1800, 2400)
    """

    image_size: tuple[int, ...]
    metres: float | None = None

    def input_size(self, size: Size, metres: float | None = None) -> Size:
        """Return the (height, width) to which an image is resized.

        Args:
            metres: physical size of a pixel of the image.

        Raises:
            DataError: the image's pixels are more than four times as large as the model's.
        """
        if self.metres is None or metres is None or len(self.image_size) == 2:
            return target_size(*size, self.image_size)
        factor = metres / self.metres
        if factor > MAX_ENLARGEMENT:
            raise DataError(
                f"its pixels are {length_text(metres)} wide, and the model was trained on pixels "
                f"of {length_text(self.metres)}; the image would be enlarged {factor:.0f} times, "
                f"and at most {MAX_ENLARGEMENT} times is allowed. Take an image of finer "
                "resolution, or a model that was trained on images like this one. tile=512 keeps "
                "the pixels as they are."
            )
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


@dataclass(frozen=True)
class Piece:
    """The result for a rectangle: class ids and confidences, each (h, w), from (top, left)."""

    top: int
    left: int
    ids: NDArray[np.uint8]
    confidence: NDArray[np.float32]


def resized(read: ReadWindow, size: Size, target: Size) -> ReadWindow:
    """Return a function that reads windows of the image resized from `size` to `target`.

    It reads only the pixels that a window needs. The result is that of `resize_image` on the whole
    image, bit for bit where it shrinks: OpenCV's area average is computed here row by row with the
    same float32 weights.
    """
    if size == target:
        return read
    steps = [n // t for n, t in zip(size, target, strict=True)]
    if all(n == s * t for n, s, t in zip(size, steps, target, strict=True)):
        return _resized_by_whole_steps(read, steps)
    interpolation = _interpolation(size, target)
    down, across = (_weights(n, t, interpolation) for n, t in zip(size, target, strict=True))

    def window(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        result = np.empty((bottom - top, right - left, 3), np.uint8)
        columns, first, end = _nonzero_block(across, left, right)
        rows_per_strip = max(1, int(_STRIP / (end - first) * target[0] / size[0]))
        for start in range(top, bottom, rows_per_strip):
            stop = min(start + rows_per_strip, bottom)
            rows, upper, lower = _nonzero_block(down, start, stop)
            pixels = read(upper, first, lower, end).transpose(1, 0, 2).astype(np.float32)
            narrow = columns @ pixels.reshape(end - first, -1)
            narrow = narrow.reshape(right - left, lower - upper, 3).transpose(1, 0, 2)
            values = rows @ np.ascontiguousarray(narrow).reshape(lower - upper, -1)
            values = np.rint(values).clip(0, 255)
            result[start - top : stop - top] = values.reshape(stop - start, right - left, 3)
        return result

    return window


def _resized_by_whole_steps(read: ReadWindow, steps: Sequence[int]) -> ReadWindow:
    """Each pixel is the mean of a block of pixels: OpenCV resizes windows as it does the whole."""

    def window(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        result = np.empty((bottom - top, right - left, 3), np.uint8)
        rows_per_strip = max(1, _STRIP // (steps[0] * steps[1] * (right - left)))
        for start in range(top, bottom, rows_per_strip):
            stop = min(start + rows_per_strip, bottom)
            part = read(start * steps[0], left * steps[1], stop * steps[0], right * steps[1])
            part = np.ascontiguousarray(part)
            result[start - top : stop - top] = resize_image(part, stop - start, right - left)
        return result

    return window


def _interpolation(size: Size, target: Size) -> Interpolation:
    """Return OpenCV's method for `resize_image`: INTER_AREA averages only where no side grows."""
    if target[0] * target[1] >= size[0] * size[1]:
        return "linear"
    return "area" if target[0] <= size[0] and target[1] <= size[1] else "area_linear"


def _weights(length: int, target: int, interpolation: Interpolation) -> csr_matrix:
    """Return the weight of each pixel along a side, (target, length)."""
    if interpolation == "area":
        return _area_weights(length, target)
    step = 1.0 / (target / length)
    indices = np.arange(target)
    if interpolation == "linear":
        centers = (indices + 0.5) * step - 0.5
    else:  # OpenCV's rule for INTER_AREA where a side grows: two neighbours, weighted by overlap
        first = np.floor(indices * step)
        overlap = (indices + 1) - (first + 1) / step
        centers = first + np.where(overlap <= 0, 0, overlap - np.floor(overlap))
    centers = centers.clip(0, length - 1)
    low = np.floor(centers).astype(np.int64)
    high, fraction = np.minimum(low + 1, length - 1), (centers - low).astype(np.float32)
    values = np.stack([1 - fraction, fraction], 1).ravel()
    columns = np.stack([low, high], 1).ravel()
    return csr_matrix((values, (indices.repeat(2), columns)), (target, length))


def _area_weights(length: int, target: int) -> csr_matrix:
    """Return the weights of OpenCV's INTER_AREA where no side grows, (target, length)."""
    step = 1.0 / (target / length)
    data: list[float] = []
    columns: list[int] = []
    row_ends = [0]
    for begin in (np.arange(target) * step).tolist():
        end, cell = begin + step, min(step, length - begin)
        last = min(int(np.floor(end)), length - 1)
        first = min(int(np.ceil(begin)), last)
        covered = [(column, 1.0) for column in range(first, last)]
        if first - begin > 1e-3:
            covered.insert(0, (first - 1, first - begin))
        if end - last > 1e-3:
            covered.append((last, min(end - last, 1.0, cell)))
        for column, share in covered:
            columns.append(column)
            data.append(share / cell)
        row_ends.append(len(data))
    return csr_matrix((np.array(data, np.float32), columns, row_ends), (target, length))


def _nonzero_block(weights: csr_matrix, start: int, stop: int) -> tuple[csr_matrix, int, int]:
    """Return the rows start:stop without the zero columns at both ends, and the column range."""
    rows = weights[start:stop]
    first, end = int(rows.indices.min()), int(rows.indices.max()) + 1
    shape = (stop - start, end - first)
    return csr_matrix((rows.data, rows.indices - first, rows.indptr), shape), first, end


def at_size(parts: Iterator[Part], input_size: Size, size: Size) -> Iterator[Piece]:
    """Decide each pixel of an image of `size` once, from parts of its logits at `input_size`.

    Logits are interpolated as in the whole image: the last line of a part waits for the next part.
    """
    steps = input_size[0] / size[0], input_size[1] / size[1]
    last_line: torch.Tensor | None = None
    first_row = 0
    for part in parts:
        if part.top == 0:
            last_line, first_row = None, 0
        logits, top = part.logits, part.top
        if last_line is not None:
            logits, top = torch.cat([last_line, logits], 1), top - 1
        bottom = part.top + part.logits.shape[1]
        end_row = size[0]
        if bottom != input_size[0]:
            end_row = min(size[0], math.floor((bottom - 0.5) / steps[0] - 0.5) + 1)
        end_row = max(first_row, end_row)
        left, right = (round(edge / steps[1]) for edge in part.columns)
        rectangle = Rectangle(
            (first_row, end_row), (left, right), (top, part.left), input_size, steps
        )
        for row, ids, confidence in decided_rectangle(logits, rectangle):
            yield Piece(row, left, ids, confidence)
        last_line, first_row = part.logits[:, -1:], end_row
