"""Labelled areas of an image, and how they become one index mask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.run_lengths import Bits
from segtune.data.formats.shapes import Draw
from segtune.data.reading.class_words import is_background

NO_AREA = "shapes without an area (points, lines) were left out"
FEW_POINTS = "polygons of fewer than three points were left out"
NO_LABEL = "shapes without a label were left out"
_FINER_ATTRIBUTES = ("finer", "type", "subtype", "subclass", "kind")
_WITHOUT_AREA = (
    "point",
    "points",
    "line",
    "linestrip",
    "polyline",
    "cuboid",
    "skeleton",
    "keypointlabels",
    "tag",
)

_KEPT_BYTES = 1 << 27  # of the pixels of one image's areas

ClassRow = Mapping[str, Any]
"""A row of a class table: `name`, and where known `color` and `finer`.

`added` marks a background that the annotations do not name. `annotated_as` is the class's name in
the annotations, where the dataset's config gives it another name.
"""


@dataclass(frozen=True)
class Area:
    """One labelled area of an image.

    Attributes:
        concept: name of the class; None for pixels to be ignored.
        draw: (height, width) -> (height, width) bool; raises ValueError for a shape that does not
            fit the image.
        z: higher is on top, where the format has such an order.
        beneath: only pixels of no other area belong to it.
        where: file and place in it, for messages.
    """

    concept: str | None
    draw: Draw
    finer: str | None = None
    z: int = 0
    crowd: bool = False
    beneath: bool = False
    where: str = ""


@dataclass(frozen=True)
class DrawnArea:
    """The pixels of an area in an image.

    They are kept within the box that holds them, so that many small areas of a large image fit into
    memory; those of large areas are drawn again for each use.

    Attributes:
        size: (height, width) of the image.
        window: the rows and columns of the box.
        num_pixels: how many pixels the area covers.
        kept: the pixels within the box; None where they are drawn again.
    """

    area: Area
    size: tuple[int, int]
    window: tuple[slice, slice]
    num_pixels: int
    kept: Bits | None

    @property
    def bits(self) -> Bits:
        """The pixels within the box, bool."""
        return self.area.draw(*self.size)[self.window] if self.kept is None else self.kept


@dataclass(frozen=True)
class LabelledImage:
    """One image with its labels: areas, or a mask.

    Attributes:
        name: path without suffix, relative with `/`; unique within its split.
        split: None if the annotations name none.
        size: (height, width) in the annotations; None for the image's own.
        mask: returns class ids and 255, (H, W); an image with a mask has no areas.
        data: returns the image's bytes, where no image file holds them; `image` then only gives
            the name and suffix of the file to write.
        file: annotation file, below the root, that names the image; empty where there is just one.
    """

    name: str
    image: Path
    split: str | None = None
    areas: Sequence[Area] = ()
    size: tuple[int, int] | None = None
    mask: Callable[[], NDArray[np.uint8]] | None = None
    group: str | None = None
    data: Callable[[], bytes] | None = None
    file: str = ""


@dataclass(frozen=True)
class Annotations:
    """The images and classes that a reader returns.

    Attributes:
        classes: rows of a class table; images with areas need a background for unlabelled pixels.
        notes: messages for the user, such as shapes that were skipped.
        bad_shapes: the message on each shape that cannot be read, and is left out.
        one_class_each: the annotations state one class for each pixel: areas that overlap
            contradict each other.
    """

    classes: Sequence[ClassRow]
    images: Sequence[LabelledImage]
    notes: Sequence[str] = ()
    bad_shapes: Sequence[str] = ()
    one_class_each: bool = False

    @property
    def num_shapes(self) -> int:
        """Areas and bad shapes."""
        return sum(len(image.areas) for image in self.images) + len(self.bad_shapes)


def annotation_options(config: DatasetConfig) -> AnnotationsConfig:
    """Return `dataset.annotations`, or its defaults."""
    return config.annotations or AnnotationsConfig()


def areas_of(images: Sequence[LabelledImage]) -> list[Area]:
    """All areas of some images."""
    areas: list[Area] = []
    for image in images:
        areas += image.areas
    return areas


def has_area(shape: str) -> bool:
    """Whether a tool's kind of shape covers pixels; points, lines and tags do not."""
    return shape not in _WITHOUT_AREA


