"""What labelling tools write: LabelMe's JSON, CVAT's XML for images, Label Studio's JSON export."""

import base64
import binascii
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats import areas as shapes
from segtune.data.formats.areas import Annotated, Area, Bits, Labelled, class_rows, finer_of
from segtune.data.formats.finding import Finder, name_of, read_json, split_in
from segtune.data.reading.images import read_mask
from segtune.data.source.files import walk
from segtune.errors import DataError

_NO_AREA = (
    "point",
    "points",
    "line",
    "linestrip",
    "polyline",
    "cuboid",
    "skeleton",
    "keypointlabels",
    "tag",
)


def labelme_files(root: Path) -> list[Path]:
    """LabelMe's JSON files below root."""
    return [root / f for f in walk(root, (".json",)) if _has(root / f, "shapes", "imagePath")]


def _has(path: Path, *keys: str) -> bool:
    try:
        data = read_json(path)
    except DataError:
        return False
    return isinstance(data, dict) and all(k in data for k in keys)


def read_labelme(root: Path, config: AnnotationsConfig) -> Annotated:
    """Polygons, rectangles, circles and masks; finer labels stand in `flags` (the one that is set) or `attributes`.

    Classes come in the order of `labels.txt`, where there is one, else by name.
    """
    finder, items, everything, skipped = Finder(root, config.relocate), [], [], 0
    for path in labelme_files(root):
        data, own = read_json(path), []
        for place, row in enumerate(data["shapes"]):
            where = f"'{path}' shapes[{place}]"
            draw = _labelme_shape(row, where, "coco" if config.polygons == "coco" else "outline")
            if draw is None:
                skipped += 1
                continue
            flags = [k for k, v in (row.get("flags") or {}).items() if v is True]
            finer = finer_of(row.get("attributes") or {}, config.finer) or (
                flags[0] if len(flags) == 1 else None
            )
            label = None if row["label"] == "__ignore__" else str(row["label"])
            own.append(Area(label, draw, finer, z=place))  # later shapes lie on top
        everything += own
        try:
            image, embedded = (
                finder.find(str(data["imagePath"]), f"'{path}' imagePath", path.parent),
                None,
            )
        except DataError:
            if not data.get("imageData"):
                raise
            image, embedded = (
                path.with_suffix(".png"),
                _base64(data["imageData"], f"'{path}' imageData"),
            )
        size = (
            (data["imageHeight"], data["imageWidth"])
            if data.get("imageHeight") and data.get("imageWidth")
            else None
        )
        split = split_in(str(path.relative_to(root)))
        items.append(
            Labelled(
                name_of(path.with_suffix(image.suffix), root),
                image,
                split,
                own,
                size,
                data=embedded,
            )
        )
    listed = [n for n in _labels_txt(root) if n != "__ignore__"]
    names = sorted({str(a.concept) for a in everything if a.concept} - set(listed))
    notes = (
        [f"{skipped} shapes without an area (points, lines) were passed over"] if skipped else []
    )
    return Annotated(class_rows([*listed, *names], everything, config), items, notes)


def _labels_txt(root: Path) -> list[str]:
    for path in (root / "labels.txt", root.parent / "labels.txt"):
        if path.is_file():
            return [n.strip() for n in path.read_text(encoding="utf-8").splitlines() if n.strip()]
    return []


