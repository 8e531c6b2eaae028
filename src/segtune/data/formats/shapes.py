"""Shapes as annotation tools store them, drawn as masks of booleans.

Two rules say which pixels belong to a polygon. COCO's rule, as in pycocotools, takes about those
whose centre lies inside. The outline rule, as in Pillow and LabelMe's own exporters, also takes
those that the outline touches.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segtune.data.formats.run_lengths import Bits, decode_coco, fill_runs
from segtune.data.reading.mask_values import mask_values, object_pixels
from segtune.data.reading.rasters import TURNS
from segtune.errors import DataError

Draw = Callable[[int, int], Bits]
"""(height, width) of the image -> the pixels of a shape, (height, width) bool."""

PolygonRule = Literal["coco", "outline"]
_LARGEST = 1e12
_FAR_OUTSIDE = 10_000  # pixels; a crop may keep the annotations of its large image


def polygons(parts: Sequence[Sequence[float]], rule: PolygonRule = "coco") -> Draw:
    """Polygons [x, y, x, y, …] in pixels; several parts make one area.

    Raises:
        ValueError: a part has fewer than three points, or a number is none; the drawing raises it
            for numbers far outside the image.
    """
    numbers = [finite(part) for part in parts]
    for part in numbers:
        if len(part) < 6 or len(part) % 2:
            raise ValueError(f"a polygon has {len(part)} numbers; three points x, y or more")

    def by_coco(height: int, width: int) -> Bits:
        _check_bounds(numbers, height, width)
        rle = coco_mask.frPyObjects(numbers, height, width)
        return np.asarray(coco_mask.decode(rle).any(2), bool)

    def with_outline(height: int, width: int) -> Bits:
        _check_bounds(numbers, height, width)
        canvas = Image.new("L", (width, height))
        for part in numbers:
            points = list(zip(part[::2], part[1::2], strict=True))
            ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
        return np.asarray(canvas, bool)

    return with_outline if rule == "outline" else by_coco


def finite(values: Sequence[object]) -> list[float]:
    """The numbers of a shape.

    Raises:
        ValueError: a value is no finite number, or one that sums would make infinite.
    """
    numbers = []
    for value in values:
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not abs(float(value)) <= _LARGEST:  # type: ignore[arg-type]  # a number
            raise ValueError(f"it holds {str(value)[:40]!r}; finite numbers are allowed")
        numbers.append(float(value))  # type: ignore[arg-type]  # a number
    return numbers


def has_points(numbers: Sequence[object]) -> bool:
    """Whether a polygon [x, y, x, y, …] has the three points that make an area."""
    return len(numbers) >= 6


def _check_bounds(parts: Sequence[Sequence[float]], height: int, width: int) -> None:
    """Raise ValueError for coordinates far outside the image: C code would walk all the way."""
    limit = max(_FAR_OUTSIDE, 10 * max(height, width))
    for part in parts:
        farthest = max(part, key=abs, default=0.0)
        if abs(farthest) > limit:
            raise ValueError(
                f"it holds the coordinate {farthest:.6g}, far outside its image of "
                f"{width} x {height} pixels"
            )


def run_lengths(counts: object, size: object) -> Draw:
    """COCO's run lengths of a mask of a size [height, width]."""

    def draw(height: int, width: int) -> Bits:
        if size != [height, width]:
            raise ValueError(f"segmentation.size is {size}, its image's [{height}, {width}]")
        return decode_coco(counts, height, width)

    return draw


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Draw:
    """A rectangle in pixels, turned clockwise around its upper left corner."""
    left, top, right, bottom, degrees = finite([left, top, right, bottom, degrees])
    angle = np.deg2rad(degrees)
    along = np.array([np.cos(angle), np.sin(angle)]) * (right - left)
    down = np.array([-np.sin(angle), np.cos(angle)]) * (bottom - top)
    corner = np.array([left, top])
    corners = [corner, corner + along, corner + along + down, corner + down]
    return polygons([np.concatenate(corners).tolist()])


