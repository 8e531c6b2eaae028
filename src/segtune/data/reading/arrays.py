"""Masks as NumPy arrays (`.npy`)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.defaults import MAX_PIXELS
from segtune.data.reading.decoding import check_size
from segtune.errors import DataError

ARRAY = "NPY"
_MAGIC = b"\x93NUMPY"


def is_array(source: str | Path | bytes | bytearray) -> bool:
    """Whether a file, or the bytes of one, is a NumPy array."""
    if isinstance(source, bytes | bytearray):
        return source[: len(_MAGIC)] == _MAGIC
    return Path(source).suffix.lower() == ".npy"


def read_array(source: str | Path | bytes | bytearray, name: str) -> NDArray[Any]:
    """Read the array of a mask: (H, W) numbers, or (H, W, 3) colours of uint8.

    An axis of length 1 before or behind the pixels is dropped; False and True become 0 and 1.
    Objects are not read: they could run code.

    Args:
        name: of the mask, for messages.

    Raises:
        DataError: the file cannot be read, is cut off, or is no such array.
    """
    try:
        data = source if isinstance(source, bytes | bytearray) else Path(source).read_bytes()
        shape, kind = _header(io.BytesIO(data))
        _check(shape, kind, name)
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # headers are parsed as Python, which raises errors of many types
        raise DataError(f"mask '{name}' cannot be read as a NumPy array: {error}") from None
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    return np.asarray(array, np.uint8 if array.dtype == bool else array.dtype)


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the numbers."""
    if np.lib.format.read_magic(file) == (1, 0):
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, kind = np.lib.format.read_array_header_2_0(file)
    return shape, kind


def _check(shape: tuple[int, ...], kind: np.dtype[Any], name: str) -> None:
    """Refuse an array that is no mask, before its numbers are read.

    Raises:
        DataError: see `read_array`.
    """
    is_colored = len(shape) == 3 and shape[2] == 3 and kind == np.uint8
    is_flat = len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))
    if kind.kind not in "buif" or 0 in shape or not (is_flat or is_colored):
        raise DataError(
            f"mask '{name}' is an array of shape {shape} and type {kind}; ids (H, W), or colours "
            "(H, W, 3) of uint8, are allowed. If it holds a layer for each class: "
            "numpy.save(path, layers.argmax(0).astype('uint8'))."
        )
    if is_flat and len(shape) == 3:
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    check_size(shape[0], shape[1], name, MAX_PIXELS)
