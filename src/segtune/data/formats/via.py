"""VIA (VGG Image Annotator): a project or export in JSON, or CSV tables, with regions."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
from segtune.data.formats.finding import (
    FileFinder,
    annotation_split,
    image_name,
    json_files,
)
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.source.files import read_json, walk
from segtune.data.source.text import read_text
from segtune.errors import DataError

_CLASS_ATTRIBUTES = ("class", "label", "name", "category", "type", "object")
_SHAPE_COLUMN, _ATTRIBUTES_COLUMN = "region_shape_attributes", "region_attributes"
_ONLY_CLASS = "object"  # where no region of the dataset has an attribute


@dataclass(frozen=True)
class _Region:
    """One region: its shape and its attributes as the file states them."""

    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class _Image:
    """One image of a file, and its regions."""

    path: Path
    file_name: str
    regions: list[_Region]
    where: str


DECLARED = Declaration(
    "project or export in JSON or CSV with regions",
    (*PAINTING, "polygons", "finer", "label", "relocate"),
    is_export=True,
)


def find_files(root: Path) -> list[Path]:
    """VIA's JSON files below root; its CSV tables if there are none."""
    tables = [root / file for file in walk(root, (".csv",)) if _is_table(root / file)]
    return json_files(root, _is_via) or tables