def _labelme_shape(
    row: Mapping[str, Any], where: str, rule: str
) -> Callable[[int, int], Bits] | None:
    try:
        kind, points = (
            row.get("shape_type") or "polygon",
            [(float(x), float(y)) for x, y in row["points"]],
        )
        if kind in _NO_AREA:
            return None
        if kind == "polygon" and len(points) >= 3:
            return shapes.polygons([[v for p in points for v in p]], rule)
        if kind == "rectangle":
            (a, b), (c, d) = points[0], points[-1] if len(points) == 2 else points[2]
            return shapes.polygons([[a, b, c, b, c, d, a, d]], rule)
        if kind == "circle":
            (x, y), edge = points[0], points[1]
            radius = float(np.hypot(edge[0] - x, edge[1] - y))
            return shapes.ellipse(x, y, radius, radius)
        if kind == "mask":
            bits = read_mask(_base64(row["mask"], f"{where}.mask"), f"{where}.mask") > 0
            return shapes.pasted(bits, round(points[0][0]), round(points[0][1]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"{where} cannot be read ({type(error).__name__}: {error}).") from None
    raise DataError(
        f"{where} is a {kind} of {len(points)} points; polygon (3 or more), rectangle, circle and mask are read."
    )


def _base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError(f"{where} is no base64: {error}") from None


def cvat_files(root: Path) -> list[Path]:
    """CVAT's XML files below root."""
    found = []
    for file in walk(root, (".xml",)):
        try:
            _, first = next(ElementTree.iterparse(root / file, events=("start",)))
        except (ElementTree.ParseError, StopIteration, OSError):
            continue
        if first.tag == "annotations":
            found.append(root / file)
    return found


def read_cvat(root: Path, config: AnnotationsConfig) -> Annotated:
    """Polygons, boxes, ellipses and masks of "CVAT for images"; z_order says what is on top, where it is set."""
    finder, items, everything, skipped = Finder(root, config.relocate), [], [], 0
    colors: dict[str, object] = {}
    names: list[str] = []
    for path in cvat_files(root):
        tree = _xml(path)
        if tree.find("track") is not None:
            raise DataError(
                f"'{path}' is CVAT's form for video, with tracks; export it as 'CVAT for images 1.1'."
            )
        for label in tree.iter("label"):
            name, color = label.findtext("name"), (label.findtext("color") or "").lstrip("#")
            if name and name not in names:
                names.append(name)
                if len(color) == 6:
                    colors[name] = [int(color[i : i + 2], 16) for i in (0, 2, 4)]
        for image in tree.iter("image"):
            where, own = f"'{path}' image '{image.get('name')}'", []
            for place, node in enumerate(n for n in image if n.tag not in _NO_AREA):
                attributes = {str(a.get("name")): a.text for a in node.iter("attribute")}
                draw = _cvat_shape(node, f"{where}, shape {place}", config.polygons)
                label = node.get("label")
                own.append(
                    Area(
                        label,
                        draw,
                        finer_of(attributes, config.finer),
                        int(node.get("z_order") or 0),
                    )
                )
            skipped += sum(n.tag in _NO_AREA for n in image) - sum(n.tag == "tag" for n in image)
            everything += own
            split = split_in(image.get("subset") or image.get("name") or "") or split_in(
                str(path.relative_to(root))
            )
            file = finder.find(str(image.get("name")), f"{where} name", path.parent, split)
            size = (int(image.get("height") or 0), int(image.get("width") or 0))
            items.append(
                Labelled(name_of(file, root), file, split, own, size if all(size) else None)
            )
    names += sorted({str(a.concept) for a in everything} - set(names))
    notes = (
        [f"{skipped} shapes without an area (points, lines) were passed over"] if skipped else []
    )
    return Annotated(class_rows(names, everything, config, colors), items, notes)


def _xml(path: Path) -> Any:
    if b"<!ENTITY" in path.read_bytes():
        raise DataError(
            f"'{path}' defines XML entities, which no annotations need; they are not expanded. Remove them."
        )
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"'{path}' cannot be read as XML: {error}") from None


def _cvat_shape(node: Any, where: str, rule: str) -> Callable[[int, int], Bits]:
    def number(key: str) -> float:
        return float(node.attrib[key])

    try:
        if node.tag == "polygon":
            points = [
                float(v) for pair in node.attrib["points"].split(";") for v in pair.split(",")
            ]
            if len(points) >= 6 and len(points) % 2 == 0:
                return shapes.polygons([points], rule)
        if node.tag == "box":
            return shapes.box(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
        if node.tag == "ellipse":
            return shapes.ellipse(
                number("cx"),
                number("cy"),
                number("rx"),
                number("ry"),
                float(node.get("rotation") or 0),
            )
        if node.tag == "mask":
            runs = [int(v) for v in node.attrib["rle"].split(",")]
            flat = np.repeat(
                np.arange(len(runs)) % 2 == 1, runs
            )  # row by row, the first run is outside
            bits = flat.reshape(int(number("height")), int(number("width")))
            return shapes.pasted(bits, int(number("left")), int(number("top")))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{where}, a {node.tag}, cannot be read ({type(error).__name__}: {error})."
        ) from None
    raise DataError(
        f"{where} is a {node.tag}; polygon (of 3 points or more), box, ellipse and mask are read."
    )


def label_studio_files(root: Path) -> list[Path]:
    """Label Studio's JSON exports below root."""
    return [root / f for f in walk(root, (".json",)) if _is_label_studio(root / f)]


