"""Masks in MATLAB's files (`.mat`, version 7 and before)."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import DataError

_HEADER = b"MATLAB "
_HDF5 = b"\x89HDF\r\n\x1a\n"
_DEPTH = 4  # of structures in structures


def is_matlab(data: bytes | bytearray) -> bool:
    """Whether bytes are those of a file of MATLAB 5 or later, or of HDF5."""
    return data.startswith((_HEADER, _HDF5))


def read_matlab(data: bytes | bytearray, name: str, variable: str | None) -> NDArray[Any]:
    """Read the array of a mask, (H, W) or (H, W, 3): the only one, also inside structures.

    Args:
        name: of the mask, for messages.
        variable: the array to read, as `S` or, in a structure, `GTcls.Segmentation`.

    Raises:
        DataError: the file cannot be read, is of version 7.3, or does not hold the one array.
    """
    if data.startswith((_HEADER + b"7.3", _HDF5)):
        raise DataError(
            f"mask '{name}' is a MATLAB file of version 7.3 (HDF5), which is not read. Save it "
            "with save(file, 'mask', '-v7'), or convert the masks to PNG."
        )
    arrays = _arrays(_load(data, name), "")
    if variable is not None:
        chosen = {key: array for key, array in arrays.items() if key == variable}
    else:
        chosen = arrays
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    listed = ", ".join(f"{k} {'x'.join(map(str, a.shape))}" for k, a in list(arrays.items())[:8])
    raise DataError(
        f"mask '{name}' holds the arrays {listed or 'none'}; one of class ids (H, W) is needed. "
        "Name it, as dataset.mask_variable=S, or dataset.mask_variable=GTcls.Segmentation in a "
        "structure."
    )


def _load(data: bytes | bytearray, name: str) -> dict[str, Any]:
    import scipy.io

    try:
        for variable, shape, _ in scipy.io.whosmat(io.BytesIO(data)):
            if np.prod(shape, dtype=float) > 4 * MAX_PIXELS:
                raise ValueError(f"{variable} has the shape {shape}")
        content = scipy.io.loadmat(io.BytesIO(data))
    except Exception as error:  # of many types: SciPy trusts the lengths that a file states
        raise DataError(f"mask '{name}' cannot be read as a MATLAB file: {error}") from None
    return {key: value for key, value in content.items() if not key.startswith("__")}


def _arrays(content: dict[str, Any], prefix: str) -> dict[str, NDArray[Any]]:
    """Path -> array with two axes of pixels; vectors, texts and lists are none."""
    arrays: dict[str, NDArray[Any]] = {}
    for key, value in content.items():
        path = prefix + key
        if not isinstance(value, np.ndarray):
            continue  # a sparse matrix, or a function
        if value.dtype.names and value.size == 1 and prefix.count(".") < _DEPTH:
            fields = {field: value.flat[0][field] for field in value.dtype.names}
            arrays |= _arrays(fields, f"{path}.")
        elif value.dtype.kind in "buif" and value.ndim in (2, 3) and min(value.shape[:2]) > 1:
            arrays[path] = value
    return arrays
