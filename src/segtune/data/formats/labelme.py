"""LabelMe: a JSON file for each image, with polygons, rectangles, circles and masks."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    FEW_POINTS,
    NO_AREA,
    NO_LABEL,
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
    finer_of,
    has_area,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name, json_files
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.reading.images import read_mask
from segtune.data.source.files import read_json
from segtune.data.source.split_words import first_stated
from segtune.data.source.text import read_lines
from segtune.errors import DataError

_POINTS = {"polygon": 3, "rotation": 3, "rectangle": 2, "circle": 2}
"""Kind of shape -> points that it needs to cover pixels."""

DECLARED = Declaration(
    "JSON file with shapes and imagePath",
    (*PAINTING, "z", "polygons", "finer", "relocate"),
    is_export=True,
)


def find_files(root: Path) -> list[Path]:
    """LabelMe's JSON files below root."""

    def is_format(content: Any) -> bool:
        return isinstance(content, dict) and "shapes" in content and "imagePath" in content

    return json_files(root, is_format)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that has a JSON file.

    A finer label is the flag that is set, or one of the `attributes`. Classes come in the order of
    `labels.txt`, the others after it by name.
    """
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    images: list[LabelledImage] = []
    left_out = LeftOut()
    paths = find_files(root)
    for path in paths:
        content = read_json(path)
        with reading(f"'{path}'"):
            areas = _areas(path, content["shapes"], options, left_out)
            images.append(_labelled_image(path, content, root, finder, areas))
    _refuse_shared_images(images, paths)
    all_areas = areas_of(images)
    listed = [name for name in _labels_txt(root) if name != "__ignore__"]
    others = {area.concept for area in all_areas if area.concept} - set(listed)
    rows = class_rows([*listed, *sorted(others)], all_areas, options)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _refuse_shared_images(images: Sequence[LabelledImage], paths: Sequence[Path]) -> None:
    """Raise DataError where two files name one image: a copied file labels the wrong image."""
    first_path: dict[Path, Path] = {}
    for image, path in zip(images, paths, strict=True):
        first = first_path.setdefault(image.image, path)
        if first != path:
            raise DataError(
                f"'{first}' and '{path}' both name the image '{image.image}' (imagePath); LabelMe "
                "writes one file for each image. Remove one of them, or correct its imagePath."
            )


def _labels_txt(root: Path) -> list[str]:
    for path in (root / "labels.txt", root.parent / "labels.txt"):
        if path.is_file():
            return read_lines(path)
    return []


def _labelled_image(
    path: Path, content: Mapping[str, Any], root: Path, finder: FileFinder, areas: list[Area]
) -> LabelledImage:
    """The image that a file names, else the one that is embedded in the file."""
    data = None
    try:
        image = finder.find(str(content["imagePath"]), f"'{path}' imagePath", path.parent)
    except DataError:
        if not content.get("imageData"):
            raise
        image = path.with_suffix(".png")
        data = partial(_decode_base64, content["imageData"], f"'{path}' imageData")
    has_size = content.get("imageHeight") and content.get("imageWidth")
    with reading(f"'{path}' imageHeight, imageWidth"):
        size = (int(content["imageHeight"]), int(content["imageWidth"])) if has_size else None
    places = [place for place in (path, image) if place.is_relative_to(root)]
    split = first_stated(*(folder_split(place.relative_to(root).as_posix()) for place in places))
    return LabelledImage(
        image_name(path.with_suffix(image.suffix), root),
        image,
        split,
        areas,
        size=size,
        data=data,
    )


def _areas(
    path: Path, rows: list[dict[str, Any]], options: AnnotationsConfig, left_out: LeftOut
) -> list[Area]:
    """The shapes that cover pixels; later ones lie on top."""
    rule: PolygonRule = "coco" if options.polygons == "coco" else "outline"
    areas = []
    for index, row in enumerate(rows):
        where = f"'{path}' shapes[{index}]"
        with left_out.bad_shape(where):
            reason = _reason_to_leave_out(row)
            if reason is not None:
                left_out.add(reason, where)
                continue
            draw = _shape(row, where, rule)
            flags = [name for name, is_set in (row.get("flags") or {}).items() if is_set is True]
            finer = finer_of(row.get("attributes") or {}, options.finer)
            if finer is None and len(flags) == 1:
                finer = flags[0]
            concept = None if row["label"] == "__ignore__" else str(row["label"])
            areas.append(Area(concept, draw, finer, z=index, where=where))
    return areas


def _reason_to_leave_out(row: Mapping[str, Any]) -> str | None:
    """The reason to leave a shape out; None for one that covers pixels."""
    kind = row.get("shape_type") or "polygon"
    if not has_area(kind):
        return NO_AREA
    if row.get("label") in (None, ""):
        return NO_LABEL
    return FEW_POINTS if len(row["points"]) < _POINTS.get(kind, 1) else None


def _shape(row: Mapping[str, Any], where: str, rule: PolygonRule) -> Draw:
    kind = row.get("shape_type") or "polygon"
    points = []
    for x, y in row["points"]:
        points.append(shapes.finite([x, y]))
    if kind in ("polygon", "rotation"):
        return shapes.polygons([np.ravel(points).tolist()], rule)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points[0], points[-1] if len(points) == 2 else points[2]
        return shapes.polygons([[x1, y1, x2, y1, x2, y2, x1, y2]], rule)
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points[0], points[1]
        return shapes.circle(x, y, float(np.hypot(edge_x - x, edge_y - y)), rule)
    if kind == "mask":
        data = _decode_base64(row["mask"], f"{where}.mask")
        return shapes.pasted(lambda: read_mask(data, "mask") > 0, *points[0])
    raise ValueError(f"it is a {kind}; polygon, rotation, rectangle, circle and mask are read")


def _decode_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError(f"{where} is not base64: {error}") from None
