"""SA-1B (Kirillov et al., 2023): a JSON file for each image, with objects without classes."""

from pathlib import Path
from typing import Any

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name, json_files
from segtune.data.source.files import read_json

_ONLY_CLASS = "object"

DECLARED = Declaration(
    "JSON file with image and annotations of one photo",
    (*PAINTING, "relocate"),
)


def find_files(root: Path) -> list[Path]:
    """SA-1B's JSON files below root."""

    def is_format(content: Any) -> bool:
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            return False
        image = content.get("image")
        return isinstance(image, dict) and "file_name" in image

    return json_files(root, is_format)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that has a file; its objects become one class, `object`."""
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    images, left_out = [], LeftOut()
    for path in find_files(root):
        content = read_json(path)
        split = folder_split(path.relative_to(root).as_posix())
        row = content["image"]
        image = finder.find(str(row["file_name"]), f"'{path}' image.file_name", path.parent, split)
        areas = []
        for index, annotation in enumerate(content["annotations"]):
            where = f"'{path}' annotations[{index}] (id {_id_of(annotation)})"
            with left_out.bad_shape(where):
                stored = annotation["segmentation"]
                draw = shapes.run_lengths(stored["counts"], stored["size"])
                areas.append(Area(_ONLY_CLASS, draw, where=where))
        with reading(f"'{path}' image"):
            size = int(row["height"]), int(row["width"])
        images.append(LabelledImage(image_name(image, root), image, split, areas, size))
    rows = class_rows([_ONLY_CLASS], [], options)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _id_of(annotation: object) -> object:
    return annotation.get("id", "unknown") if isinstance(annotation, dict) else "unknown"
