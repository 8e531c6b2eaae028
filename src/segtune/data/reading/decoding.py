"""Opening image files that nobody vouches for: the header first, then every byte of the pixels or one clear error."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from segtune.config.defaults import MAX_PIXELS
from segtune.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM")
"""What is decoded; others (EPS, for one, starts an interpreter) are not even tried."""

_ORIENTATION = 0x0112
Image.MAX_IMAGE_PIXELS = None  # our own check comes first and names the file
# of odd metadata: what counts is whether the pixels decode. Once for all, since catch_warnings is not safe in threads
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_file(
    source: str | Path | bytes | bytearray,
    name: str,
    max_pixels: int = MAX_PIXELS,
    upright: bool = True,
) -> Image.Image:
    """The image in a file or in its bytes, with all its pixels; the file is closed again.

    Args:
        name: what messages call it.
        upright: applies the EXIF orientation.

    Raises:
        DataError: see `open_image` and `decode`.
    """
    with open_image(source, name, max_pixels) as image:
        return decode(image, name, upright)


def open_image(
    source: str | Path | bytes | bytearray, name: str, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """An image of which only the header was read.

    Raises:
        DataError: missing, no image, of a format that is not allowed, or larger than `max_pixels`.
    """
    try:
        image = Image.open(
            io.BytesIO(source) if isinstance(source, bytes | bytearray) else source, formats=FORMATS
        )
    except FileNotFoundError:
        raise DataError(f"'{name}': no such file.") from None
    except Exception as error:  # decoders raise whatever they trip over
        raise DataError(f"'{name}' is not an image that can be read: {_reason(error)}") from None
    try:
        check_size(image.height, image.width, name, max_pixels)
    except DataError:
        image.close()
        raise
    return image


def check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    """Refuses an image whose header claims more pixels than are decoded.

    Raises:
        DataError: it does.
    """
    if height * width > max_pixels:
        raise DataError(
            f"'{name}' claims {width} x {height} pixels; at most {max_pixels:,} are decoded. "
            "Cut it into smaller images, or raise max_pixels where you trust the file."
        )


def decode(image: Image.Image, name: str, upright: bool = True) -> Image.Image:
    """The image with all its pixels, the first frame of several; its file stays as open as it was.

    Args:
        upright: applies the EXIF orientation.

    Raises:
        DataError: it did not decode whole.
    """
    try:
        is_png = (
            image.format == "PNG"
        )  # asked for its metadata, Pillow would decode it, and not strictly
        orientation = orientation_of(image) if upright and not is_png else 1
        if isinstance(image, ImageFile.ImageFile) and image.fp is not None:
            image = _strictly(image)
        orientation = orientation_of(image) if upright and is_png else orientation
        if orientation == 1:
            return image
        image.getexif()[_ORIENTATION] = orientation
        return ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise whatever they trip over
        raise DataError(f"'{name}' did not decode whole: {_reason(error)}") from None


def _strictly(image: ImageFile.ImageFile) -> Image.Image:
    """Decodes, and refuses what Pillow would fill up: JPEGs with a hole, PNGs of fewer rows than they claim."""
    assert image.fp is not None
    if image.format not in ("JPEG", "PNG"):
        image.load()
        return image
    image.fp.seek(0)
    data = image.fp.read()
    if image.format == "PNG":
        _check_rows(data)
    elif image.mode in ("L", "RGB"):
        pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY" if image.mode == "L" else "RGB")
        return Image.fromarray(np.squeeze(pixels, 2) if image.mode == "L" else pixels)
    else:
        simplejpeg.decode_jpeg(
            data, colorspace=image.mode
        )  # CMYK: the pixels are Pillow's, which knows Adobe's turn
    again = Image.open(io.BytesIO(data), formats=(image.format,))
    again.load()
    return again


def _check_rows(data: bytes) -> None:
    """Raises OSError where a PNG's data inflates to less than its header claims (PNG specification, 7.2 and 8.2)."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    wanted = sum(h * (1 + (w * bits + 7) // 8) for w, h in sizes if w > 0 and h > 0)
    at, found, inflate = 8, 0, zlib.decompressobj()
    while at + 8 <= len(data) and found < wanted:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            rest = data[at + 8 : at + 8 + length]
            while rest and found < wanted:
                found += len(inflate.decompress(rest, 1 << 20))
                rest = inflate.unconsumed_tail
        at += 12 + length
    if found < wanted:
        raise OSError(f"its data holds {found:,} of {wanted:,} bytes of pixels")


_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1..8 (5 and more exchange height and width); 1 where the file says nothing readable."""
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
        return found if 1 <= found <= 8 else 1
    except Exception:  # broken metadata says nothing
        return 1


def _reason(error: Exception) -> str:
    if isinstance(
        error, UnidentifiedImageError
    ):  # Pillow's text names the object that it read from
        return "its content is none of the known image formats"
    return " ".join(str(error).split())[:300] or type(error).__name__
