"""From the values of an image to bytes, by their type and declared range alone.

The values of a single image never decide, so that all images of a dataset are treated alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.errors import DataError

ValueRange = tuple[float, float]
"""(black, white): the values that become 0 and 255."""


@dataclass(frozen=True)
class Reading:
    """How the image files of a dataset are read, where they do not say it themselves.

    Attributes:
        value_range: see `read_image`.
        bands: numbers, from 1, of the bands shown as grey, or as red, green and blue.
        page: number, from 1, of the page that is read.
    """

    value_range: ValueRange | None = None
    bands: tuple[int, ...] | None = None
    page: int | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Reading":
        """From a description, as of a segmenter, which may hold other facts as well."""
        stated, bands = facts.get("value_range"), facts.get("bands")
        value_range = None if stated is None else (float(stated[0]), float(stated[1]))
        return cls(value_range, None if bands is None else tuple(bands), facts.get("page"))

    def to_json(self) -> dict[str, Any]:
        """Plain data: what is stated."""
        facts: dict[str, Any] = {}
        if self.value_range is not None:
            facts["value_range"] = list(self.value_range)
        if self.bands is not None:
            facts["bands"] = list(self.bands)
        if self.page is not None:
            facts["page"] = self.page
        return facts


_STRIP = 2**20  # pixels that are composited at a time
_OVERSHOOT = 0.1  # resampling with a cubic kernel exceeds the range of its input by about as much


def to_bytes(
    values: NDArray[Any], name: str, value_range: ValueRange | None = None, bits: int | None = None
) -> NDArray[np.uint8]:
    """Convert values of any shape to bytes.

    Without a `value_range` the range is 0..1 for bool, 0..2**bits - 1 for unsigned integers of 8
    and 16 bits, and [0, 1] for floats. Floats up to 0.1 outside are clipped. NaN becomes 0.

    Args:
        name: of the image, for messages.
        value_range: the values that become 0 and 255; values outside are clipped.
        bits: used bits of an unsigned integer, if fewer than its type has.

    Raises:
        DataError: a type whose range is unknown, or floats outside [0, 1].

    >>> to_bytes(np.array([0, 257, 65535], np.uint16), "image").tolist()
    [0, 1, 255]
    >>> to_bytes(np.array([0, 4095, 5000]), "image", value_range=(0, 4095)).tolist()
    [0, 255, 255]
    """
    native = values.dtype.newbyteorder("=")  # files may have the other byte order
    values = values.astype(native, copy=False)
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
        f"{name} holds {values.dtype} values; which of them are black and white cannot be known "
        f"from that type. Allowed: uint8, uint16, bool, and floats in [0, 1]. {_REMEDY}"
    )


_REMEDY = (
    "Convert it (a file: gdal_translate -ot Byte -scale BLACK WHITE 0 255 IN OUT; an array of "
    "0..255: image.astype(numpy.uint8)), or pass value_range=(BLACK, WHITE) to segtune.read_image; "
    "for a dataset: 'dataset.value_range=[BLACK,WHITE]'."
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
    is_real = np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values)
    if not is_real:
        raise DataError(f"{name} holds {values.dtype} values, for which there is no value_range.")
    # a float32 has 24 bits: too few for integers of 32 bits
    fits_float32 = values.dtype.itemsize <= 2 or values.dtype == np.float32
    levels: NDArray[Any] = values.astype(np.float32 if fits_float32 else np.float64)
    levels -= black
    levels *= 255.0 / (white - black)
    return np.asarray(np.rint(np.nan_to_num(levels, copy=False)).clip(0, 255), np.uint8)


def _check_unit_range(values: NDArray[Any], name: str) -> None:
    if not values.size or np.isnan(values).all():
        return
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    if lowest < -_OVERSHOOT or highest > 1 + _OVERSHOOT:
        looks_like_bytes = lowest >= -1 and 1 < highest <= 256
        hint = "Divide them by 255 if they are 0..255. " if looks_like_bytes else ""
        raise DataError(
            f"{name} holds {values.dtype} values from {lowest:g} to {highest:g}; floats are "
            f"expected in [0, 1]. {hint}{_REMEDY}"
        )


def on_white(
    rgb: NDArray[np.uint8], opacity: NDArray[np.uint8], premultiplied: bool = False
) -> NDArray[np.uint8]:
    """Composite colours (H, W, 3) on white by their opacity (H, W).

    Args:
        premultiplied: the colours are already multiplied by their opacity (TIFF's associated
            alpha).
    """
    if (opacity == 255).all():
        return np.ascontiguousarray(rgb)
    result = np.empty(rgb.shape, np.uint8)
    rows = max(1, _STRIP // rgb.shape[1])
    for start in range(0, len(rgb), rows):
        strip = slice(start, start + rows)
        colors, alpha = rgb[strip].astype(np.uint16), opacity[strip, :, None]
        white = np.uint16(255) - alpha
        if premultiplied:
            result[strip] = (colors + white).clip(max=255)
        else:
            result[strip] = (colors * alpha + 255 * white + 127) // 255
    return result


def check_bands(bands: tuple[int, ...], number: int, name: str) -> None:
    """Check that an image has the bands that are asked for.

    Raises:
        DataError: it has fewer.
    """
    if max(bands) > number:
        raise DataError(
            f"'{name}' has {number} bands; dataset.bands={list(bands)} asks for band {max(bands)}."
        )


def padded_bands(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Values of one to three bands; two get a third of zeros."""
    if values.shape[axis] != 2:
        return values
    third = np.zeros_like(values.take([0], axis=axis))
    return np.concatenate([values, third], axis=axis)
