"""Label Studio's JSON: polygons, brushes, rectangles and ellipses, in percent of the image.

Both exports are read, JSON and JSON-MIN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtune.config.dataset_schema import DatasetConfig
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
    has_area,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, annotation_split, image_name, json_files
from segtune.data.formats.label_studio_min import full_tasks, is_min
from segtune.data.formats.run_lengths import Bits, decode_brush
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import read_json
from segtune.errors import ConfigError, DataError

_NO_REGION = (
    "choices",
    "textarea",
    "rating",
    "taxonomy",
    "number",
    "datetime",
    "pairwise",
    "relation",
)
"""Types of results that say something about a region or an image, but are none.

`labels` alone is the label of a region of the same id.
"""

DECLARED = Declaration(
    "JSON export of tasks",
    (*PAINTING, "polygons", "relocate", "annotator"),
    is_export=True,
)


def find_files(root: Path) -> list[Path]:
    """Label Studio's JSON exports below root."""

    def is_format(content: Any) -> bool:
        first = content[0] if isinstance(content, list) and content else None
        is_full = isinstance(first, dict) and "data" in first and "annotations" in first
        return is_full or is_min(content)

    return json_files(root, is_format)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the image of each labelled task, with the one annotation that counts.

    Tasks that were skipped or never labelled are left out: their objects are no background.
    """
    options = annotation_options(config)
    finder, left_out = FileFinder(root, options.relocate), LeftOut()
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    images = []
    annotators: dict[str, None] = {}
    for path in find_files(root):
        split = annotation_split(path.relative_to(root).as_posix())
        content = read_json(path)
        with reading(f"'{path}'"):
            tasks = full_tasks(content) if is_min(content) else list(enumerate(content))
        for index, task in tasks:
            where = f"'{path}' [{index}]"
            with reading(where):
                annotators |= dict.fromkeys(_annotators(task))
                results = _results(task, where, left_out, options.annotator)
                if results is None:
                    continue
                areas, size = _areas(results, where, rule, left_out)
                image = _image_of(task, results, finder, where, path.parent, split)
            name, file = image_name(image, root), path.relative_to(root).as_posix()
            images.append(LabelledImage(name, image, split, areas, size, file=file))
    if options.annotator is not None and options.annotator not in annotators:
        raise ConfigError(
            f"annotations.annotator={options.annotator}: the annotations of '{root}' are by "
            f"{', '.join(annotators) or 'nobody who is named'}."
        )
    all_areas = areas_of(images)
    names = sorted({str(area.concept) for area in all_areas})
    rows = class_rows(names, all_areas, options)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _results(
    task: Mapping[str, Any], where: str, left_out: LeftOut, annotator: str | None
) -> list[dict[str, Any]] | None:
    """The results of the annotation that counts; None for a task without one.

    It is the ground truth, else the last one that holds something, else the last.

    Args:
        annotator: the only one whose annotations count.
    """
    annotations = task.get("annotations") or []
    if annotator is not None:
        annotations = [a for a in annotations if annotator in _annotator_names(a)]
    finished = [a for a in annotations if not a.get("was_cancelled")]
    if not finished:
        reason = "were skipped" if annotations else "have no annotation"
        left_out.add(f"tasks {reason} and were left out", where)
        return None
    truths = [a for a in finished if a.get("ground_truth")]
    filled = [a for a in finished if a.get("result")]
    counted = (truths or filled or finished)[-1]
    if len(finished) > 1:
        left_out.add(
            "tasks have several annotations, of which the ground truth counts, else the last "
            "that holds something (annotations.annotator=ID chooses one)",
            where,
        )
    return list(counted.get("result") or [])


def _annotators(task: Mapping[str, Any]) -> list[str]:
    names = []
    for annotation in task.get("annotations") or ():
        names += _annotator_names(annotation)
    return names


def _annotator_names(annotation: Mapping[str, Any]) -> list[str]:
    """The id of an annotation's author, and the e-mail where the export holds it."""
    author = annotation.get("completed_by")
    if isinstance(author, Mapping):
        return [str(author.get(key)) for key in ("id", "email")]
    return [str(author)]


def _image_of(
    task: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    finder: FileFinder,
    where: str,
    near: Path,
    split: str | None,
) -> Path:
    """The image of a task: the only file that a field of its data names.

    Where fields name several, the one counts that is called as the results' `to_name`.

    Raises:
        DataError: no field names a file here, or several do and none is called so.
    """
    fields = {k: _path_of(v) for k, v in task["data"].items() if isinstance(v, str) and "." in v}
    targets = sorted({str(row["to_name"]) for row in results if row.get("to_name") in fields})
    if len(targets) > 1:
        raise DataError(
            f"{where} labels several images of one task ({', '.join(targets)}). Export each image "
            "as a task of its own."
        )
    images: dict[str, Path] = {}
    faults: list[DataError] = []
    for field, named in sorted(fields.items(), key=lambda item: not _is_image(item[1])):
        for candidate in _candidates(named):
            try:
                images[field] = finder.find(candidate, f"{where}.data.{field}", near, split)
                break
            except DataError as error:
                faults.append(error)
    if len(set(images.values())) == 1:
        return next(iter(images.values()))
    if images:
        if targets and targets[0] in images:
            return images[targets[0]]
        several = ", ".join(f"{field}: {image.name}" for field, image in images.items())
        raise DataError(
            f"{where}.data names several images ({several}), and no result says by to_name which "
            "one is labelled. Remove the other fields."
        )
    if faults:
        raise faults[0]
    raise DataError(f"{where}.data holds no file name; the name of an image is expected.")


