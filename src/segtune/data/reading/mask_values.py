"""The numbers that a mask file stores, and which of them are an object in a mask of two values."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from segtune.data.reading.arrays import is_array, read_array
from segtune.data.reading.decoding import decode, open_image, turn_to_page
from segtune.errors import DataError

_TIFF_BITS = 258
FLAT_SHARE = 1e-3  # of a mask's pixels, whose 3 x 3 neighbours hold one value in between
_SQUARE = np.ones((3, 3), np.uint8)
_FEW_VALUES = 3  # that JPEG does not leave: a mask of 0, 1 and 255 is no soft one
_HALF = 128  # from here on a value of a byte is bright
_ALPHA_LINE = "dataset.mask_format=alpha reads what is opaque as class 1"


class MaskValues(NamedTuple):
    """A mask as its file stores it.

    Attributes:
        pixels: (H, W) whole numbers, or (H, W, 3) colours whose channels differ.
        opacity: (H, W) uint8, of a file with an alpha channel.
        palette: flat RGB bytes of a palette file.
        encoding: Pillow's name of the file's format, or ARRAY.
    """

    pixels: NDArray[Any]
    opacity: NDArray[np.uint8] | None
    palette: list[int] | None
    encoding: str


def mask_values(
    source: str | Path | bytes, name: str, page: int | None = None, variable: str | None = None
) -> MaskValues:
    """Read the values of a mask file; from a palette file its indices.

    A grey file of 2 or 4 bits gives its numbers, not their grey levels. Colours with equal
    channels give that channel.

    Args:
        page: the page, from 1, that is read of a file with several.
        variable: the array that is read of a MATLAB file with several.

    Raises:
        DataError: the file cannot be read, or holds NaN, infinite or fractional numbers.
    """
    if is_array(source):
        return MaskValues(_plain(read_array(source, name, variable), name), None, None, "ARRAY")
    with open_image(source, name) as image:
        turn_to_page(image, name, page)
        encoding, bits = str(image.format), _stored_bits(image)
        has_alpha = image.mode in ("LA", "PA", "RGBA")
        decoded = decode(image, name, upright=False)
    palette = decoded.getpalette() if decoded.mode == "P" else None
    pixels = np.array(decoded)
    if bits in (2, 4) and pixels.dtype == np.uint8 and pixels.ndim == 2 and palette is None:
        pixels = pixels // np.uint8(255 // (2**bits - 1))  # Pillow stretches them to 0..255
    opacity = None
    if has_alpha:
        pixels, opacity = pixels[..., :-1], pixels[..., -1]
    return MaskValues(_plain(pixels, name), opacity, palette, encoding)


def refuse_hidden_object(mask: MaskValues, name: str) -> None:
    """Refuse a mask of one value whose alpha channel holds the object.

    Raises:
        DataError: the opacity differs between pixels, and the values do not.
    """
    if mask.opacity is None or (mask.opacity == mask.opacity.flat[0]).all():
        return
    if (mask.pixels == mask.pixels[:1, :1]).all():
        raise DataError(
            f"mask '{name}' holds one value everywhere, but its alpha channel differs: the object "
            f"is in the opacity. {_ALPHA_LINE}."
        )


def opaque(mask: MaskValues, name: str) -> NDArray[np.bool_]:
    """The opaque pixels of a mask, (H, W).

    Raises:
        DataError: the file has no alpha channel.
    """
    if mask.opacity is None:
        raise DataError(
            f"mask '{name}' has no alpha channel, which dataset.mask_format=alpha needs. "
            "If its object is bright: dataset.mask_format=binary."
        )
    return np.asarray(mask.opacity >= _HALF, bool)


def object_pixels(mask: MaskValues, name: str) -> NDArray[np.bool_]:
    """The object of a mask of two values, (H, W): not 0, or bright where values lie in between.

    Raises:
        DataError: the values are ids of several classes, or the object is in the alpha channel.
    """
    refuse_hidden_object(mask, name)
    values = mask.pixels
    if mask.palette is not None:
        colors = np.array(mask.palette, np.uint8).reshape(-1, 3).max(1)
        values = colors.take(values, mode="clip")
    elif values.ndim == 3:
        values = values.max(2)
    present = np.unique(values)
    if len(present) <= 2 and present[0] == 0:
        return np.asarray(values > 0, bool)
    if len(present) == 1 and present[0] > 0:
        return np.ones(values.shape, bool)
    half = _HALF if present[-1] <= 255 else 2**15
    if present[0] < 0 or present[-1] > 65535 or not present[0] < half <= present[-1]:
        shown = ", ".join(str(value) for value in present[:6].tolist())
        raise DataError(
            f"mask '{name}' holds the values {shown}{', …' if len(present) > 6 else ''}; one "
            "object is 0 and any other value, or dark and bright. If these are ids of classes: "
            "dataset.mask_format=index."
        )
    _refuse_third_value(values, (int(present[0]), int(present[-1])), name)
    return np.asarray(values >= half, bool)


def flat_pixels(values: NDArray[Any]) -> NDArray[np.bool_]:
    """The pixels whose 3 x 3 neighbours hold the same number, (H, W)."""
    wide = values.astype(np.float32)
    return np.asarray(cv2.erode(wide, _SQUARE) == cv2.dilate(wide, _SQUARE), bool)


def _refuse_third_value(values: NDArray[Any], ends: tuple[int, int], name: str) -> None:
    """Refuse areas of a value in between, which are no soft border: another object, or unclear.

    Args:
        ends: the lowest and the highest value. JPEG moves values by some levels around them.
    """
    is_noisy = len(np.unique(values)) > _FEW_VALUES
    margin = (ends[1] - ends[0]) // 16 if is_noisy else 0
    is_between = (values > ends[0] + margin) & (values < ends[1] - margin)
    if not is_between.any():
        return
    is_flat = is_between & flat_pixels(values)
    if is_flat.sum() <= FLAT_SHARE * values.size:
        return
    found, counts = np.unique(values[is_flat], return_counts=True)
    value = int(found[counts.argmax()])
    raise DataError(
        f"mask '{name}' holds areas of {value} beside {ends[0]} and {ends[1]} "
        f"({int((values == value).sum()):,} px); one object is 0 and any other value. State what "
        f"each value is, e.g. unclear: dataset.mask_format=index "
        f"'dataset.label_map={{{ends[1]}: 1, {value}: 255}}'."
    )


def _plain(pixels: NDArray[Any], name: str) -> NDArray[Any]:
    """One channel of those that are all equal, and whole numbers."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return _whole(pixels, name) if np.issubdtype(pixels.dtype, np.floating) else pixels


def _whole(pixels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Floats as whole numbers."""
    strange = ~np.isfinite(pixels)
    kind = "NaN or infinity"
    if not strange.any():
        strange, kind = pixels != np.rint(pixels), "fractions"
    if strange.any():
        first = pixels[strange][0]
        raise DataError(
            f"mask '{name}' holds {kind}, such as {first:g}, in {strange.sum():,} px; class ids "
            "are whole numbers. Write an id, or 255 for pixels to ignore (numpy.nan_to_num(mask, "
            "nan=255)), and store the mask with 8 or 16 bits."
        )
    return np.asarray(pixels.astype(np.int64))


def _stored_bits(image: Image.Image) -> int:
    """Bits of a value in a grey PNG or TIFF; 0 where they do not matter."""
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, 0)
        return int(bits[0] if isinstance(bits, tuple) else bits)
    if image.format != "PNG" or image.mode != "L":
        return 0
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return int(str(tiles[0].args).partition(";")[2] or 0) if tiles else 0
