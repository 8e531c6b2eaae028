"""Shapes as annotation tools store them, drawn as masks of booleans.

Two rules say which pixels belong to a polygon. COCO's rule, as in pycocotools, takes about those
whose centre lies inside. The outline rule, as in Pillow and LabelMe's own exporters, also takes
those that the outline touches.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segtune.data.reading.mask_values import mask_values, object_pixels
from segtune.errors import DataError

Bits = NDArray[np.bool_]
Draw = Callable[[int, int], Bits]
"""(height, width) of the image -> the pixels of a shape, (height, width) bool."""

PolygonRule = Literal["coco", "outline"]


def polygons(parts: Sequence[Sequence[float]], rule: PolygonRule = "coco") -> Draw:
    """Polygons [x, y, x, y, …] in pixels; several parts make one area."""

    def by_coco(height: int, width: int) -> Bits:
        return decode_rle(coco_mask.frPyObjects([list(p) for p in parts], height, width))

    def with_outline(height: int, width: int) -> Bits:
        canvas = Image.new("L", (width, height))
        for part in parts:
            points = list(zip(part[::2], part[1::2], strict=True))
            ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
        return np.asarray(canvas, bool)

    return with_outline if rule == "outline" else by_coco


def decode_rle(rle: object) -> Bits:
    """Decode COCO run lengths; several together make one area."""
    bits = coco_mask.decode(rle)
    return np.asarray(bits.any(2) if bits.ndim == 3 else bits, bool)


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Draw:
    """A rectangle in pixels, turned clockwise around its upper left corner."""
    angle = np.deg2rad(degrees)
    along = np.array([np.cos(angle), np.sin(angle)]) * (right - left)
    down = np.array([-np.sin(angle), np.cos(angle)]) * (bottom - top)
    corner = np.array([left, top])
    corners = [corner, corner + along, corner + along + down, corner + down]
    return polygons([np.concatenate(corners).tolist()])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Draw:
    """An ellipse around (x, y) in pixels, turned clockwise: pixels whose centre lies inside."""

    def draw(height: int, width: int) -> Bits:
        angle = np.deg2rad(degrees)
        ys, xs = np.mgrid[:height, :width] + 0.5
        along = ((xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)) / max(radius_x, 1e-9)
        across = ((ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)) / max(radius_y, 1e-9)
        return np.asarray(along**2 + across**2 <= 1.0, bool)

    return draw


def pasted(bits: Bits, left: int, top: int) -> Draw:
    """A small mask at a place of the image; the part outside the image is cut off."""

    def draw(height: int, width: int) -> Bits:
        canvas = np.zeros((height, width), bool)
        y, x = max(top, 0), max(left, 0)
        part = bits[y - top :, x - left :][: max(0, height - y), : max(0, width - x)]
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        return canvas

    return draw


def object_mask(path: Path) -> Draw:
    """A mask file of one object: see `object_pixels`.

    The drawing raises DataError where the file has another size than the image.
    """

    def draw(height: int, width: int) -> Bits:
        bits = object_pixels(mask_values(path.read_bytes(), str(path)), str(path))
        if bits.shape != (height, width):
            raise DataError(
                f"mask '{path}' is {bits.shape[1]} x {bits.shape[0]}, its image {width} x {height} "
                "pixels; both must have one size."
            )
        return bits

    return draw


# EXIF orientation -> (transpose first, then OpenCV's flip code or None)
_ORIENTATIONS: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


def oriented(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a mask of the stored image upright, as its EXIF orientation (1..8) says."""
    if orientation not in _ORIENTATIONS:
        return mask
    transpose, flip = _ORIENTATIONS[orientation]
    upright = cv2.transpose(mask) if transpose else mask
    return np.asarray(upright if flip is None else cv2.flip(upright, flip), np.uint8)
