"""Run lengths of masks, decoded in Python: no sum or sign is left to C code.

Every function raises ValueError where the run lengths do not fill the mask exactly.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]


def decode_coco(counts: object, height: int, width: int) -> Bits:
    """Decode COCO's run lengths, a list or its compressed text; runs go column by column."""
    runs = _uncompress(counts) if isinstance(counts, str | bytes) else counts
    return fill_runs(runs, width, height).T


def fill_runs(runs: object, height: int, width: int) -> Bits:
    """A mask, (height, width), from runs that go row by row; the first is outside the object.

    >>> fill_runs([1, 2, 1], 2, 2).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    lengths = _whole_numbers(runs)
    total = sum(lengths)  # of Python's integers, which do not overflow
    if min(lengths, default=0) < 0:
        raise ValueError(f"a run length is {min(lengths)}; 0 or more is allowed")
    if total != height * width:
        raise ValueError(
            f"its run lengths sum to {total:,} pixels, but {height} x {width} are "
            f"{height * width:,}; both must be equal"
        )
    inside = np.arange(len(lengths)) % 2 == 1
    return np.asarray(np.repeat(inside, lengths).reshape(height, width), bool)


def _whole_numbers(runs: object) -> list[int]:
    if not isinstance(runs, list | tuple | np.ndarray):
        raise ValueError(f"its run lengths are {str(runs)[:40]!r}; a list of numbers is allowed")
    values: list[Any] = runs.tolist() if isinstance(runs, np.ndarray) else list(runs)
    lengths = []
    for run in values:
        is_number = isinstance(run, int | float) and not isinstance(run, bool)
        if not is_number or run != run or run in (np.inf, -np.inf) or run != int(run):
            raise ValueError(f"a run length is {run!r}; whole numbers are allowed")
        lengths.append(int(run))
    return lengths


def _uncompress(text: str | bytes) -> NDArray[np.int64]:
    """COCO's compressed run lengths: groups of five bits, the sixth says that more follow.

    From the fourth on, a number is the difference from the one two before it.
    """
    raw = text.encode() if isinstance(text, str) else text
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError(f"its counts are {str(text)[:40]!r}, which is no text of run lengths")
    ends = np.flatnonzero(groups & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError("its counts hold a run length of more than 32 bits")
    position = np.arange(len(groups)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((groups & 31) << (5 * position), starts)
    is_negative = groups[ends] & 16 != 0
    numbers -= np.where(is_negative, np.int64(1) << (5 * lengths), 0)
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers


def decode_brush(packed: Sequence[Any], height: int, width: int) -> Bits:
    """Decode Label Studio's run lengths: a bit stream of an RGBA image, whose alpha is the area.

    The stream holds the number of values (32 bits), the size of a value (5), four sizes of run
    lengths (4 each), and then runs: one bit for "one value repeated", two bits for the size of the
    run length, the run length, and the values. All sizes and run lengths are stored less one.
    """
    octets = _whole_numbers(packed)
    if octets and not 0 <= min(octets) <= max(octets) <= 255:
        raise ValueError("its rle holds numbers outside 0..255")
    bits = np.unpackbits(np.array(octets, np.uint8))
    position = 0

    def take(count: int) -> int:
        nonlocal position
        part = bits[position : position + count]
        if len(part) < count:
            raise ValueError("the run lengths end early")
        position += count
        return int("".join(map(str, part)), 2)

    total, value_bits = take(32), take(5) + 1
    length_bits = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise ValueError(f"its rle holds {total:,} values, but {height} x {width} x 4 are needed")
    is_set = np.zeros(total, bool)
    start = 0
    while start < total:
        is_repeated = take(1)
        end = start + take(length_bits[take(2)]) + 1
        if end > total:
            raise ValueError(f"its rle holds more than {total:,} values")
        if is_repeated:
            is_set[start:end] = take(value_bits) > 0
        else:
            is_set[start:end] = [take(value_bits) > 0 for _ in range(end - start)]
        start = end
    return np.asarray(is_set.reshape(height, width, 4)[..., 3])
