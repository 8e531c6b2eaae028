"""YOLO-seg: a text file for each image, with one polygon in each line: `class x y x y …`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
)
from segtune.data.formats.finding import image_name
from segtune.data.formats.shapes import Bits, Draw, PolygonRule, polygons
from segtune.data.formats.yolo_images import find_images, label_file, unlabelled_note
from segtune.data.source.files import read_mapping, walk
from segtune.data.source.text import read_text
from segtune.errors import DataError

_TABLES_READ = 20  # YAML files that are tried


def find_files(root: Path) -> Path | None:
    """YOLO's table of classes below root: a YAML with `names`, and `train` or `nc`."""
    for file in list(walk(root, (".yaml", ".yml")))[:_TABLES_READ]:
        try:
            content = read_mapping(root / file)
        except DataError:
            continue
        if "names" in content and ("train" in content or "nc" in content):
            return root / file
    return None


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that the table names; without a text file it is all background."""
    options = annotation_options(config)
    table = find_files(root)
    assert table is not None  # the caller looked
    content = read_mapping(table)
    listed = content["names"]
    names = [str(n) for n in (listed.values() if isinstance(listed, dict) else listed)]
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    named = find_images(table, content)
    images: list[LabelledImage] = []
    unlabelled = []
    for file, split in named.splits.items():
        image, labels = named.top / file, label_file(named.top, file)
        areas: list[Area] = []
        if labels is None:
            unlabelled.append(file)
        else:
            areas = _read_areas(labels, names, rule)
        images.append(LabelledImage(image_name(image, named.top), image, split, areas))
    notes = [*named.notes, *unlabelled_note(named.top, unlabelled, len(images))]
    all_areas = areas_of(images)
    return Annotations(class_rows(names, all_areas, options), images, notes)


def _read_areas(path: Path, names: list[str], rule: PolygonRule) -> list[Area]:
    areas = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            class_id, points = _parse_line(line, f"'{path}' line {number}", len(names))
            areas.append(Area(names[class_id], _polygon(points, rule)))
    return areas


def _parse_line(line: str, where: str, num_classes: int) -> tuple[int, NDArray[np.float64]]:
    """Class id and points (N, 2), as shares of width and height.

    Raises:
        DataError: another number of values, or values out of range.
    """
    words = line.split()
    try:
        class_id, values = int(words[0]), np.array([float(w) for w in words[1:]])
    except ValueError:
        raise DataError(
            f"{where} is '{line[:40]}'; a class number and coordinates are expected."
        ) from None
    if not 0 <= class_id < num_classes:
        raise DataError(f"{where} is of class {class_id}; data.yaml names 0..{num_classes - 1}.")
    if len(values) < 6 or len(values) % 2:
        shape = "a box, not a polygon" if len(values) == 4 else f"{len(values)} numbers"
        raise DataError(
            f"{where} holds {shape}; at least three points x y are expected (YOLO-seg). "
            "Export polygons."
        )
    if not np.isfinite(values).all() or values.min() < -0.01 or values.max() > 1.01:
        raise DataError(
            f"{where} holds {values.min():.4g}..{values.max():.4g}; "
            "shares of width and height (0..1) are read."
        )
    return class_id, values.reshape(-1, 2)


def _polygon(points: NDArray[np.float64], rule: PolygonRule) -> Draw:
    def draw(height: int, width: int) -> Bits:
        pixels = (points * [width, height]).ravel().tolist()
        return polygons([pixels], rule)(height, width)

    return draw