def _is_label_studio(path: Path) -> bool:
    try:
        data = read_json(path)
    except DataError:
        return False
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], dict)
        and {"data", "annotations"} <= set(data[0])
    )


def read_label_studio(root: Path, config: AnnotationsConfig) -> Annotated:
    """Polygons, brushes, rectangles and ellipses of each task's last annotation that was not cancelled."""
    finder, items, everything = Finder(root, config.relocate), [], []
    for path in label_studio_files(root):
        for place, task in enumerate(read_json(path)):
            where = f"'{path}' [{place}]"
            kept = [a for a in task["annotations"] if not a.get("was_cancelled")]
            results = kept[-1].get("result", []) if kept else []
            choices = {
                r.get("parentID") or r.get("id"): r["value"]["choices"][0]
                for r in results
                if _chosen(r)
            }
            own, size = [], None
            for row in results:
                found = _label_studio_shape(row, where, config.polygons)
                if found is not None:
                    size = (int(row["original_height"]), int(row["original_width"]))
                    own.append(Area(found[0], found[1], choices.get(row.get("id"))))
            everything += own
            text = next(
                (str(v) for v in task["data"].values() if isinstance(v, str) and "." in v), ""
            )
            split = split_in(str(path.relative_to(root)))
            image = _uploaded(
                finder, text.partition("?d=")[2] or text, f"{where}.data", path.parent, split
            )
            items.append(Labelled(name_of(image, root), image, split, own, size))
    names = sorted({str(a.concept) for a in everything})
    return Annotated(class_rows(names, everything, config), items)


def _uploaded(finder: Finder, text: str, where: str, near: Path, split: str | None) -> Path:
    """The image of a task: Label Studio puts a key before the names of uploads (`1a2b3c4d-photo.jpg`)."""
    bare = text.rpartition("/")[2]
    tries = [text.lstrip("/"), bare] + ([bare.partition("-")[2]] if bare[8:9] == "-" else [])
    for attempt in tries:
        try:
            return finder.find(attempt, where, near, split)
        except DataError:
            continue
    return finder.find(bare, where, near, split)


def _chosen(row: Mapping[str, Any]) -> bool:
    return row.get("type") == "choices" and bool(row.get("value", {}).get("choices"))


def _label_studio_shape(
    row: Mapping[str, Any], where: str, rule: str
) -> tuple[str, Callable[[int, int], Bits]] | None:
    kind, value = str(row.get("type")), row.get("value", {})
    if not kind.endswith("labels") or kind in _NO_AREA or not value.get(kind):
        return None
    try:
        wide, high, label = (
            row["original_width"] / 100,
            row["original_height"] / 100,
            str(value[kind][0]),
        )
        if kind == "polygonlabels":
            return label, shapes.polygons(
                [[v for x, y in value["points"] for v in (x * wide, y * high)]], rule
            )
        turn = float(value.get("rotation") or 0)
        if kind == "rectanglelabels":
            left, top = value["x"] * wide, value["y"] * high
            return label, shapes.box(
                left, top, left + value["width"] * wide, top + value["height"] * high, turn
            )
        if kind == "ellipselabels":
            radii = value["radiusX"] * wide, value["radiusY"] * high
            return label, shapes.ellipse(value["x"] * wide, value["y"] * high, *radii, turn)
        if kind == "brushlabels":
            bits = _brush(value["rle"], int(row["original_height"]), int(row["original_width"]))
            return label, shapes.pasted(bits, 0, 0)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{where} result '{row.get('id')}' ({kind}) cannot be read ({type(error).__name__})."
        ) from None
    raise DataError(
        f"{where} result '{row.get('id')}' is of type {kind}; polygon, brush, rectangle and ellipse are read."
    )


def _brush(packed: list[int], height: int, width: int) -> Bits:
    """Label Studio's run lengths: a stream of bits that codes an RGBA image, of which alpha is the area."""
    bits = np.unpackbits(np.array(packed, np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        part = bits[place : place + count]
        if len(part) < count:
            raise ValueError("the run lengths end early")
        place += count
        return int("".join(map(str, part)), 2)

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise ValueError(f"{total} values for {height} x {width} x 4")
    values: NDArray[np.int64] = np.zeros(total, np.int64)
    at = 0
    while at < total:
        repeated = take(1)
        count = take(lengths[take(2)]) + 1
        values[at : at + count] = take(word) if repeated else [take(word) for _ in range(count)]
        at += count
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0, bool)
