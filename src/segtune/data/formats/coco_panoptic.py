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
from segtune.data.formats.finding import FileFinder, image_name, split_in
from segtune.data.reading.images import read_colors
from segtune.data.source.files import read_json
from segtune.errors import DataError


def find_files(root: Path) -> list[Path]:
    """The panoptic COCO files below root."""
    return coco_files(root, panoptic=True)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image; pixels of no segment (id 0) are unlabelled."""
    options = annotation_options(config)
    finder, images = FileFinder(root, options.relocate), []
    contents = {path: read_json(path) for path in find_files(root)}
    category_ids: dict[str, Any] = {}
    for path, content in contents.items():
        categories = checked_rows(content, "categories", path, ("id", "name"))
        category_ids |= {str(row["name"]): row["id"] for row in categories}
    classes = class_rows(sorted(category_ids, key=category_ids.__getitem__), [], options)
    class_ids = {str(row["name"]): index for index, row in enumerate(classes)}
    for path, content in contents.items():
        split = split_in(str(path.relative_to(root)))
        by_category = {row["id"]: class_ids[str(row["name"])] for row in content["categories"]}
        files = {
            row["id"]: str(row["file_name"])
            for row in checked_rows(content, "images", path, ("id", "file_name"))
        }
        keys = ("image_id", "file_name", "segments_info")
        for index, row in enumerate(checked_rows(content, "annotations", path, keys)):
            where = f"'{path}' annotations[{index}]"
            if row["image_id"] not in files:
                raise DataError(
                    f"{where}.image_id is {row['image_id']}, "
                    f"which is none of its {len(files)} images."
                )
            image = finder.find(files[row["image_id"]], f"{where}.image", path.parent, split)
            png = _find_png(path, root, str(row["file_name"]), where)
            segments = checked_rows(row, "segments_info", path, ("id", "category_id"))
            table = _segment_table(segments, by_category, options, where)
            mask = _SegmentMask(png, table, where)
            images.append(LabelledImage(image_name(image, root), image, split, mask=mask))
    return Annotations(classes, images)


def _find_png(path: Path, root: Path, name: str, where: str) -> Path:
    """The PNG of an annotation, in one of the folders in use."""
    folders = (path.with_suffix(""), root / path.stem, path.parent, root / "panoptic")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{where}.file_name is '{name}', which is not in '{path.with_suffix('')}'.")


def _segment_table(
    segments: list[dict[str, Any]],
    by_category: Mapping[Any, int],
    options: AnnotationsConfig,
    where: str,
) -> dict[int, int]:
    """Segment id -> class id."""
    table = {0: 0 if options.unlabelled == "background" else IGNORE_INDEX}
    for segment in segments:
        category = segment["category_id"]
        if category not in by_category:
            raise DataError(
                f"{where}.segments_info has the category_id {category}; "
                f"categories are {sorted(by_category)}."
            )
        is_ignored = segment.get("iscrowd") and options.crowd == "ignore"
        table[int(segment["id"])] = IGNORE_INDEX if is_ignored else by_category[category]
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
