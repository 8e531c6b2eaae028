"""Masks as arrays: of NumPy (`.npy`) or in files of MATLAB (`.mat`)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.defaults import MAX_PIXELS
from segtune.data.reading.decoding import check_size
from segtune.data.reading.matlab import is_matlab, read_matlab
from segtune.errors import DataError
from segtune.runtime.regular import read_regular

_MAGIC = b"\x93NUMPY"


def is_array(source: str | Path | bytes | bytearray) -> bool:
    """Whether a file, or the bytes of one, is an array of NumPy or MATLAB."""
    if isinstance(source, bytes | bytearray):
        return source.startswith(_MAGIC) or is_matlab(source)
    return Path(source).suffix.lower() in (".npy", ".mat")


def read_array(
    source: str | Path | bytes | bytearray, name: str, variable: str | None = None
) -> NDArray[Any]:
    """Read the array of a mask: (H, W) numbers, or (H, W, 3) colours of uint8.

    An axis of length 1 before or behind the pixels is dropped; False and True become 0 and 1.
    Objects are not read: they could run code.

    Args:
        name: of the mask, for messages.
        variable: the array of a MATLAB file that holds several.

    Raises:
        DataError: the file cannot be read, is cut off, or is no such array.
    """
    try:
        data = source if isinstance(source, bytes | bytearray) else read_regular(source)
    except OSError as error:
        raise DataError(f"mask '{name}' cannot be read: {error.strerror or error}") from None
    if is_matlab(data) or name.lower().endswith(".mat"):
        array = read_matlab(data, name, variable)
        _check(array.shape, array.dtype, name)
    else:
        array = _load_numpy(data, name)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    return np.asarray(array, np.uint8 if array.dtype == bool else array.dtype)


def _load_numpy(data: bytes | bytearray, name: str) -> NDArray[Any]:
    try:
        shape, kind = _header(io.BytesIO(data))
        _check(shape, kind, name)
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except DataError:
        raise
    except Exception as error:  # headers are parsed as Python, which raises errors of many types
        raise DataError(f"mask '{name}' cannot be read as a NumPy array: {error}") from None


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
