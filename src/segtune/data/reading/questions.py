"""Image files that can be read in several ways, of which a dataset must choose one."""

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.decoding import decode, open_image
from segtune.data.reading.rasters import opened_raster, page_count
from segtune.data.reading.values import Reading

NARROW = 64
"""Brightest level, of 255, of images of more than 8 bits that use a small part of their range."""

_SOFT_SHARE = 0.5  # share of half transparent pixels from which a band is no opacity
_SOFT_LEVELS = 16
_PNG_DEPTH = 24  # offset of the bits of a value


class Question(NamedTuple):
    """A choice that the file does not make.

    Attributes:
        kind: a key of the check's kinds of faults.
    """

    kind: str
    message: str


def open_question(data: bytes, name: str, reading: Reading) -> Question | None:
    """The choice that the bytes of an image leave open; None if there is none.

    Raises:
        DataError: the file cannot be read.
    """
    pages = page_count(data) if reading.page is None else 1
    if pages > 1:
        return Question(
            "several_pages",
            f"'{name}' has {pages} pages. dataset.page=1 reads the first page of each image and "
            "of its mask; to use all, write each page to a file of its own.",
        )
    if reading.bands is not None:
        return None
    opacity = _opacity(data, name)
    if opacity is None:
        return None
    soft = opacity[(opacity > 0) & (opacity < np.iinfo(opacity.dtype).max)]
    if soft.size > _SOFT_SHARE * opacity.size and len(np.unique(soft)) > _SOFT_LEVELS:
        return Question(
            "alpha_is_a_band",
            f"'{name}' says that its last band is opacity, but {soft.size / opacity.size:.0%} of "
            "its pixels are half transparent, as in a band of data (near infrared). "
            "'dataset.bands=[1,2,3]' reads the first three bands.",
        )
    return None


def value_bits(data: bytes, name: str) -> int:
    """Bits of a value of an image file.

    Raises:
        DataError: the file cannot be read.
    """
    with opened_raster(data, name, reading=Reading(bands=(1,))) as raster:
        if raster is not None:
            return raster.bits
    with open_image(data, name) as image:
        if image.format == "PNG":
            return int(struct.unpack_from(">B", data, _PNG_DEPTH)[0])
        return 16 if image.mode.startswith("I") else 8


def narrow_range(brightest: int, bits: int) -> list[float]:
    """The range of values, from 0, that images use whose brightest level is at most `NARROW`.

    >>> narrow_range(12, 16)
    [0, 4095]
    """
    if bits > 16:
        return [0, round((brightest + 1) / 255, 3)]
    highest = max(brightest - 0.5, 0.5) / 255 * (2**bits - 1)
    return [0, 2 ** int(np.ceil(np.log2(highest + 1))) - 1]


def _opacity(data: bytes, name: str) -> NDArray[Any] | None:
    """The opacity of an image, (H, W); None without one, or where it is no number of bits."""
    with opened_raster(data, name) as raster:
        if raster is not None:
            opacity = raster.opacity()
            is_integer = opacity is not None and np.issubdtype(opacity.dtype, np.unsignedinteger)
            return opacity if is_integer else None
    with open_image(data, name) as image:
        if image.mode not in ("LA", "RGBA"):
            return None
        return np.asarray(np.array(decode(image, name, upright=False))[..., -1])
