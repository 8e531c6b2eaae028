"""Decode untrusted image files: the header first, then all pixels, or one clear error."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from segtune.config.defaults import MAX_PIXELS
from segtune.data.reading.jpeg import decode_jpeg
from segtune.errors import DataError
from segtune.runtime.regular import check_regular

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
"""The formats that are decoded. Others are not tried: EPS, for example, starts an interpreter."""

_ORIENTATION = 0x0112
Image.MAX_IMAGE_PIXELS = None  # `check_size` comes first and names the file
# only the pixels matter, not odd metadata; at import, since catch_warnings is not safe in threads
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_file(
    source: str | Path | bytes | bytearray,
    name: str,
    max_pixels: int = MAX_PIXELS,
    upright: bool = True,
) -> Image.Image:
    """Read an image with all its pixels from a file or from its bytes.

    Args:
        name: of the image, for messages.
        upright: apply the EXIF orientation.

    Raises:
        DataError: see `open_image` and `decode`.
    """
    with open_image(source, name, max_pixels) as image:
        return decode(image, name, upright)


def open_image(
    source: str | Path | bytes | bytearray, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open an image and read its header only.

    Raises:
        DataError: the file is missing, is no image, has a format that is not allowed, or more
            than `max_pixels`.
    """
    file = io.BytesIO(source) if isinstance(source, bytes | bytearray) else source
    try:
        if isinstance(source, str | Path):
            check_regular(source)
        image = Image.open(file, formats=PILLOW_FORMATS)
    except FileNotFoundError:
        raise DataError(f"'{name}': no such file.") from None
    except Exception as error:  # decoders raise errors of any type
        raise DataError(f"'{name}' is not an image that can be read: {_reason(error)}") from None
    try:
        check_size(image.height, image.width, name, max_pixels)
    except DataError:
        image.close()
        raise
    return image


def turn_to_page(image: Image.Image, name: str, page: int | None) -> None:
    """Turn an open file to a page, from 1; a file of one page stays as it is.

    Raises:
        DataError: the file has several pages, but not this one, or it is damaged.
    """
    if page is None or page == 1:
        return
    try:
        pages = int(getattr(image, "n_frames", 1))
        if pages > 1 and page <= pages:
            image.seek(page - 1)
    except Exception as error:  # a broken file raises errors of any type
        raise DataError(f"page {page} of '{name}' cannot be read: {error}") from None
    if 1 < pages < page:
        raise DataError(f"'{name}' has {pages} pages; dataset.page={page} asks for another.")


def check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    """Refuse an image with more pixels than are decoded.

    Raises:
        DataError: height * width exceeds `max_pixels`.
    """
    if height * width > max_pixels:
        raise DataError(
            f"'{name}' claims {width} x {height} pixels; at most {max_pixels:,} are decoded. "
            "Cut it into smaller images, or raise max_pixels if you trust the file."
        )


def decode(image: Image.Image, name: str, upright: bool = True) -> Image.Image:
    """Decode all pixels of an image, of several frames those of the first.

    Args:
        upright: apply the EXIF orientation.

    Raises:
        DataError: the data does not hold all pixels.
    """
    try:
        # to read a PNG's metadata, Pillow decodes it, but not strictly: so decode it first
        is_png = image.format == "PNG"
        orientation = orientation_of(image) if upright and not is_png else 1
        if isinstance(image, ImageFile.ImageFile) and image.fp is not None:
            image = _decode_strictly(image)
        if upright and is_png:
            orientation = orientation_of(image)
        if orientation == 1:
            return image
        image.getexif()[_ORIENTATION] = orientation
        return ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise errors of any type
        raise DataError(f"'{name}' did not decode whole: {_reason(error)}") from None


def _decode_strictly(image: ImageFile.ImageFile) -> Image.Image:
    """Decode an image; raise where Pillow would fill missing pixels of a JPEG or PNG."""
    assert image.fp is not None
    if image.format not in ("JPEG", "PNG"):
        image.load()
        return image
    image.fp.seek(0)
    data = image.fp.read()
    if image.format == "PNG":
        _check_rows(data)
    elif image.mode in ("L", "RGB"):
        pixels = decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB")
        if pixels is not None:
            return Image.fromarray(np.squeeze(pixels, 2) if image.mode == "L" else pixels)
    else:
        # CMYK: this only checks the data, since Pillow knows that Adobe inverts the values
        decode_jpeg(data, image.mode)
    again = Image.open(io.BytesIO(data), formats=(image.format,))
    again.load()
    return again


def _check_rows(data: bytes) -> None:
    """Check that a PNG inflates to as many bytes as its header claims.

    PNG specification, 7.2 (filtered rows), 8.2 (interlacing).

    Raises:
        OSError: the data holds fewer bytes.
    """
    claimed = _claimed_bytes(data)
    offset, inflated, inflater = 8, 0, zlib.decompressobj()
    while offset + 8 <= len(data) and inflated < claimed:
        length, chunk_type = struct.unpack(">I4s", data[offset : offset + 8])
        if chunk_type == b"IDAT":
            compressed = data[offset + 8 : offset + 8 + length]
            while compressed and inflated < claimed:
                inflated += len(inflater.decompress(compressed, 1 << 20))
                compressed = inflater.unconsumed_tail
        offset += 12 + length
    if inflated < claimed:
        raise OSError(f"its data holds {inflated:,} of {claimed:,} bytes of pixels")


def _claimed_bytes(data: bytes) -> int:
    """Bytes of the filtered rows of a PNG, by its header."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    total = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""The passes of an interlaced PNG: first column and row, and the steps between them."""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; from 5 on height and width are exchanged.

    1 if the file has none, or one that cannot be read.
    """
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
        return orientation if 1 <= orientation <= 8 else 1
    except Exception:  # broken metadata raises errors of any type
        return 1


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # Pillow's text names a Python object
        return "its content is none of the known image formats"
    return " ".join(str(error).split())[:300] or type(error).__name__