def draw_areas(
    areas: Sequence[Area], size: tuple[int, int], left_out: LeftOut | None = None
) -> list[DrawnArea]:
    """Draw each area on an image of a size (height, width).

    Args:
        left_out: takes the shapes that do not fit the image, and notes those of one pixel or none.

    Raises:
        DataError: a shape does not fit the image, and `left_out` is not given.
    """
    drawn = []
    guard = reading if left_out is None else left_out.bad_shape
    kept_bytes = 0
    for area in areas:
        where = area.where or f"an area of '{area.concept}'"
        with guard(where):
            bits = area.draw(*size)
            window = _window(bits)
            is_kept = kept_bytes + bits[window].size <= _KEPT_BYTES
            kept = bits[window].copy() if is_kept else None
            kept_bytes += kept.size if kept is not None else 0
            drawn.append(DrawnArea(area, size, window, int(np.count_nonzero(bits[window])), kept))
            if left_out is not None and drawn[-1].num_pixels <= 1:
                left_out.specks.append(where)
    return drawn


def _window(bits: Bits) -> tuple[slice, slice]:
    """The smallest box that holds all pixels of a mask: its rows and columns."""
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def paint(
    drawn: Sequence[DrawnArea],
    size: tuple[int, int],
    classes: Sequence[ClassRow],
    options: AnnotationsConfig,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw areas over each other, in the order that `annotations.order` says.

    Returns:
        Class ids and finer ids, each (H, W) with 255 for none.
    """
    ids = {str(row["name"]): index for index, row in enumerate(classes)}
    unlabelled = background_id(classes) if options.unlabelled == "background" else IGNORE_INDEX
    mask, finer = np.full(size, unlabelled, np.uint8), np.full(size, IGNORE_INDEX, np.uint8)
    for one in _sorted_bottom_first(drawn, options.order):
        area, bits = one.area, one.bits
        class_id = finer_id = IGNORE_INDEX
        if area.concept is not None and not (area.crowd and options.crowd == "ignore"):
            class_id = ids[area.concept]
            finer_names = list(classes[class_id].get("finer") or ())
            finer_id = finer_names.index(area.finer) if area.finer in finer_names else IGNORE_INDEX
        mask[one.window][bits], finer[one.window][bits] = class_id, finer_id
    return mask, finer


def background_id(classes: Sequence[ClassRow]) -> int:
    """The id of the class of unlabelled pixels: the background, at any place; else the first."""
    for index, row in enumerate(classes):
        if row.get("added") or is_background(str(row["name"])):
            return index
    return 0


def _sorted_bottom_first(drawn: Sequence[DrawnArea], order: str) -> list[DrawnArea]:
    ordered = _sorted_by(drawn, order)
    return sorted(ordered, key=lambda one: not one.area.beneath)


def _sorted_by(drawn: Sequence[DrawnArea], order: str) -> list[DrawnArea]:
    if order == "auto":
        order = "z" if len({one.area.z for one in drawn}) > 1 else "largest_first"
    if order == "largest_first":
        return sorted(drawn, key=lambda one: -one.num_pixels)
    if order == "z":
        return sorted(drawn, key=lambda one: one.area.z)
    return list(drawn[::-1] if order == "file_reversed" else drawn)


def finer_of(attributes: Mapping[str, object], attribute: str) -> str | None:
    """The finer label among an area's attributes; None if there is none.

    Args:
        attribute: the attribute that holds it; `auto` takes the first of the usual ones.
    """
    for name in _FINER_ATTRIBUTES if attribute == "auto" else (attribute,):
        value = attributes.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def class_rows(
    names: Sequence[str],
    areas: Sequence[Area],
    options: AnnotationsConfig,
    colors: Mapping[str, object] | None = None,
) -> list[dict[str, Any]]:
    """Rows of a class table: the names, their colours, and the finer labels of the areas, sorted.

    The background comes first. If the names include none and unlabelled pixels become background,
    it is `added`.
    """
    names = list(dict.fromkeys(names))
    background = [n for n in names if is_background(n)][:1]
    others = [n for n in names if n not in background]
    rows: list[dict[str, Any]] = [{"name": n} for n in [*background, *others]]
    if not background and options.unlabelled == "background":
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
