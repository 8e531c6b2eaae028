"""COCO's panoptic form: JSON beside PNGs whose colours are the ids of segments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.coco import checked_rows, coco_files
from segtune.data.formats.declaration import Declaration
from segtune.data.formats.faults import reading
from segtune.data.formats.finding import FileFinder, annotation_split, image_name
from segtune.data.formats.ids import id_key, id_order, rows_by_id
from segtune.data.reading.images import read_colors
from segtune.data.source.files import read_json
from segtune.data.source.names import in_any_form
from segtune.errors import DataError

DECLARED = Declaration(
    "JSON file with segments_info and the PNG files that it names",
    ("unlabelled", "crowd", "relocate"),
    has_mask_files=True,
)


def find_files(root: Path) -> list[Path]:
    """The panoptic COCO files below root."""
    return coco_files(root, panoptic=True)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image; pixels of no segment (id 0) are unlabelled."""
    options = annotation_options(config)
    finder, images = FileFinder(root, options.relocate), []
    contents = {path: read_json(path) for path in find_files(root)}
    categories = {path: _categories(path, content) for path, content in contents.items()}
    category_ids: dict[str, str] = {}
    for by_id in categories.values():
        category_ids |= {name: key for key, name in by_id.items()}
    names = sorted(category_ids, key=lambda name: id_order(category_ids[name]))
    classes = class_rows(names, [], options)
    class_ids = {str(row["name"]): index for index, row in enumerate(classes)}
    for path, content in contents.items():
        split = annotation_split(path.relative_to(root).as_posix())
        by_category = {key: class_ids[name] for key, name in categories[path].items()}
        rows = checked_rows(content, "images", path, ("id", "file_name"))
        image_rows = rows_by_id(rows, f"'{path}' images", "file_name")
        files = {key: str(row["file_name"]) for key, row in image_rows.items()}
        keys = ("image_id", "file_name", "segments_info")
        for index, row in enumerate(checked_rows(content, "annotations", path, keys)):
            where = f"'{path}' annotations[{index}]"
            key = id_key(row["image_id"], f"{where}.image_id")
            if key not in files:
                raise DataError(
                    f"{where}.image_id is {key}, which is none of its {len(files)} images."
                )
            image = finder.find(files[key], f"{where}.image", path.parent, split)
            png = _find_png(path, root, str(row["file_name"]), where)
            segments = checked_rows(row, "segments_info", path, ("id", "category_id"))
            table = _segment_table(segments, by_category, options, where)
            mask = _SegmentMask(png, table, where)
            images.append(LabelledImage(image_name(image, root), image, split, mask=mask))
    return Annotations(classes, images)


def _categories(path: Path, content: Any) -> dict[str, str]:
    """Category id -> name."""
    rows = checked_rows(content, "categories", path, ("id", "name"))
    by_id = rows_by_id(rows, f"'{path}' categories", "name")
    return {key: str(row["name"]) for key, row in by_id.items()}


def _find_png(path: Path, root: Path, name: str, where: str) -> Path:
    """The PNG of an annotation, in one of the folders in use."""
    folders = (path.with_suffix(""), root / path.stem, path.parent, root / "panoptic")
    for folder in folders:
        png = in_any_form(folder, name)
        if png is not None:
            return png
    raise DataError(f"{where}.file_name is '{name}', which is not in '{path.with_suffix('')}'.")


def _segment_table(
    segments: list[dict[str, Any]],
    by_category: Mapping[str, int],
    options: AnnotationsConfig,
    where: str,
) -> dict[int, int]:
    """Segment id -> class id."""
    table = {0: 0 if options.unlabelled == "background" else IGNORE_INDEX}
    for segment in segments:
        category = id_key(segment["category_id"], f"{where}.segments_info category_id")
        if category not in by_category:
            raise DataError(
                f"{where}.segments_info has the category_id {category}; "
                f"categories are {', '.join(sorted(by_category, key=id_order))}."
            )
        is_ignored = segment.get("iscrowd") and options.crowd == "ignore"
        class_id = IGNORE_INDEX if is_ignored else by_category[category]
        with reading(f"{where}.segments_info"):
            segment_id = int(segment["id"])
        if table.setdefault(segment_id, class_id) != class_id:
            raise DataError(
                f"{where}.segments_info gives the id {segment_id} to two segments of other "
                "classes; every id must be unique in an image, and 0 is no segment."
            )
    return table


@dataclass(frozen=True)
class _SegmentMask:
    """Reads the class ids of a panoptic PNG."""

    path: Path
    table: Mapping[int, int]
    where: str

    def __call__(self) -> NDArray[np.uint8]:
        pixels = read_colors(self.path).astype(np.int64)
        values, indices = np.unique(pixels @ np.array([1, 256, 65536]), return_inverse=True)
        unknown = [int(v) for v in values if int(v) not in self.table]
        if unknown:
            raise DataError(
                f"'{self.path}' holds segment {unknown[0]}, "
                f"which {self.where}.segments_info does not name."
            )
        ids = np.array([self.table[int(v)] for v in values], np.uint8)
        return np.asarray(ids[indices].reshape(pixels.shape[:2]), np.uint8)
