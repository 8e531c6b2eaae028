"""Damaged or hostile files decode whole or are refused with one message; none crashes or hangs."""

import io
import resource
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from segtune.data.reading.images import read_colors, read_image, read_mask
from segtune.errors import DataError

COUNT = 2_000
SECONDS_EACH = 3.0  # for one file; the machine may be busy


def originals() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = coarse.resize((160, 120))
    blocks = Image.fromarray(rng.integers(0, 5, (9, 12), dtype=np.uint8))
    ids = blocks.resize((160, 120), Image.NEAREST)
    palette = Image.fromarray(np.asarray(ids), "P")
    palette.putpalette(list(range(15)))
    grey = np.asarray(smooth)[..., 0]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    tags = Image.Exif()
    tags[0x0112] = 6
    forms = {
        "rgb.png": (smooth, "PNG", {}),
        "ids.png": (ids, "PNG", {}),
        "palette.png": (palette, "PNG", {}),
        "deep.png": (deep, "PNG", {}),
        "rgb.jpg": (smooth, "JPEG", {"quality": 92, "exif": tags}),
        "fine.jpg": (smooth, "JPEG", {"progressive": True}),
        "grey.jpg": (Image.fromarray(grey), "JPEG", {}),
        "cmyk.jpg": (smooth.convert("CMYK"), "JPEG", {}),
        "lossless.webp": (smooth, "WEBP", {"lossless": True}),
        "lossy.webp": (smooth, "WEBP", {}),
        "raw.tif": (smooth, "TIFF", {}),
        "deflate.tif": (smooth, "TIFF", {"compression": "tiff_deflate"}),
        "lzw.tif": (ids, "TIFF", {"compression": "tiff_lzw"}),
        "rgb.bmp": (smooth, "BMP", {}),
        "ids.gif": (palette, "GIF", {}),
        "rgb.ppm": (smooth, "PPM", {}),
    }
    files = {}
    for name, (image, file_format, options) in forms.items():
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        files[name] = buffer.getvalue()
    return files


def mutated(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    size = len(data)
    if kind == "cut":
        return data[: int(rng.integers(size))]
    if kind == "hole":
        start = int(rng.integers(size))
        return data[:start] + data[start + int(rng.integers(1, size // 3)) :]
    changed = bytearray(data)
    if kind == "flips":
        for place in rng.integers(size, size=int(rng.integers(1, 9))):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == "header":
        for place in rng.integers(min(size, 64), size=int(rng.integers(1, 6))):
            changed[place] = int(rng.integers(256))
    elif kind == "zeros":
        start = int(rng.integers(size))
        changed[start : start + int(rng.integers(1, 200))] = b"\0" * min(200, size - start)
    elif kind == "more":
        start = int(rng.integers(size))
        changed[start:start] = rng.bytes(int(rng.integers(1, 100)))
    return bytes(changed)


def pixels_of(data: bytes) -> np.ndarray | None:
    try:
        return read_image(data, max_pixels=20_000_000)
    except DataError as error:
        assert len(str(error)) < 800 and "\n" not in str(error)  # noqa: PT017 - most files decode
        return None


def test_two_thousand_damaged_files_are_refused_or_decode_whole():
    """A file with missing bytes may decode only to the pixels of the whole file.

    JPEG has no checksum: without some bytes of its tables or its middle it may be a valid JPEG of
    other colours. Such files, and files with flipped bits, must only not crash.
    """
    files, rng = originals(), np.random.default_rng(1)
    whole = {name: pixels_of(data) for name, data in files.items()}
    kinds = ("cut", "hole", "flips", "header", "zeros", "more")
    before, decoded, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0.0
    for number in range(COUNT):
        name, kind = sorted(files)[number % len(files)], kinds[number // len(files) % len(kinds)]
        data = mutated(files[name], kind, rng)
        started = time.monotonic()
        pixels = pixels_of(data)
        for read in (read_mask, read_colors):
            with suppress(DataError):
                read(data, "m")
        slowest = max(slowest, time.monotonic() - started)
        decoded += pixels is not None
        if pixels is not None and (kind == "cut" or (kind == "hole" and ".jpg" not in name)):
            case = f"{name}, {kind} number {number}"
            np.testing.assert_array_equal(pixels, whole[name], err_msg=case)
    assert slowest < SECONDS_EACH
    assert decoded < COUNT / 2
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    assert grown < 1.5, f"{grown:.2f} GB"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *extra: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"".join([b"\x89PNG\r\n\x1a\n", head, *extra, data, chunk(b"IEND", b"")])


HOSTILE = {
    "claims 10 gigapixels": png(100_000, 100_000, b"\0" * 100),
    "claims no width": png(0, 5, b""),
    "holds fewer rows than it claims": png(64, 64, b"\0" * 65 * 10),
    "text of 2 GB in a kilobyte": png(
        2, 2, b"\0\1\2\0\1\2", chunk(b"zTXt", b"a\0\0" + zlib.compress(b"A" * 80_000_000))
    ),
    "a script that an interpreter would run": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    ),
    "an endless GIF": b"".join(
        [
            b"GIF89a\xff\xff\xff\xff\xf7\0\0",
            b"\0" * 768,
            b",\0\0\0\0\xff\xff\xff\xff\0\x08",
            b"\xff" * 300,
        ]
    ),
    "a TIFF whose directory points at itself": (
        b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name):
    for read in (read_image, lambda d: read_mask(d, "m")):
        with pytest.raises(DataError):
            read(HOSTILE[name])


def test_a_jpeg_with_a_hole_is_refused_where_pillow_would_fill_it_with_grey():
    data = originals()["rgb.jpg"]
    broken = data[: len(data) // 2] + data[len(data) // 2 + len(data) // 4 :]
    Image.open(io.BytesIO(broken)).load()
    with pytest.raises(DataError, match="did not decode whole"):
        read_image(broken)


def test_a_jpeg_decodes_as_pillow_decodes_it():
    for name in ("rgb.jpg", "fine.jpg", "grey.jpg"):
        data = originals()[name]
        plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(read_image(data, upright=False), plain)
