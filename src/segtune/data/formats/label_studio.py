"""Label Studio's JSON: polygons, brushes, rectangles and ellipses, in percent of the image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
    has_area,
)
from segtune.data.formats.finding import FileFinder, image_name, json_files, split_in
from segtune.data.formats.shapes import Bits, Draw, PolygonRule
from segtune.data.source.files import read_json
from segtune.errors import DataError


def find_files(root: Path) -> list[Path]:
    """Label Studio's JSON exports below root."""

    def is_format(content: Any) -> bool:
        first = content[0] if isinstance(content, list) and content else None
        return isinstance(first, dict) and "data" in first and "annotations" in first

    return json_files(root, is_format)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the image of each task, with the last annotation that was not cancelled."""
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    images = []
    for path in find_files(root):
        split = split_in(str(path.relative_to(root)))
        for index, task in enumerate(read_json(path)):
            where = f"'{path}' [{index}]"
            finished = [a for a in task["annotations"] if not a.get("was_cancelled")]
            results = finished[-1].get("result", []) if finished else []
            areas, size = _areas(results, where, rule)
            image = _image_of(task, finder, where, path.parent, split)
            images.append(LabelledImage(image_name(image, root), image, split, areas, size))
    all_areas = areas_of(images)
    names = sorted({str(area.concept) for area in all_areas})
    return Annotations(class_rows(names, all_areas, options), images)


def _image_of(
    task: Mapping[str, Any], finder: FileFinder, where: str, near: Path, split: str | None
) -> Path:
    """The image of a task; names of uploads begin with a key, as `1a2b3c4d-photo.jpg`."""
    values = [v for v in task["data"].values() if isinstance(v, str) and "." in v]
    url = values[0] if values else ""
    path = url.partition("?d=")[2] or url
    file_name = path.rpartition("/")[2]
    candidates = [path.lstrip("/"), file_name]
    if file_name[8:9] == "-":
        candidates.append(file_name.partition("-")[2])
    for candidate in candidates:
        try:
            return finder.find(candidate, f"{where}.data", near, split)
        except DataError:
            continue
    return finder.find(file_name, f"{where}.data", near, split)


def _areas(
    results: list[dict[str, Any]], where: str, rule: PolygonRule
) -> tuple[list[Area], tuple[int, int] | None]:
    """The areas of an annotation, and the (height, width) of its image.

    A choice that belongs to a region is the region's finer label.
    """
    choices: dict[Any, str] = {}
    for row in results:
        values = row.get("value", {}).get("choices")
        if row.get("type") == "choices" and values:
            choices[row.get("parentID") or row.get("id")] = values[0]
    areas, size = [], None
    for row in results:
        kind, value = str(row.get("type")), row.get("value", {})
        if kind.endswith("labels") and has_area(kind) and value.get(kind):
            draw = _shape(row, where, rule)
            size = (int(row["original_height"]), int(row["original_width"]))
            areas.append(Area(str(value[kind][0]), draw, choices.get(row.get("id"))))
    return areas, size


def _shape(row: Mapping[str, Any], where: str, rule: PolygonRule) -> Draw:
    kind, value = str(row["type"]), row["value"]
    where = f"{where} result '{row.get('id')}'"
    try:
        # pixels of one percent
        x_scale, y_scale = row["original_width"] / 100, row["original_height"] / 100
        degrees = float(value.get("rotation") or 0)
        if kind == "polygonlabels":
            points = np.array(value["points"], float) * [x_scale, y_scale]
            return shapes.polygons([points.ravel().tolist()], rule)
        if kind == "rectanglelabels":
            left, top = value["x"] * x_scale, value["y"] * y_scale
            right, bottom = left + value["width"] * x_scale, top + value["height"] * y_scale
            return shapes.box(left, top, right, bottom, degrees)
        if kind == "ellipselabels":
            center = value["x"] * x_scale, value["y"] * y_scale
            radii = value["radiusX"] * x_scale, value["radiusY"] * y_scale
            return shapes.ellipse(*center, *radii, degrees)
        if kind == "brushlabels":
            height, width = int(row["original_height"]), int(row["original_width"])
            return shapes.pasted(_decode_brush(value["rle"], height, width), 0, 0)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where} ({kind}) cannot be read ({type(error).__name__}).") from None
    raise DataError(f"{where} is of type {kind}; polygon, brush, rectangle and ellipse are read.")


def _decode_brush(packed: list[int], height: int, width: int) -> Bits:
    """Decode Label Studio's run lengths: a bit stream of an RGBA image, whose alpha is the area.

    The stream holds the number of values (32 bits), the size of a value (5), four sizes of run
    lengths (4 each), and then runs: one bit for "one value repeated", two bits for the size of the
    run length, the run length, and the values. All sizes and run lengths are stored less one.

    Raises:
        ValueError: the stream ends early, or codes another number of values.
    """
    bits = np.unpackbits(np.array(packed, np.uint8))
    position = 0

    def take(count: int) -> int:
        nonlocal position
        part = bits[position : position + count]
        if len(part) < count:
            raise ValueError("the run lengths end early")
        position += count
        return int("".join(map(str, part)), 2)

    total, value_bits = take(32), take(5) + 1
    length_bits = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise ValueError(f"{total} values for {height} x {width} x 4")
    values: NDArray[np.int64] = np.zeros(total, np.int64)
    start = 0
    while start < total:
        is_repeated = take(1)
        end = start + take(length_bits[take(2)]) + 1
        if is_repeated:
            values[start:end] = take(value_bits)
        else:
            values[start:end] = [take(value_bits) for _ in range(end - start)]
        start = end
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0, bool)
