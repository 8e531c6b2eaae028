"""Labelled areas, as annotation tools store them, and how they become one index mask.

Where areas overlap, `annotations.order` says which is on top; `annotations.polygons` says which are a polygon's:
by COCO's rule, in pycocotools, or with those that the outline touches, in Pillow, as LabelMe's own exporters do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig
from segtune.errors import DataError

Bits = NDArray[np.bool_]
BACKGROUND = ("background", "_background_", "__background__", "bg", "unlabeled", "unlabelled")
_FINER = ("finer", "type", "subtype", "subclass", "kind")


@dataclass(frozen=True)
class Area:
    """One labelled area of an image.

    Attributes:
        concept: its class's name; None for pixels that are to be ignored.
        draw: (height, width) -> (height, width) bool.
        z: higher is on top, where the format says so.
    """

    concept: str | None
    draw: Callable[[int, int], Bits]
    finer: str | None = None
    z: int = 0
    crowd: bool = False


@dataclass(frozen=True)
class Labelled:
    """One image with its labels: areas, or a whole mask.

    Attributes:
        name: path without suffix, relative with `/`; unique within its split.
        size: (height, width) that the annotations speak of; None for the image's own.
        mask: gives class ids and 255, (H, W); where it is set there are no areas.
        data: the image's bytes, where the annotations hold them and no file does.
    """

    name: str
    image: Path
    split: str | None = None
    areas: Sequence[Area] = ()
    size: tuple[int, int] | None = None
    mask: Callable[[], NDArray[np.uint8]] | None = None
    group: str | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class Annotated:
    """What a reader found.

    Attributes:
        classes: as in a class table; where `areas` are painted, unlabelled pixels need a background among them.
        notes: what the user should know of what was passed over.
    """

    classes: Sequence[Mapping[str, object]]
    items: Sequence[Labelled]
    notes: Sequence[str] = field(default_factory=tuple)


def paint(
    areas: Sequence[Area],
    size: tuple[int, int],
    classes: Sequence[Mapping[str, object]],
    config: AnnotationsConfig,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Mask of class ids and mask of finer ids, each (H, W) with 255 for none."""
    names = [str(c["name"]) for c in classes]
    unlabelled = 0 if config.unlabelled == "background" else IGNORE_INDEX
    mask, finer = np.full(size, unlabelled, np.uint8), np.full(size, IGNORE_INDEX, np.uint8)
    drawn = [(area, area.draw(*size)) for area in areas]
    for area, bits in _in_order(drawn, config.order):
        ignored = area.concept is None or (area.crowd and config.crowd == "ignore")
        index = IGNORE_INDEX if ignored else names.index(str(area.concept))
        mask[bits] = index
        known = [] if ignored else list(classes[index].get("finer") or ())  # type: ignore[call-overload]  # rows of a table
        finer[bits] = known.index(area.finer) if area.finer in known else IGNORE_INDEX
    return mask, finer


def _in_order(drawn: list[tuple[Area, Bits]], order: str) -> list[tuple[Area, Bits]]:
    if order == "auto":
        order = "z" if len({a.z for a, _ in drawn}) > 1 else "largest_first"
    if order == "largest_first":
        return sorted(drawn, key=lambda d: -int(d[1].sum()))
    if order == "z":
        return sorted(drawn, key=lambda d: d[0].z)
    return drawn[::-1] if order == "file_reversed" else drawn


def finer_of(attributes: Mapping[str, object], wanted: str) -> str | None:
    """The finer label among an area's attributes; None where there is none."""
    for name in _FINER if wanted == "auto" else (wanted,):
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def class_rows(
    names: Sequence[str],
    areas: Sequence[Area],
    config: AnnotationsConfig,
    colors: Mapping[str, object] | None = None,
) -> list[dict[str, object]]:
    """Rows of a class table: names, colours where known, and the finer labels that the areas hold, sorted.

    The background comes first. Where the names have none and unlabelled pixels become one, it is `added`.
    """
    known = [n for n in names if n.lower() in BACKGROUND][:1]
    rows: list[dict[str, object]] = [
        {"name": n} for n in [*known, *(n for n in names if n not in known)]
    ]
    if not known and config.unlabelled == "background":
        rows.insert(0, {"name": "background", "added": True})
    finer: dict[str, set[str]] = {}
    for area in areas:
        if area.concept is not None and area.finer is not None:
            finer.setdefault(area.concept, set()).add(area.finer)
    for row in rows:
        name = str(row["name"])
        if colors and name in colors:
            row["color"] = colors[name]
        if name in finer:
            row["finer"] = sorted(finer[name])
    return rows