def turned_box(left: float, top: float, right: float, bottom: float, degrees: float) -> Draw:
    """A rectangle in pixels, turned clockwise around its centre."""
    left, top, right, bottom, degrees = finite([left, top, right, bottom, degrees])
    if not degrees:
        return box(left, top, right, bottom)  # no rounding
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    half = np.array([right - left, bottom - top]) / 2
    center = np.array([left, top]) + half
    x, y = (center + turn @ -half).tolist()
    return box(x, y, x + right - left, y + bottom - top, degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Draw:
    """An ellipse around (x, y) in pixels, turned clockwise: pixels whose centre lies inside."""
    x, y, radius_x, radius_y, degrees = finite([x, y, radius_x, radius_y, degrees])
    if radius_x < 0 or radius_y < 0:
        raise ValueError(f"its radii are {radius_x:.6g} and {radius_y:.6g}; 0 or more is allowed")

    def draw(height: int, width: int) -> Bits:
        _check_bounds([[x, y, radius_x, radius_y]], height, width)
        angle = np.deg2rad(degrees)
        ys, xs = np.mgrid[:height, :width] + 0.5
        along = ((xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)) / max(radius_x, 1e-9)
        across = ((ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)) / max(radius_y, 1e-9)
        return np.asarray(along**2 + across**2 <= 1.0, bool)

    return draw


def circle(x: float, y: float, radius: float, rule: PolygonRule) -> Draw:
    """A circle around (x, y) in pixels; the outline rule draws it as LabelMe's exporter does."""
    x, y, radius = finite([x, y, radius])
    if rule == "coco":
        return ellipse(x, y, radius, radius)

    def with_outline(height: int, width: int) -> Bits:
        _check_bounds([[x, y, radius]], height, width)
        canvas = Image.new("L", (width, height))
        bounds = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(canvas).ellipse(bounds, outline=1, fill=1)
        return np.asarray(canvas, bool)

    return with_outline


def pasted(read: Callable[[], Bits], left: float, top: float) -> Draw:
    """A small mask at a place of the image; the part outside the image is cut off.

    Args:
        read: returns the mask; called by each drawing, so that not all masks are in memory.
    """
    column, row = map(round, finite([left, top]))

    def draw(height: int, width: int) -> Bits:
        try:
            bits = read()
        except DataError as error:  # its place in the annotations is added where it is drawn
            raise ValueError(str(error).rstrip(".")) from None
        canvas = np.zeros((height, width), bool)
        y, x = max(row, 0), max(column, 0)
        part = bits[y - row :, x - column :][: max(0, height - y), : max(0, width - x)]
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        return canvas

    return draw


def pasted_runs(runs: object, box: Sequence[float]) -> Draw:
    """Runs of a small mask, row by row, at a place (left, top, width, height) of the image."""
    left, top, columns, rows = (round(value) for value in finite(box))

    def draw(height: int, width: int) -> Bits:
        if not (0 <= rows <= 2 * height and 0 <= columns <= 2 * width):
            raise ValueError(
                f"its mask is {columns} x {rows} pixels, larger than its image of "
                f"{width} x {height}"
            )
        return pasted(lambda: fill_runs(runs, rows, columns), left, top)(height, width)

    return draw


def object_mask(path: Path, may_be_smaller: bool = False) -> Draw:
    """A mask file of one object: see `object_pixels`.

    The drawing raises DataError where the file has another size than the image.

    Args:
        may_be_smaller: also take a file whose height and width are the image's divided by one whole
            number; each of its pixels becomes a square.
    """

    def draw(height: int, width: int) -> Bits:
        bits = object_pixels(mask_values(path.read_bytes(), str(path)), str(path))
        times = max(1, height // bits.shape[0]) if may_be_smaller else 1
        if (bits.shape[0] * times, bits.shape[1] * times) != (height, width):
            raise DataError(
                f"mask '{path}' is {bits.shape[1]} x {bits.shape[0]}, its image {width} x {height} "
                "pixels; both must have one size."
            )
        return bits if times == 1 else bits.repeat(times, 0).repeat(times, 1)

    return draw


def oriented(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a mask of the stored image upright, as its EXIF orientation (1..8) says."""
    is_exchanged, is_mirrored, is_flipped = TURNS.get(orientation, TURNS[1])
    upright = mask.T if is_exchanged else mask
    upright = upright[:, ::-1] if is_mirrored else upright
    return np.ascontiguousarray(upright[::-1] if is_flipped else upright)
