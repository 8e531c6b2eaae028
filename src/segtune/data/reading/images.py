"""Read images as RGB bytes and masks as ids or colours, or raise one clear error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.config.defaults import MAX_PIXELS
from segtune.data.reading.arrays import is_array, read_array
from segtune.data.reading.decoding import (
    check_size,
    decode,
    decode_file,
    open_image,
    orientation_of,
    turn_to_page,
)
from segtune.data.reading.mask_values import mask_values, refuse_hidden_object
from segtune.data.reading.rasters import opened_raster
from segtune.data.reading.values import (
    Reading,
    ValueRange,
    check_bands,
    on_white,
    padded_bands,
    to_bytes,
)
from segtune.errors import DataError

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".npy", ".mat")


def read_image(
    source: Any,
    max_pixels: int = MAX_PIXELS,
    upright: bool = True,
    name: str = "",
    value_range: ValueRange | None = None,
    reading: Reading | None = None,
) -> NDArray[np.uint8]:
    """Read an image as training and inference see it: (H, W, 3) uint8 RGB.

    EXIF orientation is applied, and transparent pixels are laid on white. The type alone decides
    how values become bytes, never the brightest pixel of an image: uint8 stays, uint16 is divided
    by 65535 / 255 (a file of 12 bits by 4095 / 255), bool becomes 0 and 255, floats in [0, 1] are
    multiplied by 255. From a TIFF, the bands are read that its colour interpretation names red,
    green and blue.

    Args:
        source: path, bytes, PIL image, array (H, W), (H, W, 1|3|4), or tensor (1|3|4, H, W).
        max_pixels: an image whose header claims more is not decoded.
        upright: apply the EXIF orientation of a file.
        name: of an image that is given as bytes, for messages.
        value_range: the values of an array, tensor or TIFF that become 0 and 255. Other integer
            types, and floats of another range, need it.
        reading: how a file is read that does not say it itself; it replaces `value_range`.

    Raises:
        DataError: no image, a truncated or too large one, an array of another shape, a type with
            an unknown range (such as int32), floats outside [0, 1], or many bands without names.

    >>> read_image(np.array([[0.0, 0.5, 1.0]]))[0, :, 0].tolist()
    [0, 128, 255]
    >>> read_image(np.array([[0, 2048, 4095]]), value_range=(0, 4095))[0, :, 0].tolist()
    [0, 128, 255]
    """
    reading = reading or Reading(value_range)
    if isinstance(source, Image.Image):
        return _pil_to_rgb(decode(source, "image"), "image", source.format, reading)
    if isinstance(source, str | Path | bytes | bytearray):
        name = name or ("image bytes" if isinstance(source, bytes | bytearray) else str(source))
        with opened_raster(source, name, upright, reading) as raster:
            if raster is not None:
                check_size(*raster.size, name, max_pixels)
                return raster.read_all()
        with open_image(source, name, max_pixels) as image:
            turn_to_page(image, name, reading.page)
            return _pil_to_rgb(decode(image, name, upright), name, image.format, reading)
    if hasattr(source, "detach"):
        source = source.detach().cpu()
        if source.is_floating_point():
            source = source.float()  # NumPy has no bfloat16
        source = source.numpy()
        if source.ndim == 3 and source.shape[0] in (1, 3, 4):
            source = source.transpose(1, 2, 0)
    return _array_to_rgb(np.asarray(source), "the array", reading.value_range)


def stored_size(source: str | Path | bytes | bytearray, name: str) -> tuple[int, int, int]:
    """Height and width of an image file as stored, and its EXIF orientation, from its header.

    Raises:
        DataError: see `read_image`.
    """
    any_band = Reading(bands=(1,))  # all bands have one size
    with opened_raster(source, name, upright=False, reading=any_band) as raster:
        if raster is not None:
            return (*raster.size, raster.orientation)
    with open_image(source, name) as image:
        return image.height, image.width, orientation_of(image)


def read_mask(source: Path | bytes, name: str = "") -> NDArray[np.uint8]:
    """Read the class ids of a mask file, (H, W) uint8; from a palette file its indices.

    A colour file whose channels are all equal gives that channel: a lossless WebP is always one.

    Args:
        name: of a mask that is given as bytes, for messages.

    Raises:
        DataError: the file cannot be read, or holds colours.
    """
    name = name or str(source)
    mask = mask_values(source, name)
    refuse_hidden_object(mask, name)
    values = mask.pixels
    if values.ndim == 2 and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    kind = "RGB colours" if values.ndim == 3 else f"{values.dtype} numbers"
    raise DataError(
        f"mask '{name}' is stored as {kind} (shape {values.shape}, values "
        f"{values.min()}..{values.max()}); class ids in one 8-bit channel are expected. If its "
        "colours are those of dataset.classes: dataset.mask_format=rgb; else convert it to an "
        "index or palette PNG."
    )


def read_colors(
    source: Path | bytes, name: str = "", variable: str | None = None
) -> NDArray[np.uint8]:
    """Read the colours of a mask file, (H, W, 3) uint8; transparency is ignored.

    Args:
        variable: the array that is read of a MATLAB file with several.

    Raises:
        DataError: the file cannot be read.
    """
    name = name or str(source)
    if is_array(source):
        return _array_to_colors(read_array(source, name, variable), name)
    image = decode_file(source, name, upright=False)
    if image.mode in ("RGBA", "RGB"):
        return np.array(image)[..., :3]
    if image.mode == "P" and "transparency" in image.info:
        del image.info["transparency"]
    return np.array(image.convert("RGB"))


def _array_to_colors(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise DataError(
            f"mask '{name}' is an array of {pixels.dtype}, but dataset.mask_format=rgb needs "
            "colours of uint8. If it holds ids: dataset.mask_format=index."
        )
    return np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image: by area averages when it shrinks, else bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_mask(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize a mask by nearest neighbour, so that no new ids appear."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8
    )


def target_size(height: int, width: int, image_size: Sequence[int]) -> tuple[int, int]:
    """The (height, width) that an image is resized to.

    Args:
        image_size: [shorter side] or [width, height].

    >>> target_size(720, 960, [360])
    (360, 480)
    >>> target_size(720, 960, [512, 256])
    (256, 512)
    """
    if len(image_size) == 2:
        return image_size[1], image_size[0]
    scale = image_size[0] / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pil_to_rgb(
    image: Image.Image, name: str, file_format: str | None, reading: Reading
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB.

    Args:
        file_format: of the image's file; None for an image that was made in memory.
    """
    try:
        if image.mode.startswith("I") or image.mode == "F":
            values = np.array(image)
            if image.mode == "I" and file_format in ("PNG", "PPM"):
                values = values.astype(np.uint16)  # Pillow holds 16 bits in mode I
            return _array_to_rgb(values, f"'{name}'", reading.value_range)
        if reading.value_range is not None:
            raise DataError(
                f"'{name}' is decoded to 8 bits (Pillow's mode {image.mode}); value_range is for "
                "arrays, tensors and TIFFs. Leave it out, or decode the file to an array first."
            )
        if reading.bands is not None and image.mode in ("L", "LA", "RGB", "RGBA"):
            channels = np.atleast_3d(np.array(image))
            check_bands(reading.bands, channels.shape[2], name)
            chosen = channels[..., [band - 1 for band in reading.bands]]
            return _array_to_rgb(padded_bands(chosen, axis=2), f"'{name}'")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = np.array(image.convert("RGBA"))
            return on_white(layer[..., :3], layer[..., 3])
        return np.array(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"'{name}' cannot be converted to RGB: {error}") from None


def _array_to_rgb(
    array: NDArray[Any], name: str, value_range: ValueRange | None = None
) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(
            f"an array of shape {array.shape} is no image; allowed: (H, W), (H, W, 1), (H, W, 3), "
            "(H, W, 4)."
        )
    levels = to_bytes(array, name, value_range)
    if array.shape[2] == 1:
        return np.repeat(levels, 3, axis=2)
    if array.shape[2] == 4:
        return on_white(levels[..., :3], levels[..., 3])
    return np.ascontiguousarray(levels)
