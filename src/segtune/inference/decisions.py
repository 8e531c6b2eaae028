"""From logits to decisions: the class of each pixel and how sure the model is of it, at whatever size.

On a CPU logits are brought to that size strip by strip, each small enough for a cache: those of the whole image
never exist. Of a photo of twelve million pixels and 150 classes they were 7 GB, and most of the time of any photo that
is larger than what its model looks at (LOG.md).
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segtune.errors import DataError

_STRIP = 2**20  # logits: 4 MB
_DEVICE_STRIP = 2**27  # logits on a GPU: 512 MB
_LOG2_E = math.log2(math.e)

Decided = tuple[NDArray[np.uint8], NDArray[np.float32]]


def decide(logits: Tensor, size: Sequence[int], grid: Sequence[int] | None = None) -> list[Decided]:
    """Class ids and their softmax probabilities, each (H, W), of logits (B, C, h, w), interpolated bilinearly.

    Args:
        size: (H, W).
        grid: what the logits span, where that is more than `size`: the image was padded below and on the right.

    Raises:
        DataError: logits that are not finite.

    >>> logits = torch.tensor([[0.0, 4.0], [1.0, 0.0]]).reshape(1, 2, 1, 2)  # two classes of two pixels
    >>> ids, sure = decide(logits, (1, 4))[0]
    >>> ids.tolist(), (100 * sure).astype(int).tolist()
    ([[1, 0, 0, 0]], [[73, 56, 93, 98]])
    """
    found = []
    for one in logits:
        ids, sure = np.empty(tuple(size), np.uint8), np.empty(tuple(size), np.float32)
        for rows, some_ids, some_sure in decided_strips(one, size, grid):
            ids[rows], sure[rows] = some_ids, some_sure
        found.append((ids, sure))
    return found


def decided_strips(
    logits: Tensor, size: Sequence[int], grid: Sequence[int] | None = None
) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.float32]]]:
    """What `decide` gives of one image's logits (C, h, w), some rows at a time, from top to bottom."""
    for rows, strip, spare in _strips(logits, size, grid or size):
        yield rows, *_decided(strip, spare)


def decided_rectangle(
    logits: Tensor,
    origin: Sequence[int],
    look: Sequence[int],
    steps: Sequence[float],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.float32]]]:
    """First row, ids and probabilities of some rows at a time of a rectangle, of logits (C, h, w) of a part of it.

    Args:
        origin: (top, left) of the logits within a look of (height, width) `look`.
        steps: down and across: how many pixels of the look are one of the image.
        rows: the first and the end of the rectangle's rows in the image.
        columns: likewise.
    """
    for start, strip in _interpolated(logits, origin, look, steps, rows, columns):
        yield start, *_decided(strip, torch.empty_like(strip))


def _decided(strip: Tensor, spare: Tensor) -> Decided:
    """Ids and probabilities (h, W) of logits (h, C, W) to the base of 2, which are used up.

    Raises:
        DataError: logits that are not finite.
    """
    ids = _leading(strip, spare).to(torch.uint8)
    sure = strip.exp2_().sum(1).reciprocal_().cpu().numpy()
    if not np.isfinite(sure.sum()):  # one figure: NaN or infinity anywhere stays in a sum
        raise DataError(
            "the model's outputs are not finite, so that they decide nothing: its weights, or the precision that it "
            "computes in (runtime=eager is fp32), do not fit this image."
        )
    return ids.cpu().numpy(), sure