def polygons(parts: Sequence[Sequence[float]], rule: str = "coco") -> Callable[[int, int], Bits]:
    """Polygons [x, y, x, y, …] in pixels; several parts make one area.

    Args:
        rule: `outline` counts every pixel that the outline touches; else COCO's.
    """

    def by_coco(height: int, width: int) -> Bits:
        return decode_rle(coco.frPyObjects([list(p) for p in parts], height, width))

    def with_outline(height: int, width: int) -> Bits:
        canvas = Image.new("L", (width, height))
        for part in parts:
            ImageDraw.Draw(canvas).polygon(
                list(zip(part[::2], part[1::2], strict=True)), outline=1, fill=1
            )
        return np.asarray(canvas, bool)

    return with_outline if rule == "outline" else by_coco


def decode_rle(rle: object) -> Bits:
    """COCO run lengths, one or several, as one (H, W) bool."""
    bits = coco.decode(rle)
    return np.asarray(bits.any(2) if bits.ndim == 3 else bits, bool)


def box(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0
) -> Callable[[int, int], Bits]:
    """A rectangle in pixels, turned clockwise around its upper left corner."""
    angle = np.deg2rad(degrees)
    across, down = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    corner = np.array([left, top])
    wide, high = across * (right - left), down * (bottom - top)
    return polygons(
        [np.concatenate([corner, corner + wide, corner + wide + high, corner + high]).tolist()]
    )


def ellipse(
    x: float, y: float, across: float, down: float, degrees: float = 0.0
) -> Callable[[int, int], Bits]:
    """An ellipse of two radii in pixels around (x, y): pixels whose centre lies inside."""

    def draw(height: int, width: int) -> Bits:
        angle = np.deg2rad(degrees)
        ys, xs = np.mgrid[:height, :width] + 0.5
        along = ((xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)) / max(across, 1e-9)
        beside = ((ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)) / max(down, 1e-9)
        return np.asarray(along**2 + beside**2 <= 1.0, bool)

    return draw


def pasted(bits: Bits, left: int, top: int) -> Callable[[int, int], Bits]:
    """A small mask put at a place of the image; what lies outside is cut."""

    def draw(height: int, width: int) -> Bits:
        whole = np.zeros((height, width), bool)
        y, x = max(top, 0), max(left, 0)
        part = bits[y - top :, x - left :][: max(0, height - y), : max(0, width - x)]
        whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return whole

    return draw


def from_file(
    path: Path, read: Callable[[bytes, str], NDArray[np.uint8]]
) -> Callable[[int, int], Bits]:
    """An object's own mask file: bright is inside."""

    def draw(height: int, width: int) -> Bits:
        bits = read(path.read_bytes(), str(path))
        bits = bits.max(2) if bits.ndim == 3 else bits
        if bits.shape != (height, width):
            raise DataError(
                f"mask '{path}' is {bits.shape[1]} x {bits.shape[0]}, its image {width} x {height} pixels; both must "
                "have one size."
            )
        return np.asarray(bits > 127 if bits.max() > 1 else bits > 0, bool)

    return draw


def turned(mask: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A mask drawn on the stored image, turned as EXIF turns that for showing."""
    flips = {
        2: (1, None),
        3: (-1, None),
        4: (0, None),
        5: (None, "t"),
        6: (1, "t"),
        7: (-1, "t"),
        8: (0, "t"),
    }
    if orientation not in flips:
        return mask
    flip, transpose = flips[orientation]
    found = cv2.transpose(mask) if transpose else mask
    return np.asarray(found if flip is None else cv2.flip(found, flip), np.uint8)
