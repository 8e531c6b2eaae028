"""COCO: polygons, run lengths and crowds in JSON; and its panoptic form, whose PNGs hold segment ids as colours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats.areas import (
    Annotated,
    Area,
    Bits,
    Labelled,
    class_rows,
    decode_rle,
    finer_of,
    polygons,
)
from segtune.data.formats.finding import Finder, name_of, read_json, split_in
from segtune.data.reading.images import read_colors
from segtune.data.source.files import walk
from segtune.errors import DataError


def coco_files(root: Path, panoptic: bool = False) -> list[Path]:
    """The JSON files below root that hold such annotations."""
    return [root / f for f in walk(root, (".json",)) if _is_coco(root / f, panoptic)]


def _is_coco(path: Path, panoptic: bool) -> bool:
    try:
        data = read_json(path)
    except DataError:
        return False
    if not isinstance(data, dict) or not all(
        isinstance(data.get(k), list) for k in ("images", "annotations")
    ):
        return False
    return (
        any("segments_info" in a for a in data["annotations"][:20] if isinstance(a, dict))
        == panoptic
    )


def read_coco(root: Path, config: AnnotationsConfig) -> Annotated:
    """Every image of every file; without annotations it is all background."""
    finder, items, everything = Finder(root, config.relocate), [], []
    names: dict[str, tuple[Any, str]] = {}
    for path in coco_files(root):
        data = read_json(path)
        categories = {
            c["id"]: str(c["name"]) for c in _rows(data, "categories", path, ("id", "name"))
        }
        names |= {name: (i, name) for i, name in categories.items()}
        split = split_in(str(path.relative_to(root)))
        areas: dict[Any, list[Area]] = {}
        rule = _polygon_rule(data) if config.polygons == "auto" else config.polygons
        sizes = {i["id"]: i for i in _rows(data, "images", path, ("id", "file_name"))}
        for place, row in enumerate(_rows(data, "annotations", path, ("image_id", "category_id"))):
            where = f"'{path}' annotations[{place}]"
            if row["category_id"] not in categories:
                raise DataError(
                    f"{where}.category_id is {row['category_id']}; categories are {sorted(categories)}."
                )
            if row["image_id"] not in sizes:
                raise DataError(
                    f"{where}.image_id is {row['image_id']}, which is none of its {len(sizes)} images."
                )
            concept = categories[row["category_id"]]
            finer = finer_of(row.get("attributes") or {}, config.finer)
            draw = _drawn(row, where, rule)
            area = Area(_plain(concept), draw, finer, crowd=bool(row.get("iscrowd")))
            areas.setdefault(row["image_id"], []).append(area)
            everything.append(area)
        for place, image in enumerate(sizes.values()):
            file = finder.find(
                str(image["file_name"]), f"'{path}' images[{place}].file_name", path.parent, split
            )
            size = (
                (int(image["height"]), int(image["width"]))
                if image.get("height") and image.get("width")
                else None
            )
            own = split or split_in(
                str(file.relative_to(root).parent) if file.is_relative_to(root) else ""
            )
            items.append(Labelled(name_of(file, root), file, own, areas.get(image["id"], []), size))
    ordered = [n for _, n in sorted(names.values(), key=lambda v: v[0]) if _plain(n) is not None]
    return Annotated(class_rows(ordered, everything, config), items)


def _plain(name: str) -> str | None:
    """A class's name; None for the one that tools use for pixels to be ignored."""
    return None if name in ("__ignore__", "ignore", "void") else name


def _polygon_rule(data: Mapping[str, Any], looked_at: int = 50) -> str:
    """The rule that comes closer to the areas that the file states."""
    sizes = {i["id"]: (i.get("height"), i.get("width")) for i in data["images"]}
    off = {"coco": 0.0, "outline": 0.0}
    for row in [
        r for r in data["annotations"] if isinstance(r.get("segmentation"), list) and r.get("area")
    ][:looked_at]:
        height, width = sizes.get(row.get("image_id"), (None, None))
        if height and width and row["segmentation"]:
            for rule in off:
                off[rule] += abs(
                    float(_drawn(row, "", rule)(height, width).sum()) - float(row["area"])
                )
    return "outline" if off["outline"] < off["coco"] else "coco"


