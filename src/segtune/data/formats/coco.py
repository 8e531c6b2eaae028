"""COCO: polygons, run lengths and crowds in JSON."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    finer_of,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import (
    FileFinder,
    annotation_split,
    image_name,
    json_files,
)
from segtune.data.formats.ids import id_key, id_order, rows_by_id
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.source.files import read_json
from segtune.errors import DataError

_IGNORED = ("__ignore__", "ignore", "void")  # categories of pixels that count nowhere
_RULE_SAMPLE = 50  # polygons that are drawn to find the file's polygon rule
_RULE_PIXELS = 3 * 10**8  # of their images, as the file states them
_RULE_ERROR = 0.02  # of the stated areas: a rule that errs more did not make them
_BOXES = "annotations hold a box but no area; the pixels of the boxes are ignored (255)"
_HEADINGS = "categories are the supercategory of all others, have no annotation and are no class"
_NOTHING = "annotations hold neither an area nor a box and were left out"
_OUTLINES = (
    "files state areas that fit polygons with their outlines, which are drawn so "
    "(dataset.annotations.polygons=coco draws them as pycocotools does)"
)
_NO_CATEGORIES = "files without categories (captions or the like) were passed over"

DECLARED = Declaration(
    "JSON file with images, annotations and categories",
    (*PAINTING, "polygons", "crowd", "finer", "relocate"),
    is_export=True,
)


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
    categories: dict[str, str]
    images: dict[str, dict[str, Any]]
    annotations: list[dict[str, Any]]
    left_out: LeftOut


def _parse(path: Path, content: Any, left_out: LeftOut) -> _CocoFile:
    categories = checked_rows(content, "categories", path, ("id", "name"))
    images = checked_rows(content, "images", path, ("id", "file_name"))
    annotations = checked_rows(content, "annotations", path, ("image_id", "category_id"))
    by_id = rows_by_id(categories, f"'{path}' categories", "name")
    names = {key: str(row["name"]) for key, row in by_id.items()}
    heading = _heading(by_id, annotations)
    if heading is not None:
        left_out.add(_HEADINGS, f"'{names.pop(heading)}'")
    for name, count in Counter(names.values()).items():
        if count > 1:
            left_out.add("names are those of several category ids, which become one class", name)
    return _CocoFile(
        path,
        names,
        rows_by_id(images, f"'{path}' images", "file_name"),
        annotations,
        left_out,
    )


def _heading(
    categories: dict[str, dict[str, Any]], annotations: list[dict[str, Any]]
) -> str | None:
    """The id without annotations whose category heads all others, as Roboflow writes it."""
    used = {str(row["category_id"]) for row in annotations}
    for key, row in categories.items():
        others = [other for other_key, other in categories.items() if other_key != key]
        heads_all = all(other.get("supercategory") == row["name"] for other in others)
        if others and heads_all and key not in used:
            return key
    return None


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image of every file; an image without annotations is all background."""
    options = annotation_options(config)
    finder, left_out = FileFinder(root, options.relocate), LeftOut()
    images: list[LabelledImage] = []
    category_ids: dict[str, str] = {}
    for path, content in _with_categories(find_files(root), left_out).items():
        file = _parse(path, content, left_out)
        category_ids |= {name: category_id for category_id, name in file.categories.items()}
        images += _labelled_images(file, root, finder, _areas_by_image(file, options))
    areas = areas_of(images)
    if areas and all(area.beneath for area in areas):
        raise DataError(
            f"'{root}': none of its {len(areas)} annotations holds an area, only boxes "
            "(segmentation is empty), as a detector needs them. Export polygons or masks."
        )
    names = sorted(category_ids, key=lambda name: id_order(category_ids[name]))
    rows = class_rows([n for n in names if n not in _IGNORED], areas, options)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _with_categories(paths: list[Path], left_out: LeftOut) -> dict[Path, Any]:
    """The content of the files with categories; of all files where none has some."""
    contents = {path: read_json(path) for path in paths}
    named = {path: content for path, content in contents.items() if content.get("categories")}
    for path in contents:
        if named and path not in named:
            left_out.add(_NO_CATEGORIES, f"'{path}'")
    return named or contents


