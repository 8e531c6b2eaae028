"""Reading images and masks: whatever the file holds becomes RGB bytes or class ids, or one clear error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.data.decoding import MAX_PIXELS, decode, decode_file
from segtune.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")


def read_image(source: Any, max_pixels: int = MAX_PIXELS, upright: bool = True, name: str = "") -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8 RGB.

    EXIF orientation is applied, transparency is composited on white, 16-bit values are scaled to 8.

    Args:
        source: path, bytes, PIL image, array (H, W), (H, W, 1|3|4), or tensor (3, H, W) in uint8, uint16 or
            floats in [0, 1].
        max_pixels: more than these are not decoded, judged by the header.
        upright: applies the EXIF orientation of a file.
        name: what messages call it, where bytes are given.

    Raises:
        DataError: not an image, truncated, too large, or an array of another shape.
    """
    if isinstance(source, Image.Image):
        return _pil_to_rgb(decode(source, "image"), "image")
    if isinstance(source, str | Path | bytes | bytearray):
        name = name or ("image bytes" if isinstance(source, bytes | bytearray) else str(source))
        return _pil_to_rgb(decode_file(source, name, max_pixels, upright), name)
    if hasattr(source, "detach"):
        source = source.detach().cpu().numpy()
        if source.ndim == 3 and source.shape[0] in (1, 3, 4):
            source = source.transpose(1, 2, 0)
    return _array_to_rgb(np.asarray(source))


def read_mask(source: Path | bytes, name: str = "") -> NDArray[np.uint8]:
    """A mask file's class ids, (H, W) uint8; palette files give their indices, never their colours.

    Colour files whose channels are all equal (a lossless WebP knows no other form) give that channel.

    Args:
        name: what messages call it, where the bytes are given.

    Raises:
        DataError: unreadable, or colours where ids are expected.
    """
    name = name or str(source)
    image = decode_file(source, name, upright=False)
    values = np.array(image)
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 2 and values.min() >= 0 and values.max() <= 255:
        return values.astype(np.uint8)
    raise DataError(
        f"mask '{name}' is stored as {image.mode} (shape {values.shape}, values {values.min()}..{values.max()}); "
        "class ids in one 8-bit channel are expected. If its colours are those of dataset.classes: "
        "dataset.mask_format=rgb; else convert it to an index or palette PNG."
    )


def read_colors(source: Path | bytes, name: str = "") -> NDArray[np.uint8]:
    """A mask file's colours, (H, W, 3) uint8, whatever its transparency.

    Raises:
        DataError: unreadable.
    """
    name = name or str(source)
    image = decode_file(source, name, upright=False)
    if image.mode in ("RGBA", "RGB"):
        return np.array(image)[..., :3]
    if image.mode == "P" and "transparency" in image.info:
        del image.info["transparency"]
    return np.array(image.convert("RGB"))


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The image at (height, width): area-averaged when it shrinks, bilinear when it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_mask(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The mask at (height, width) by nearest neighbour: no id that was not there before."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def target_size(height: int, width: int, image_size: Sequence[int]) -> tuple[int, int]:
    """(height, width) that an image is brought to: one value is the shorter side, two are exact width and height.

    >>> target_size(720, 960, [360])
    (360, 480)
    >>> target_size(720, 960, [512, 256])
    (256, 512)
    """
    if len(image_size) == 2:
        return image_size[1], image_size[0]
    scale = image_size[0] / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pil_to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    try:
        if image.mode.startswith("I") or image.mode == "F":
            return _array_to_rgb(np.array(image))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            layer = image.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            image = Image.alpha_composite(white, layer)
        return np.array(image.convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"'{name}' cannot be brought to RGB: {error}") from None


def _array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"an array of shape {array.shape} is no image; allowed: (H, W), (H, W, 1), (H, W, 3), (H, W, 4)."
        )
    if array.dtype != np.uint8:
        if np.issubdtype(array.dtype, np.floating):
            scale = 255.0 if float(np.nanmax(array)) <= 1.0 else 1.0
            array = np.nan_to_num(array * scale)
        elif array.dtype == np.bool_:
            array = array * np.float64(255)
        else:
            array = array.astype(np.float64) / 257.0  # 16-bit: 65535 -> 255
        array = np.rint(array).clip(0, 255).astype(np.uint8)
    if array.shape[2] == 4:
        return _pil_to_rgb(Image.fromarray(array, "RGBA"), "array")
    return np.ascontiguousarray(array)