def _drawn(row: Mapping[str, Any], where: str, rule: str) -> Any:
    shape = row.get("segmentation")
    if (
        isinstance(shape, list)
        and shape
        and all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in shape)
    ):
        return polygons(shape, rule)
    if isinstance(shape, dict) and "counts" in shape and len(shape.get("size") or ()) == 2:

        def draw(height: int, width: int) -> Bits:
            if list(shape["size"]) != [height, width]:
                raise DataError(
                    f"{where}.segmentation.size is {shape['size']}, its image's [{height}, {width}]."
                )
            plain = isinstance(shape["counts"], list)
            return decode_rle(coco.frPyObjects(shape, height, width) if plain else shape)

        return draw
    if shape == [] or shape is None:
        return lambda height, width: np.zeros(
            (height, width), bool
        )  # a box alone: no area is known
    raise DataError(
        f"{where}.segmentation is {str(shape)[:80]}; polygons of at least three points [[x, y, x, y, …], …] or run "
        "lengths {counts, size} are allowed."
    )


def read_panoptic(root: Path, config: AnnotationsConfig) -> Annotated:
    """Every image; pixels of no segment (id 0) are unlabelled, crowds as `annotations.crowd` says."""
    finder, items = Finder(root, config.relocate), []
    names: dict[str, Any] = {}
    files = coco_files(root, panoptic=True)
    for path in files:
        names |= {
            str(c["name"]): c["id"]
            for c in _rows(read_json(path), "categories", path, ("id", "name"))
        }
    classes = class_rows(sorted(names, key=lambda n: names[n]), [], config)
    index = {str(c["name"]): i for i, c in enumerate(classes)}
    for path in files:
        data, split = read_json(path), split_in(str(path.relative_to(root)))
        categories = {c["id"]: str(c["name"]) for c in data["categories"]}
        images = {i["id"]: i for i in _rows(data, "images", path, ("id", "file_name"))}
        for place, row in enumerate(
            _rows(data, "annotations", path, ("image_id", "file_name", "segments_info"))
        ):
            where = f"'{path}' annotations[{place}]"
            if row["image_id"] not in images:
                raise DataError(
                    f"{where}.image_id is {row['image_id']}, which is none of its {len(images)} images."
                )
            image = finder.find(
                str(images[row["image_id"]]["file_name"]), f"{where}.image", path.parent, split
            )
            png = next(
                (p for p in _panoptic_places(path, root, str(row["file_name"])) if p.is_file()),
                None,
            )
            if png is None:
                raise DataError(
                    f"{where}.file_name is '{row['file_name']}', which is not in '{path.with_suffix('')}'."
                )
            table = {0: 0 if config.unlabelled == "background" else IGNORE_INDEX}
            for segment in row["segments_info"]:
                crowd = segment.get("iscrowd") and config.crowd == "ignore"
                table[int(segment["id"])] = (
                    IGNORE_INDEX if crowd else index[categories[segment["category_id"]]]
                )
            items.append(
                Labelled(name_of(image, root), image, split, mask=_Segments(png, table, where))
            )
    return Annotated(classes, items)


class _Segments:
    """Class ids of a panoptic PNG."""

    def __init__(self, path: Path, table: Mapping[int, int], where: str) -> None:
        self.path, self.table, self.where = path, table, where

    def __call__(self) -> NDArray[np.uint8]:
        pixels = read_colors(self.path).astype(np.int64)
        values, places = np.unique(pixels @ np.array([1, 256, 65536]), return_inverse=True)
        unknown = [int(v) for v in values if int(v) not in self.table]
        if unknown:
            raise DataError(
                f"'{self.path}' holds segment {unknown[0]}, which {self.where}.segments_info does not name."
            )
        ids = np.array([self.table[int(v)] for v in values], np.uint8)
        return np.asarray(ids[places].reshape(pixels.shape[:2]), np.uint8)


def _panoptic_places(path: Path, root: Path, name: str) -> list[Path]:
    return [
        path.with_suffix("") / name,
        root / path.stem / name,
        path.parent / name,
        root / "panoptic" / name,
    ]


def _rows(data: Any, key: str, path: Path, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = data.get(key)
    if not isinstance(rows, list):
        raise DataError(
            f"'{path}' holds no list of {key}; COCO's JSON has images, annotations and categories."
        )
    for place, row in enumerate(rows):
        missing = [k for k in needed if not isinstance(row, dict) or k not in row]
        if missing:
            raise DataError(f"'{path}' {key}[{place}] lacks {', '.join(missing)}.")
    return rows
