"""Writers of one photo with one polygon, box or the like in each format that stores areas."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from segtune.config.compose import compose
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats import read
from segtune.data.formats.areas import Annotations
from tests.data.annotation_sets import H, W, save_photos

GOOD = [10, 10, 30, 10, 30, 30, 10, 30]
"""A square [x, y, x, y, …] that every set holds beside the polygon under test."""


def coco_of(segmentations: list[Any], **keys: Any) -> dict[str, Any]:
    """The content of a COCO file with one photo."""
    rows = [
        {"id": n, "image_id": 0, "category_id": 1, "segmentation": segmentation, **keys}
        for n, segmentation in enumerate(segmentations)
    ]
    return {
        "images": [{"id": 0, "file_name": "photo_0.png", "height": H, "width": W}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "car"}],
    }


def write_coco(root: Path, points: list[Any]) -> None:
    (root / "a.json").write_text(json.dumps(coco_of([[GOOD], [points]])))


def write_labelme(root: Path, points: list[Any]) -> None:
    shapes = [
        {"label": "car", "shape_type": "polygon", "points": pairs(polygon)}
        for polygon in (GOOD, points)
    ]
    content = {"shapes": shapes, "imagePath": "photo_0.png", "imageHeight": H, "imageWidth": W}
    (root / "a.json").write_text(json.dumps(content))


def write_cvat(root: Path, points: list[Any]) -> None:
    shapes = ""
    for polygon in (GOOD, points):
        text = ";".join(f"{x},{y}" for x, y in pairs(polygon))
        shapes += f'<polygon label="car" points="{text}"/>'
    image = f'<image id="0" name="photo_0.png" width="{W}" height="{H}">{shapes}</image>'
    (root / "a.xml").write_text(f"<annotations>{image}</annotations>")


def write_label_studio(root: Path, points: list[Any]) -> None:
    results = []
    for number, polygon in enumerate((GOOD, points)):
        shares = [
            [x if isinstance(x, str) else x / W * 100, y if isinstance(y, str) else y / H * 100]
            for x, y in pairs(polygon)
        ]
        results.append(region(str(number), "polygonlabels", points=shares, polygonlabels=["car"]))
    write_tasks(root, [task("photo_0.png", results)])


POLYGON_SETS: dict[str, Callable[[Path, list[Any]], None]] = {
    "coco": write_coco,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "label_studio": write_label_studio,
}
"""Format -> writer of `GOOD` and a second polygon."""


def pairs(points: list[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(points[::2], points[1::2], strict=True)]


def region(name: str, kind: str, **value: Any) -> dict[str, Any]:
    """A result of Label Studio."""
    return {"id": name, "type": kind, "value": value, "original_width": W, "original_height": H}


def task(photo: str, *annotations: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    """A task of Label Studio with the results of each annotator."""
    rows = [{"result": results, "was_cancelled": False} for results in annotations]
    return {"data": {"image": photo}, "annotations": rows, **keys}


def write_tasks(root: Path, tasks: list[dict[str, Any]]) -> None:
    (root / "project.json").write_text(json.dumps(tasks))


def polygon_set(root: Path, name: str, points: list[Any]) -> Path:
    save_photos(root, 1)
    POLYGON_SETS[name](root, points)
    return root


@cache
def config_of(*words: str) -> DatasetConfig:
    any_format = ["dataset=coco", "dataset.root=.", "dataset.annotations.format=auto"]
    return compose([*any_format, *words]).config.dataset


def annotations_of(root: Path, *words: str) -> Annotations:
    """What the reader of a folder's annotations returns."""
    return read(root, config_of(*words))