def _path_of(text: str) -> str:
    """The path in a field: local files are served as `/data/local-files/?d=PATH`."""
    path = text.partition("?d=")[2] or text
    return path.partition("?")[0] if "://" in path else path


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _candidates(path: str) -> list[str]:
    """The paths that a file may have here; names of uploads begin with a key, `1a2b3c4d-`."""
    file_name = path.rpartition("/")[2]
    candidates = [path.lstrip("/"), file_name]
    if file_name[8:9] == "-":
        candidates.append(file_name.partition("-")[2])
    return candidates


def _areas(
    results: list[dict[str, Any]], where: str, rule: PolygonRule, left_out: LeftOut
) -> tuple[list[Area], tuple[int, int] | None]:
    """The areas of an annotation, and the (height, width) of its image.

    The results of one region share its id. Its label may lie in a result of type `labels`; a choice
    that belongs to it is its finer label.
    """
    labels: dict[str, list[str]] = {}
    choices: dict[str, list[str]] = {}
    for row in results:
        value = row.get("value") or {}
        if row.get("type") == "choices" and value.get("choices"):
            region = str(row.get("parentID") or row.get("id"))
            choices.setdefault(region, []).extend(map(str, value["choices"]))
        elif value.get("labels"):
            labels.setdefault(str(row.get("id")), []).extend(map(str, value["labels"]))
    areas, size = [], None
    for index, row in enumerate(results):
        kind = str(row.get("type")).removesuffix("labels")
        if not kind or kind in _NO_REGION:
            continue
        region = str(row.get("id") or f"[{index}]")
        place = f"{where} result '{region}' ({kind})"
        own_labels = list((row.get("value") or {}).get(row.get("type")) or ())
        with left_out.bad_shape(place):
            label = _only(own_labels or labels.get(region, []), "labels")
            reason = _reason_to_leave_out(row, kind, label)
            if reason is not None:
                left_out.add(reason, place)
                continue
            draw = _shape(row, kind, rule)
            size = (int(row["original_height"]), int(row["original_width"]))
            finer = _only(choices.get(region, []), "choices")
            areas.append(Area(label, draw, finer, where=place))
    return areas, size


def _only(texts: Sequence[object], what: str) -> str | None:
    """The one text of several equal ones; None if there is none.

    Raises:
        ValueError: they differ.
    """
    names = list(dict.fromkeys(map(str, texts)))
    if len(names) > 1:
        raise ValueError(f"its {what} are {', '.join(names)}; one is allowed")
    return names[0] if names else None


def _reason_to_leave_out(row: Mapping[str, Any], kind: str, label: str | None) -> str | None:
    """The reason to leave a region out; None for one that covers pixels of a class."""
    if not has_area(kind) or kind == "keypoint":
        return NO_AREA
    if not label:
        return NO_LABEL
    few_points = kind == "polygon" and len(row["value"]["points"]) < 3
    return FEW_POINTS if few_points else None


def _shape(row: Mapping[str, Any], kind: str, rule: PolygonRule) -> Draw:
    value = row["value"]
    height, width = shapes.finite([row["original_height"], row["original_width"]])
    x_scale, y_scale = width / 100, height / 100  # pixels of one percent
    degrees = value.get("rotation") or 0
    if kind == "polygon":
        points: list[float] = []
        for x, y in value["points"]:
            points += [x * x_scale, y * y_scale]
        return shapes.polygons([points], rule)
    if kind == "rectangle":
        left, top = value["x"] * x_scale, value["y"] * y_scale
        right, bottom = left + value["width"] * x_scale, top + value["height"] * y_scale
        return shapes.box(left, top, right, bottom, degrees)
    if kind == "ellipse":
        center = value["x"] * x_scale, value["y"] * y_scale
        radii = value["radiusX"] * x_scale, value["radiusY"] * y_scale
        return shapes.ellipse(*center, *radii, degrees)
    if kind == "brush":
        return _Brush(value["rle"])
    raise ValueError("polygon, brush, rectangle and ellipse are read")


@dataclass(frozen=True)
class _Brush:
    """Draws run lengths, which have the size of the image."""

    packed: list[Any]

    def __call__(self, height: int, width: int) -> Bits:
        return decode_brush(self.packed, height, width)
