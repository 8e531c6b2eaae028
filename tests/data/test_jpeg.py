"""A JPEG is refused where pixels are missing or damaged, not for a warning of its decoder."""

import io

import numpy as np
import pytest
from PIL import Image

from segtune.data.reading.images import read_image
from segtune.errors import DataError


def jpeg(**options) -> bytes:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8))
    coarse.resize((64, 48)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def other_jfif(data: bytes) -> bytes:
    place = data.index(b"JFIF") + 5
    return data[:place] + b"\x09" + data[place + 1 :]


HARMLESS = {
    "stray bytes before the end": lambda data: data[:-2] + b"\x12\x34\x56\x78\x9a" + data[-2:],
    "padding before the end": lambda data: data[:-2] + b"\0" * 40 + data[-2:],
    "bytes behind the end": lambda data: data + b"trailer",
    "a broken ICC profile": lambda data: with_segment(data, 0xE2, b"ICC_PROFILE\0\3\2" + b"x" * 50),
    "an unknown JFIF version": other_jfif,
}


@pytest.mark.parametrize("fault", HARMLESS)
@pytest.mark.parametrize("options", [{}, {"quality": 40, "restart_marker_blocks": 4}])
def test_a_harmless_fault_leaves_every_pixel(fault, options):
    data = jpeg(**options)
    np.testing.assert_array_equal(read_image(HARMLESS[fault](data)), read_image(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("lost", [20, 100, 300])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_jpeg_without_its_last_pixels_is_refused(options, lost, end):
    with pytest.raises(DataError, match="did not decode whole"):
        read_image(jpeg(quality=90, **options)[:-lost] + end)


def test_a_jpeg_with_a_gap_in_its_middle_is_refused():
    data = jpeg(quality=95)
    middle = len(data) * 2 // 3
    with pytest.raises(DataError, match="did not decode whole"):
        read_image(data[:middle] + data[middle + 300 :])
