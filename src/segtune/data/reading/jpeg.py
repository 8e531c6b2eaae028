"""Decode JPEGs strictly: a warning of the decoder counts where pixels are missing or damaged."""

import re
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_APP0, _ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
_MOST_STRAY = 64  # bytes before the end marker; a damaged scan usually leaves more
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def decode_jpeg(data: bytes, colorspace: str) -> NDArray[np.uint8] | None:
    """Decode all pixels, (H, W, channels); None where this decoder lacks the subsampling.

    Harmless are broken metadata (an ICC profile, a JFIF version) and a few stray bytes before the
    end marker.

    Raises:
        ValueError: pixels are missing or damaged.
    """
    try:
        return _strictly(data, colorspace)
    except ValueError as error:
        if "subsampling" in str(error).lower():
            return None
        try:
            return _strictly(_without_harmless_faults(data, str(error)), colorspace)
        except (ValueError, IndexError):
            raise error from None


def _strictly(data: bytes, colorspace: str) -> NDArray[np.uint8]:
    pixels: Any = simplejpeg.decode_jpeg(data, colorspace=colorspace)
    return np.asarray(pixels, np.uint8)


def _without_harmless_faults(data: bytes, warning: str) -> bytes:
    """The same scans without metadata, and with one end marker right behind them."""
    head, scans = _parts(data)
    scans = scans[: scans.rindex(b"\xff\xd9")]
    found = _STRAY.search(warning)
    if found and int(found[1]) <= _MOST_STRAY:
        scans = scans[: -int(found[1])]
    return head + scans + b"\xff\xd9"


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The header with what decoding needs, and the scans.

    Raises:
        IndexError: the header has no scan behind it.
    """
    head, offset = b"\xff\xd8", 2
    while True:
        offset = data.find(b"\xff", offset)  # bytes between segments are skipped
        while offset >= 0 and data[offset] == 0xFF:
            offset += 1
        if offset < 0:
            raise IndexError
        marker, length = data[offset], int.from_bytes(data[offset + 1 : offset + 3], "big")
        segment = data[offset + 1 : offset + 1 + length]
        if marker == _SCAN:
            return head, data[offset - 1 :]
        if marker == _APP0 and segment[2:6] == b"JFIF":
            segment = segment[:7] + b"\1\1" + segment[9:]
        is_metadata = _APP0 < marker < _APP0 + 16 and marker != _ADOBE
        if marker not in (0, _START, _END):
            if not is_metadata and marker != _COMMENT:
                head += bytes([0xFF, marker]) + segment
            offset += 1 + length
