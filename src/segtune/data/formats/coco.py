"""COCO: polygons, run lengths and crowds in JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
    finer_of,
)
from segtune.data.formats.finding import FileFinder, folder_split, image_name, json_files, split_in
from segtune.data.formats.shapes import Bits, Draw, PolygonRule, decode_rle, polygons
from segtune.data.source.files import read_json
from segtune.errors import DataError

_IGNORED = ("__ignore__", "ignore", "void")  # categories of pixels that count nowhere
_RULE_SAMPLE = 50  # polygons that are drawn to find the file's polygon rule


def find_files(root: Path) -> list[Path]:
    """The COCO files below root, without panoptic ones."""
    return coco_files(root, panoptic=False)


def coco_files(root: Path, panoptic: bool) -> list[Path]:
    """The COCO files below root that are panoptic, or those that are not."""

    def is_format(content: Any) -> bool:
        if not isinstance(content, dict):
            return False
        if not all(isinstance(content.get(key), list) for key in ("images", "annotations")):
            return False
        sample = [row for row in content["annotations"][:20] if isinstance(row, dict)]
        return any("segments_info" in row for row in sample) == panoptic

    return json_files(root, is_format)


def checked_rows(content: Any, key: str, path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a list in a COCO file, each with the keys that it needs.

    Raises:
        DataError: there is no such list, or a row lacks a key.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        raise DataError(
            f"'{path}' holds no list of {key}; COCO's JSON has images, annotations and categories."
        )
    for index, row in enumerate(rows):
        missing = [k for k in keys if not isinstance(row, dict) or k not in row]
        if missing:
            raise DataError(f"'{path}' {key}[{index}] lacks {', '.join(missing)}.")
    return rows


@dataclass(frozen=True)
class _CocoFile:
    """One file: categories and images by their ids, and the annotations."""

    path: Path
    categories: dict[Any, str]
    images: dict[Any, dict[str, Any]]
    annotations: list[dict[str, Any]]


def _parse(path: Path) -> _CocoFile:
    content = read_json(path)
    categories = checked_rows(content, "categories", path, ("id", "name"))
    images = checked_rows(content, "images", path, ("id", "file_name"))
    return _CocoFile(
        path,
        {row["id"]: str(row["name"]) for row in categories},
        {row["id"]: row for row in images},
        checked_rows(content, "annotations", path, ("image_id", "category_id")),
    )


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image of every file; an image without annotations is all background."""
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    images: list[LabelledImage] = []
    category_ids: dict[str, Any] = {}
    for path in find_files(root):
        file = _parse(path)
        category_ids |= {name: category_id for category_id, name in file.categories.items()}
        images += _labelled_images(file, root, finder, _areas_by_image(file, options))
    names = [n for n in sorted(category_ids, key=category_ids.__getitem__) if n not in _IGNORED]
    return Annotations(class_rows(names, areas_of(images), options), images)


def _areas_by_image(file: _CocoFile, options: AnnotationsConfig) -> dict[Any, list[Area]]:
    """Image id -> its areas."""
    rule = _polygon_rule(file) if options.polygons == "auto" else options.polygons
    areas: dict[Any, list[Area]] = {}
    for index, row in enumerate(file.annotations):
        where = f"'{file.path}' annotations[{index}]"
        if row["category_id"] not in file.categories:
            raise DataError(
                f"{where}.category_id is {row['category_id']}; "
                f"categories are {sorted(file.categories)}."
            )
        if row["image_id"] not in file.images:
            raise DataError(
                f"{where}.image_id is {row['image_id']}, "
                f"which is none of its {len(file.images)} images."
            )
        name = file.categories[row["category_id"]]
        area = Area(
            None if name in _IGNORED else name,
            _shape(row, where, rule),
            finer_of(row.get("attributes") or {}, options.finer),
            crowd=bool(row.get("iscrowd")),
        )
        areas.setdefault(row["image_id"], []).append(area)
    return areas


def _labelled_images(
    file: _CocoFile, root: Path, finder: FileFinder, areas: dict[Any, list[Area]]
) -> list[LabelledImage]:
    images = []
    file_split = split_in(str(file.path.relative_to(root)))
    for index, row in enumerate(file.images.values()):
        where = f"'{file.path}' images[{index}].file_name"
        image = finder.find(str(row["file_name"]), where, file.path.parent, file_split)
        inside = image.relative_to(root).as_posix() if image.is_relative_to(root) else ""
        has_size = row.get("height") and row.get("width")
        size = (int(row["height"]), int(row["width"])) if has_size else None
        images.append(
            LabelledImage(
                image_name(image, root),
                image,
                file_split or folder_split(inside),
                areas.get(row["id"], []),
                size,
            )
        )
    return images


def _polygon_rule(file: _CocoFile) -> PolygonRule:
    """The rule whose polygons come closer to the areas, in pixels, that the file states."""
    errors: dict[PolygonRule, float] = {"coco": 0.0, "outline": 0.0}
    stated = []
    for index, row in enumerate(file.annotations):
        if isinstance(row.get("segmentation"), list) and row.get("area"):
            stated.append((f"'{file.path}' annotations[{index}]", row))
    for where, row in stated[:_RULE_SAMPLE]:
        image = file.images.get(row["image_id"], {})
        height, width = image.get("height"), image.get("width")
        if not (height and width and row["segmentation"]):
            continue
        for rule in errors:
            pixels = float(_shape(row, where, rule)(height, width).sum())
            errors[rule] += abs(pixels - float(row["area"]))
    return "outline" if errors["outline"] < errors["coco"] else "coco"


def _shape(row: dict[str, Any], where: str, rule: PolygonRule) -> Draw:
    """The shape of an annotation: polygons, run lengths, or no pixel for a box alone."""
    shape = row.get("segmentation")
    if shape is None or shape == []:
        return lambda height, width: np.zeros((height, width), bool)
    if isinstance(shape, list) and all(_is_polygon(part) for part in shape):
        return polygons(shape, rule)
    if isinstance(shape, dict) and "counts" in shape and len(shape.get("size") or ()) == 2:
        return _run_lengths(shape, where)
    raise DataError(
        f"{where}.segmentation is {str(shape)[:80]}; polygons of at least three points "
        "[[x, y, x, y, …], …] or run lengths {counts, size} are allowed."
    )


def _is_polygon(part: object) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _run_lengths(shape: dict[str, Any], where: str) -> Draw:
    def draw(height: int, width: int) -> Bits:
        if list(shape["size"]) != [height, width]:
            raise DataError(
                f"{where}.segmentation.size is {shape['size']}, its image's [{height}, {width}]."
            )
        is_compressed = not isinstance(shape["counts"], list)
        return decode_rle(shape if is_compressed else coco_mask.frPyObjects(shape, height, width))

    return draw