def _areas_by_image(file: _CocoFile, options: AnnotationsConfig) -> dict[str, list[Area]]:
    """Image id -> its areas."""
    rule = options.polygons
    if rule == "auto":
        rule = _polygon_rule(file)
        if rule == "outline":
            file.left_out.add(_OUTLINES, f"'{file.path}'")
    areas: dict[str, list[Area]] = {}
    for index, row in enumerate(file.annotations):
        where = f"'{file.path}' annotations[{index}]"
        category = id_key(row["category_id"], f"{where}.category_id")
        if category not in file.categories:
            known = ", ".join(sorted(file.categories, key=id_order))
            raise DataError(f"{where}.category_id is {category}; categories are {known}.")
        image = id_key(row["image_id"], f"{where}.image_id")
        if image not in file.images:
            raise DataError(
                f"{where}.image_id is {image}, which is none of its {len(file.images)} images."
            )
        shape = f"{where} (id {str(row['id'])[:40]})" if "id" in row else where
        with file.left_out.bad_shape(shape):
            area = _area(row, shape, rule, file.left_out, options.finer)
            if area is not None:
                name = file.categories[category]
                concept = None if name in _IGNORED or area.beneath else name
                areas.setdefault(image, []).append(replace(area, concept=concept))
    return areas


def _area(
    row: dict[str, Any], where: str, rule: PolygonRule, left_out: LeftOut, finer: str
) -> Area | None:
    """The area of an annotation; where it has just a box, the pixels to be ignored."""
    draw = _shape(row, where, rule, left_out)
    if draw is not None:
        attributes = row.get("attributes") or {}
        is_crowd = bool(row.get("iscrowd"))
        return Area(None, draw, finer_of(attributes, finer), crowd=is_crowd, where=where)
    left, top, width, height = shapes.finite(row.get("bbox") or [0, 0, 0, 0])
    if not (width and height):
        if not row.get("segmentation"):  # else its parts are counted
            left_out.add(_NOTHING, where)
        return None
    left_out.add(_BOXES, where)
    return Area(None, shapes.box(left, top, left + width, top + height), beneath=True, where=where)


def _labelled_images(
    file: _CocoFile, root: Path, finder: FileFinder, areas: dict[str, list[Area]]
) -> list[LabelledImage]:
    images = []
    file_name = file.path.relative_to(root).as_posix()
    file_split = annotation_split(file_name)
    for index, (key, row) in enumerate(file.images.items()):
        where = f"'{file.path}' images[{index}]"
        place = f"{where}.file_name"
        image = finder.find(str(row["file_name"]), place, file.path.parent, file_split)
        inside = image.relative_to(root).as_posix() if image.is_relative_to(root) else ""
        has_size = row.get("height") and row.get("width")
        with reading(where):
            size = (int(row["height"]), int(row["width"])) if has_size else None
        split = annotation_split(file_name, inside)
        named = image_name(image, root)
        own = areas.get(key, [])
        images.append(LabelledImage(named, image, split, own, size, file=file_name))
    return images


def _polygon_rule(file: _CocoFile) -> PolygonRule:
    """The rule that made the areas, in pixels, that the file states; COCO's where neither did."""
    errors: dict[PolygonRule, float] = {"coco": 0.0, "outline": 0.0}
    stated, drawn = 0.0, 0
    polygons = [row for row in file.annotations if isinstance(row.get("segmentation"), list)]
    for row in [row for row in polygons if row.get("area")][:_RULE_SAMPLE]:
        image = file.images.get(str(row["image_id"]), {})
        try:
            size = int(image["height"]), int(image["width"])
            area = shapes.finite([row["area"]])[0]
            drawn += size[0] * size[1]
            if min(size) <= 0 or drawn > _RULE_PIXELS:
                continue
            for rule in errors:
                draw = _shape(row, "", rule, LeftOut())
                errors[rule] += abs((draw(*size).sum() if draw else 0.0) - area)
        except (ValueError, TypeError, KeyError, OverflowError):
            continue  # reported with its place when it is read
        stated += area
    is_outline = errors["outline"] < min(errors["coco"], _RULE_ERROR * stated)
    return "outline" if is_outline else "coco"


def _shape(row: dict[str, Any], where: str, rule: PolygonRule, left_out: LeftOut) -> Draw | None:
    """The shape of an annotation, polygons or run lengths; None for a box alone."""
    shape = row.get("segmentation")
    if not shape:
        return None
    if isinstance(shape, dict) and "counts" in shape:
        return shapes.run_lengths(shape["counts"], shape.get("size"))
    if not isinstance(shape, list):
        raise ValueError(_allowed(shape))
    parts = [shape] if not isinstance(shape[0], list) else shape
    if len(parts) > 2 and all(isinstance(part, list) and len(part) == 2 for part in parts):
        raise ValueError(_allowed(shape))  # points as pairs
    drawn = []
    for part in parts:
        if not isinstance(part, list) or len(part) % 2:
            raise ValueError(_allowed(shape))
        if shapes.has_points(part):
            drawn.append(part)
        else:
            left_out.add(FEW_POINTS, where)
    return shapes.polygons(drawn, rule) if drawn else None


def _allowed(shape: object) -> str:
    return (
        f"segmentation is {str(shape)[:80]}; polygons of at least three points "
        "[[x, y, x, y, …], …] or run lengths {counts, size} are allowed"
    )