def _interpolated(
    logits: Tensor,
    origin: Sequence[int],
    look: Sequence[int],
    steps: Sequence[float],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Iterator[tuple[int, Tensor]]:
    """First row, and logits (h, C, W) to the base of 2, of some rows at a time of a rectangle."""
    device = logits.device
    (above, below, down), (before, after, across) = (
        _places(first, end, step, length, begin, lines, device)
        for (first, end), step, length, begin, lines in zip(
            (rows, columns), steps, look, origin, logits.shape[1:], strict=True
        )
    )
    limit = _STRIP if device.type == "cpu" else _DEVICE_STRIP
    height, step = (
        rows[1] - rows[0],
        max(1, limit // (len(logits) * max(1, columns[1] - columns[0]))),
    )
    for start in range(0, height, step):
        some = slice(start, min(start + step, height))
        first, end = int(above[some][0]), int(below[some][-1]) + 1
        seen = logits[:, first:end].transpose(0, 1).float() * _LOG2_E
        wide = seen.index_select(2, before).lerp_(seen.index_select(2, after), across)
        upper, lower = (wide.index_select(0, place[some] - first) for place in (above, below))
        yield rows[0] + start, upper.lerp_(lower, down[some, None, None])


def _places(
    first: int, end: int, step: float, length: int, begin: int, lines: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Of pixels along a side: the lines on both sides of each, counted from `begin`, and the share of the second."""
    place = ((torch.arange(first, end, dtype=torch.float64) + 0.5) * step - 0.5).clamp_(
        0, length - 1
    ) - begin
    place = place.clamp_(0, lines - 1)
    low = place.long()
    share = (place - low).float()
    return low.to(device), (low + 1).clamp_(max=lines - 1).to(device), share.to(device)


def class_ids(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Class ids (B, H, W) uint8 of logits (B, C, h, w): what `decide` gives, without the probabilities."""
    ids = torch.empty((len(logits), *size), dtype=torch.uint8, device=logits.device)
    for one, target in zip(logits, ids, strict=True):
        for rows, strip, spare in _strips(one, size, size):
            target[rows] = _leading(strip, spare)
    return ids


def _leading(strip: Tensor, spare: Tensor) -> Tensor:
    """Which of (h, C, w) is the largest, the first of several, as floats (h, w); `strip` is less its value, then.

    By arithmetic that a CPU does for many pixels at once: `max(1)` takes pixel after pixel.
    """
    strip -= strip.amax(1, keepdim=True)
    last = strip.shape[1] - 1
    rank = torch.arange(last, -1, -1, dtype=strip.dtype, device=strip.device)[:, None]
    return last - torch.add(rank, strip, alpha=1e30, out=spare).amax(
        1
    )  # the largest are 0, all others far below


def _strips(
    logits: Tensor, size: Sequence[int], grid: Sequence[int]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows, their logits (rows, C, W) to the base of 2, and memory for as many, of logits (C, h, w) that span `grid`.

    The memory of one strip is that of the next. To the base of 2, for a CPU takes powers of it in half the time.
    """
    (height, width), alike = size, tuple(grid) == tuple(logits.shape[1:])
    if logits.device.type != "cpu" and len(logits) * grid[0] * grid[1] > _DEVICE_STRIP:
        steps = logits.shape[1] / grid[0], logits.shape[2] / grid[1]
        for start, strip in _interpolated(
            logits, (0, 0), logits.shape[1:], steps, (0, height), (0, width)
        ):
            yield slice(start, start + len(strip)), strip, torch.empty_like(strip)
        return
    if logits.device.type != "cpu":  # where strips would only be more calls
        whole = (
            logits[None]
            if alike
            else F.interpolate(logits[None], size=tuple(grid), mode="bilinear")
        )
        strip = (whole[0, :, :height, :width].float() * _LOG2_E).transpose(0, 1).contiguous()
        yield slice(0, height), strip, torch.empty_like(strip)
        return
    classes, lines = logits.shape[:2]
    step = max(1, _STRIP // (classes * grid[1]))
    kept = torch.empty(2, min(step, height), classes, width)
    place = ((torch.arange(height) + 0.5) * (lines / grid[0]) - 0.5).clamp_(0, lines - 1)
    above = place.long()
    below, share = (above + 1).clamp_(max=lines - 1), (place - above)[:, None, None]
    reach = max(
        int(below[min(start + step, height) - 1] - above[start]) + 1
        for start in range(0, height, step)
    )
    broad = np.empty((reach * classes, grid[1]), np.float32)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        strip, spare = kept[:, : rows.stop - start]
        if alike:
            torch.mul(logits[:, rows, :width].transpose(0, 1), _LOG2_E, out=strip)
        else:
            first, beyond = int(above[start]), int(below[rows.stop - 1]) + 1
            seen = (logits[:, first:beyond].transpose(0, 1).float() * _LOG2_E).contiguous()
            wide = broad[: len(seen) * classes]
            cv2.resize(seen.flatten(0, 1).numpy(), wide.shape[::-1], dst=wide)
            lying = torch.from_numpy(wide).view(len(seen), classes, grid[1])[..., :width]
            torch.index_select(lying, 0, above[rows] - first, out=strip)
            torch.index_select(lying, 0, below[rows] - first, out=spare)
            strip.lerp_(spare, share[rows])
        yield rows, strip, spare
