"""The scale at which a model looks at an image, whatever the image's size, and images at that scale in little memory.

A photo is brought to the shorter side that the model was trained at. Where all training images
state one physical size of a pixel (maps, micrographs), an image that states one, too, is brought
to the metres a pixel that the model was trained at.
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
from segtune.inference.decisions import decided_rectangle
from segtune.inference.media.pixel_size import length_text
from segtune.inference.tiling import Part, ReadWindow

MAX_LOOK = 2**23
"""Pixels that a model looks at in one piece; what is larger at the trained scale is looked at in tiles."""

MAX_ENLARGEMENT = 4
"""How many times an image may be enlarged to the metres of the training images; detail that it lacks stays lacking."""

_STRIP = 2**22  # pixels that are resized at a time

Size = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class Scale:
    """How large images are looked at.

    Attributes:
        image_size: one value is the shorter side, two are exact width and height.
        metres: physical size of a pixel that the model looks at; None where the training images state none.

    >>> Scale((360,)).look((7200, 9600)), Scale((360,), metres=2.0).look((7200, 9600), metres=0.5)
    ((360, 480), (1800, 2400))
    """

    image_size: tuple[int, ...]
    metres: float | None = None

    def look(self, size: Size, metres: float | None = None) -> Size:
        """The (height, width) at which the model looks at an image of a size whose pixels are so many metres.

        Raises:
            DataError: the image's pixels are more than four times as large as the model's.
        """
        if self.metres is None or metres is None or len(self.image_size) == 2:
            return target_size(*size, self.image_size)
        factor = metres / self.metres
        if factor > MAX_ENLARGEMENT:
            raise DataError(
                f"its pixels are {length_text(metres)} wide, and the model looks at pixels of {length_text(self.metres)}; the "
                f"image would be enlarged {factor:.0f} times, and at most {MAX_ENLARGEMENT} times is allowed. Take an "
                "image of finer resolution, or a model that was trained on images like this one. tile=512 looks at "
                "the pixels as they are."
            )
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


@dataclass(frozen=True)
class Piece:
    """A decided rectangle of an image: class ids and their probabilities, each (h, w), from (top, left)."""

    top: int
    left: int
    ids: NDArray[np.uint8]
    sure: NDArray[np.float32]


def resized(read: ReadWindow, size: Size, target: Size) -> ReadWindow:
    """Windows of an image brought from `size` to `target`, of which no more than is needed is read.

    They are what `resize_image` makes of the whole image, bit for bit where it shrinks: OpenCV's area average is
    computed here row by row with the same float32 weights.
    """
    if size == target:
        return read
    steps = [n // t for n, t in zip(size, target, strict=True)]
    if all(n == s * t for n, s, t in zip(size, steps, target, strict=True)):
        return _whole_steps(read, steps, target)
    down, across = (
        _weights(n, t, _method(size, target)) for n, t in zip(size, target, strict=True)
    )

    def window(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        found = np.empty((bottom - top, right - left, 3), np.uint8)
        columns, first, end = _used(across, left, right)
        rows = max(1, int(_STRIP / (end - first) * target[0] / size[0]))
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            lines, upper, lower = _used(down, start, stop)
            pixels = read(upper, first, lower, end).transpose(1, 0, 2).astype(np.float32)
            narrow = columns @ pixels.reshape(end - first, -1)
            narrow = narrow.reshape(right - left, lower - upper, 3).transpose(1, 0, 2)
            levels = lines @ np.ascontiguousarray(narrow).reshape(lower - upper, -1)
            found[start - top : stop - top] = (
                np.rint(levels).clip(0, 255).reshape(stop - start, right - left, 3)
            )
        return found

    return window


def _whole_steps(read: ReadWindow, steps: Sequence[int], target: Size) -> ReadWindow:
    """Each pixel is the mean of a block of whole pixels: windows are resized by OpenCV as the whole would be."""

    def window(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        found = np.empty((bottom - top, right - left, 3), np.uint8)
        rows = max(1, _STRIP // (steps[0] * steps[1] * (right - left)))
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            part = read(start * steps[0], left * steps[1], stop * steps[0], right * steps[1])
            found[start - top : stop - top] = resize_image(
                np.ascontiguousarray(part), stop - start, right - left
            )
        return found

    return window


Method = Literal["area", "linear", "area_linear"]


def _method(size: Size, target: Size) -> Method:
    """How OpenCV computes what `resize_image` asks for: INTER_AREA averages only where no side grows."""
    if target[0] * target[1] >= size[0] * size[1]:
        return "linear"
    return "area" if target[0] <= size[0] and target[1] <= size[1] else "area_linear"


def _weights(length: int, target: int, method: Method) -> csr_matrix:
    """(target, length): the weight of each pixel along a side."""
    step = 1.0 / (target / length)
    places = np.arange(target)
    if method != "area":
        if method == "linear":
            center = ((places + 0.5) * step - 0.5).clip(0, length - 1)
        else:  # OpenCV's rule for INTER_AREA where a side grows: two neighbours, weighted by their overlap
            first = np.floor(places * step)
            overlap = (places + 1) - (first + 1) / step
            center = (first + np.where(overlap <= 0, 0, overlap - np.floor(overlap))).clip(
                0, length - 1
            )
        low = np.floor(center).astype(np.int64)
        high, share = np.minimum(low + 1, length - 1), (center - low).astype(np.float32)
        values = np.stack([1 - share, share], 1).ravel()
        return csr_matrix(
            (values, (places.repeat(2), np.stack([low, high], 1).ravel())), (target, length)
        )
    data: list[float] = []
    columns: list[int] = []
    ends = [0]
    for begin in (places * step).tolist():
        end, cell = begin + step, min(step, length - begin)
        last = min(int(np.floor(end)), length - 1)
        first = min(int(np.ceil(begin)), last)
        inside = [(column, 1.0) for column in range(first, last)]
        before = [(first - 1, first - begin)] if first - begin > 1e-3 else []
        after = [(last, min(end - last, 1.0, cell))] if end - last > 1e-3 else []
        for column, part in (*before, *inside, *after):
            columns.append(column)
            data.append(part / cell)
        ends.append(len(data))
    return csr_matrix((np.array(data, np.float32), columns, ends), (target, length))


def _used(weights: csr_matrix, start: int, stop: int) -> tuple[csr_matrix, int, int]:
    """Some rows of a matrix without the columns, at both ends, that count nothing in them: and which are left."""
    rows = weights[start:stop]
    first, end = int(rows.indices.min()), int(rows.indices.max()) + 1
    return (
        csr_matrix((rows.data, rows.indices - first, rows.indptr), (stop - start, end - first)),
        first,
        end,
    )


def at_size(parts: Iterator[Part], look: Size, size: Size) -> Iterator[Piece]:
    """Decisions at an image's own size, of parts of its logits at the size of the look; each pixel once.

    Logits are interpolated as those of the whole image would be: the last line of a part waits for the next one.
    """
    steps = look[0] / size[0], look[1] / size[1]
    above: torch.Tensor | None = None
    begin = 0
    for part in parts:
        if part.top == 0:
            above, begin = None, 0
        logits = part.logits if above is None else torch.cat([above, part.logits], 1)
        top = part.top - (above is not None)
        last = part.top + part.logits.shape[1]
        end = (
            size[0]
            if last == look[0]
            else min(size[0], math.floor((last - 0.5) / steps[0] - 0.5) + 1)
        )
        end = max(begin, end)
        left, right = (round(edge / steps[1]) for edge in part.columns)
        origin = (top, part.left)
        for rows, ids, sure in decided_rectangle(
            logits, origin, look, steps, (begin, end), (left, right)
        ):
            yield Piece(rows, left, ids, sure)
        above, begin = part.logits[:, -1:], end
