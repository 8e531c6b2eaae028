"""From the numbers of an image to bytes: by their type and declared range, never by what one image happens to hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.errors import DataError

ValueRange = tuple[float, float]
"""(black, white): the values that become 0 and 255."""

_STRIP = 2**20  # pixels that are composited at a time
_OVERSHOOT = (
    0.1  # resampling with a cubic kernel goes beyond the range of its input by about as much
)


def to_bytes(
    values: NDArray[Any], name: str, value_range: ValueRange | None = None, bits: int | None = None
) -> NDArray[np.uint8]:
    """Values of any shape as bytes.

    Without a range, bool is 0 and 1, unsigned integers of 8 and 16 bits span all that their bits hold, and floats
    [0, 1]; floats up to a tenth beyond are cut, and NaN is black.

    Args:
        name: what messages call the image.
        value_range: the values that become 0 and 255; those beyond are cut.
        bits: how many bits of an unsigned integer are used, where that is fewer than it has.

    Raises:
        DataError: a type whose range cannot be known, or floats beyond [0, 1].

    >>> to_bytes(np.array([0, 257, 65535], np.uint16), "image").tolist()
    [0, 1, 255]
    >>> to_bytes(np.array([0, 4095, 5000]), "image", value_range=(0, 4095)).tolist()
    [0, 255, 255]
    """
    values = values.astype(
        values.dtype.newbyteorder("="), copy=False
    )  # files may hold the other byte order
    if value_range is not None:
        return _scaled(values, value_range, name)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype in (np.uint8, np.uint16):
        return _unsigned(values, bits or 8 * values.dtype.itemsize)
    if np.issubdtype(values.dtype, np.floating):
        _check_unit_range(values, name)
        return _scaled(values, (0.0, 1.0), name)
    raise DataError(
        f"{name} holds {values.dtype} values; which of them are black and white cannot be known from that type. "
        f"Allowed: uint8, uint16, bool, and floats in [0, 1]. {_REMEDY}"
    )


_REMEDY = (
    "Convert it (a file: gdal_translate -ot Byte -scale BLACK WHITE 0 255 IN OUT; an array of 0..255: "
    "image.astype(numpy.uint8)), or pass value_range=(BLACK, WHITE) to segtune.read_image."
)


def _unsigned(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    highest = 2**bits - 1
    levels = np.rint(np.arange(highest + 1) * (255.0 / highest)).astype(np.uint8)
    return np.asarray(levels.take(values, mode="clip"), np.uint8)


def _scaled(values: NDArray[Any], value_range: ValueRange, name: str) -> NDArray[np.uint8]:
    black, white = value_range
    if not (np.isfinite(value_range).all() and black < white):
        raise DataError(
            f"value_range=({black}, {white}): two numbers are expected, the smaller one first."
        )
    if (
        values.dtype == np.bool_
        or not np.issubdtype(values.dtype, np.number)
        or np.iscomplexobj(values)
    ):
        raise DataError(f"{name} holds {values.dtype} values, for which there is no value_range.")
    # 32-bit integers need more than the 24 bits of a float32
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    share: NDArray[Any] = values.astype(np.float32 if small else np.float64)
    share -= black
    share *= 255.0 / (white - black)
    return np.asarray(np.rint(np.nan_to_num(share, copy=False)).clip(0, 255), np.uint8)


def _check_unit_range(values: NDArray[Any], name: str) -> None:
    if not values.size or np.isnan(values).all():
        return
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    if lowest < -_OVERSHOOT or highest > 1 + _OVERSHOOT:
        raise DataError(
            f"{name} holds {values.dtype} values from {lowest:g} to {highest:g}; floats are expected in [0, 1]. "
            + (
                "Divide them by 255 if they are 0..255. "
                if -1 <= lowest and 1 < highest <= 256
                else ""
            )
            + _REMEDY
        )


def on_white(
    rgb: NDArray[np.uint8], opacity: NDArray[np.uint8], premultiplied: bool = False
) -> NDArray[np.uint8]:
    """Colours (H, W, 3) laid on white by their opacity (H, W).

    Args:
        premultiplied: the colours are multiplied by their opacity already (TIFF's associated alpha).
    """
    if (opacity == 255).all():
        return np.ascontiguousarray(rgb)
    shown = np.empty(rgb.shape, np.uint8)
    rows = max(1, _STRIP // rgb.shape[1])
    for start in range(0, len(rgb), rows):
        part, alpha = (
            rgb[start : start + rows].astype(np.uint16),
            opacity[start : start + rows, :, None],
        )
        white = np.uint16(255) - alpha
        if premultiplied:
            shown[start : start + rows] = (part + white).clip(max=255)
        else:
            shown[start : start + rows] = (part * alpha + 255 * white + 127) // 255
    return shown
