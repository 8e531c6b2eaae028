"""Cityscapes polygons (Cordts et al., 2016): `CITY_…_gtFine_polygons.json` for each image."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    FEW_POINTS,
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name
from segtune.data.formats.shapes import PolygonRule
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import read_json, walk
from segtune.data.source.names import in_any_form

_ENDS = ("_gtFine_polygons.json", "_gtCoarse_polygons.json", "_polygons.json")
_DELETED = "deleted objects were left out"
_CLASSES: dict[str, list[int]] = {
    "road": [128, 64, 128],
    "sidewalk": [244, 35, 232],
    "building": [70, 70, 70],
    "wall": [102, 102, 156],
    "fence": [190, 153, 153],
    "pole": [153, 153, 153],
    "traffic light": [250, 170, 30],
    "traffic sign": [220, 220, 0],
    "vegetation": [107, 142, 35],
    "terrain": [152, 251, 152],
    "sky": [70, 130, 180],
    "person": [220, 20, 60],
    "rider": [255, 0, 0],
    "car": [0, 0, 142],
    "truck": [0, 0, 70],
    "bus": [0, 60, 100],
    "train": [0, 80, 100],
    "motorcycle": [0, 0, 230],
    "bicycle": [119, 11, 32],
}
"""The 19 classes that Cityscapes evaluates, with their colours."""

_IGNORED = (
    "unlabeled",
    "ego vehicle",
    "rectification border",
    "out of roi",
    "static",
    "dynamic",
    "ground",
    "parking",
    "rail track",
    "guard rail",
    "bridge",
    "tunnel",
    "polegroup",
    "caravan",
    "trailer",
    "license plate",
)
"""Labels of Cityscapes that it does not evaluate."""

_NOT_DRAWN = "license plate"  # its id is negative: the authors' scripts leave the car as it is

DECLARED = Declaration(
    "file that ends in _polygons.json",
    (*PAINTING, "z", "polygons", "relocate"),
)


def find_files(root: Path) -> list[Path]:
    """The files of polygons below root: the fine ones, else the coarse ones."""
    files = list(walk(root, (".json",)))
    for end in _ENDS:
        found = [root / file for file in files if file.endswith(end)]
        if found:
            return found
    return []


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that has a file; later polygons lie on top.

    If all labels are Cityscapes', the classes are the 19 that it evaluates, and other pixels are
    ignored. Else every label is a class. A label `cargroup` means several cars.
    """
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    left_out = LeftOut()
    images: list[LabelledImage] = []
    for path in find_files(root):
        content = read_json(path)
        with reading(f"'{path}'"):
            size = int(content["imgHeight"]), int(content["imgWidth"])
            objects = list(content["objects"])
        split = folder_split(path.relative_to(root).as_posix())
        image = _image_of(path, finder, split)
        areas = _areas(path, objects, options, left_out)
        images.append(LabelledImage(image_name(image, root), image, split, areas, size))
    labels = {str(area.concept) for area in areas_of(images)}
    if labels <= {*_CLASSES, *_IGNORED}:
        images = [_with_evaluated_classes(image) for image in images]
        rows = class_rows(list(_CLASSES), [], options, _CLASSES)
    else:
        colors = {name: color for name, color in _CLASSES.items() if name in labels}
        rows = class_rows(sorted(labels), [], options, colors)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _image_of(path: Path, finder: FileFinder, split: str | None) -> Path:
    """The image of a file: `CITY_…_leftImg8bit.png` below root, or an image beside the file."""
    end = next(end for end in _ENDS if path.name.endswith(end))
    stem = path.name.removesuffix(end)
    for suffix in IMAGE_SUFFIXES:
        image = in_any_form(path.parent, f"{stem}{suffix}")
        if image is not None:
            return image
    name = f"{path.parent.name}/{stem}_leftImg8bit.png"
    return finder.find(name, f"the image of '{path}'", split=split)


def _areas(
    path: Path,
    objects: list[Mapping[str, Any]],
    options: AnnotationsConfig,
    left_out: LeftOut,
) -> list[Area]:
    rule: PolygonRule = "coco" if options.polygons == "coco" else "outline"
    areas = []
    for index, row in enumerate(objects):
        where = f"'{path}' objects[{index}]"
        with left_out.bad_shape(where):
            points = list(chain.from_iterable(row["polygon"]))
            if row.get("deleted"):
                left_out.add(_DELETED, where)
            elif not shapes.has_points(points):
                left_out.add(FEW_POINTS, where)
            else:
                draw = shapes.polygons([points], rule)
                areas.append(Area(_class_of(str(row["label"])), draw, z=index, where=where))
    return areas


def _class_of(label: str) -> str:
    """A label's class; groups of things have labels of their own."""
    single = label.removesuffix("group")
    return single if label not in _IGNORED and single in (*_CLASSES, *_IGNORED) else label


def _with_evaluated_classes(image: LabelledImage) -> LabelledImage:
    """An image whose pixels count only where a polygon of an evaluated class is on top."""
    areas = [Area(None, lambda height, width: np.ones((height, width), bool), z=-1, beneath=True)]
    for area in image.areas:
        if area.concept == _NOT_DRAWN:
            continue
        concept = area.concept if area.concept in _CLASSES else None
        areas.append(Area(concept, area.draw, z=area.z, where=area.where))
    return LabelledImage(image.name, image.image, image.split, areas, image.size)