def _is_via(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    if isinstance(content.get("_via_img_metadata"), dict):
        return True
    first = next(iter(content.values()), None)
    return isinstance(first, dict) and "filename" in first and "regions" in first


def _is_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _SHAPE_COLUMN in file.readline(4096).decode("utf-8", "replace")
    except OSError:
        return False


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image of every file; of two overlapping regions the smaller one is on top.

    The class is the attribute that `annotations.label` names, else `class`, `label`, `name`,
    `category`, `type` or `object`, else the only attribute. If no region has an attribute, all are
    of one class, `object`.
    """
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    listed: list[_Image] = []
    for path in find_files(root):
        listed += _table_images(path) if path.suffix.lower() == ".csv" else _json_images(path)
    label, label_notes = _class_attribute(listed, options.label)
    left_out = LeftOut()
    images = []
    for item in listed:
        split = annotation_split(item.path.relative_to(root).as_posix())
        image = finder.find(item.file_name, f"{item.where} filename", item.path.parent, split)
        inside = image.relative_to(root).as_posix() if image.is_relative_to(root) else ""
        areas = _areas(item.regions, label, options, left_out)
        file = item.path.relative_to(root).as_posix()
        split = annotation_split(file, inside)
        images.append(LabelledImage(image_name(image, root), image, split, areas, file=file))
    all_areas = areas_of(images)
    names = sorted({str(area.concept) for area in all_areas})
    rows = class_rows(names, all_areas, options)
    notes = [*label_notes, *left_out.notes()]
    return Annotations(rows, images, notes, left_out.bad_shapes)


def _json_images(path: Path) -> list[_Image]:
    content = read_json(path)
    rows = content.get("_via_img_metadata", content)
    images = []
    for key, row in rows.items():
        where = f"'{path}' '{key}'"
        with reading(where):
            # VIA 1 writes regions as a mapping {"0": region, ...}
            listed = row["regions"]
            listed = list(listed.values()) if isinstance(listed, dict) else list(listed)
            regions = []
            for index, region in enumerate(listed):
                shape, attributes = region["shape_attributes"], region.get("region_attributes")
                place = f"{where} regions[{index}]"
                regions.append(_Region(dict(shape), dict(attributes or {}), place))
            images.append(_Image(path, str(row["filename"]), regions, where))
    return images


def _table_images(path: Path) -> list[_Image]:
    """The images of a CSV table, which has one line for each region."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    regions: dict[str, list[_Region]] = {}
    try:
        for row in rows:
            where = f"'{path}' line {rows.line_num}"
            with reading(where):
                file_name = row.get("filename") or row["#filename"]
                shape = json.loads(row[_SHAPE_COLUMN] or "{}")
                attributes = json.loads(row[_ATTRIBUTES_COLUMN] or "{}")
                listed = regions.setdefault(file_name, [])
                if shape:
                    listed.append(_Region(dict(shape), dict(attributes), where))
    except csv.Error as error:
        raise DataError(f"'{path}' line {rows.line_num} cannot be read as CSV: {error}") from None
    return [_Image(path, name, rows, f"'{path}' '{name}'") for name, rows in regions.items()]


def _class_attribute(images: Sequence[_Image], wanted: str) -> tuple[str | None, list[str]]:
    """The attribute that holds the class, and a note where it was chosen from several.

    It is None if no region has attributes.

    Raises:
        DataError: several attributes could be it, or none has the name in the config.
    """
    names: dict[str, None] = {}
    for image in images:
        for region in image.regions:
            names |= dict.fromkeys(region.attributes)
    if wanted != "auto":
        if wanted not in names:
            raise DataError(
                f"annotations.label={wanted}, but the attributes of the regions are: "
                f"{', '.join(names) or 'none'}."
            )
        return wanted, []
    if len(names) <= 1:
        return next(iter(names), None), []
    by_lower_case = {name.lower(): name for name in names}
    usual = [by_lower_case[name] for name in _CLASS_ATTRIBUTES if name in by_lower_case]
    if usual:
        note = f"the attribute '{usual[0]}' of {', '.join(names)} is taken for the class"
        return usual[0], [f"{note} (dataset.annotations.label=NAME takes another one)"]
    raise DataError(
        f"'{images[0].path}': the regions have the attributes {', '.join(names)}. Name the one "
        f"that holds the class, e.g. annotations.label={next(iter(names))}"
    )


def _areas(
    regions: Sequence[_Region], label: str | None, options: AnnotationsConfig, left_out: LeftOut
) -> list[Area]:
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    areas = []
    for region in regions:
        with left_out.bad_shape(region.where):
            kind = str(region.shape["name"])
            concept = _ONLY_CLASS if label is None else _chosen(region.attributes.get(label))
            if not has_area(kind):
                left_out.add(NO_AREA, region.where)
            elif concept is None:
                left_out.add(NO_LABEL, region.where)
            elif kind == "polygon" and len(region.shape["all_points_x"]) < 3:
                left_out.add(FEW_POINTS, region.where)
            else:
                others = {k: v for k, v in region.attributes.items() if k != label}
                finer = finer_of(others, options.finer)
                draw = _shape(kind, region.shape, rule)
                areas.append(Area(concept, draw, finer, where=region.where))
    return areas


def _chosen(value: object) -> str | None:
    """The text of an attribute, or the one option that is ticked; None for an empty one.

    Raises:
        ValueError: several options are ticked.
    """
    if isinstance(value, dict):
        ticked = [str(option) for option, is_ticked in value.items() if is_ticked]
        if len(ticked) > 1:
            raise ValueError(f"it is of several classes, {', '.join(ticked)}; one is allowed")
        return ticked[0] if ticked else None
    text = "" if value is None else str(value).strip()
    return text or None


def _shape(kind: str, shape: Mapping[str, Any], rule: PolygonRule) -> Draw:
    """The shape of a region, in pixels; an ellipse is turned by `theta`, in radians."""
    if kind == "polygon":
        pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        return shapes.polygons([list(chain.from_iterable(pairs))], rule)
    if kind == "rect":
        left, top, width, height = shapes.finite(
            [shape[key] for key in ("x", "y", "width", "height")]
        )
        return shapes.box(left, top, left + width, top + height)
    if kind == "circle":
        return shapes.ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    if kind == "ellipse":
        degrees = float(np.rad2deg(float(shape.get("theta") or 0)))
        return shapes.ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], degrees)
    raise ValueError(f"it is a {kind}; polygon, rect, circle and ellipse are read")
