"""CVAT: "CVAT for images" XML, with polygons, boxes, ellipses and masks."""

from pathlib import Path
from typing import Any

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
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
    finer_of,
    has_area,
)
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name, split_in
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.source.files import walk
from segtune.data.source.text import read_xml, xml_tag
from segtune.errors import DataError


def find_files(root: Path) -> list[Path]:
    """CVAT's XML files below root."""
    files = []
    for file in walk(root, (".xml",)):
        if xml_tag(root / file) == "annotations":
            files.append(root / file)
    return files


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image of every file; a shape of higher `z_order` lies on top."""
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    images: list[LabelledImage] = []
    colors: dict[str, list[int] | None] = {}  # class name -> RGB, in the order of the files
    left_out = LeftOut()
    for path in find_files(root):
        tree = _parse(path)
        for name, color in _label_colors(tree).items():
            colors.setdefault(name, color)
        for node in tree.iter("image"):
            where = f"'{path}' image '{node.get('name')}'"
            areas = _areas(node, where, options, left_out)
            file_name = str(node.get("name"))
            split = split_in(node.get("subset") or "")
            split = split or folder_split(file_name)
            split = split or split_in(str(path.relative_to(root)))
            image = finder.find(file_name, f"{where} name", path.parent, split)
            with reading(where):
                size = (int(node.get("height") or 0), int(node.get("width") or 0))
            images.append(
                LabelledImage(
                    image_name(image, root), image, split, areas, size if all(size) else None
                )
            )
    all_areas = areas_of(images)
    names = [*colors, *sorted({str(area.concept) for area in all_areas} - set(colors))]
    known_colors = {name: color for name, color in colors.items() if color is not None}
    rows = class_rows(names, all_areas, options, known_colors)
    return Annotations(rows, images, left_out.notes())


def _parse(path: Path) -> Any:
    if b"<!ENTITY" in path.read_bytes():
        raise DataError(
            f"'{path}' defines XML entities, which annotations do not need; "
            "they are not expanded. Remove them."
        )
    tree = read_xml(path)
    if tree.find("track") is not None:
        raise DataError(
            f"'{path}' is CVAT's form for video, with tracks; export it as 'CVAT for images 1.1'."
        )
    return tree


def _label_colors(tree: Any) -> dict[str, list[int] | None]:
    """Class name -> RGB, or None without a colour; the first of several counts."""
    colors: dict[str, list[int] | None] = {}
    for label in tree.iter("label"):
        name, color = label.findtext("name"), (label.findtext("color") or "").lstrip("#")
        if name:
            colors.setdefault(name, list(bytes.fromhex(color)) if len(color) == 6 else None)
    return colors


def _areas(
    image: Any, image_where: str, options: AnnotationsConfig, left_out: LeftOut
) -> list[Area]:
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    areas = []
    shape_nodes = [node for node in image if node.tag != "tag"]
    for index, node in enumerate(shape_nodes):
        where = f"{image_where} shape {index} ({node.tag})"
        if not has_area(node.tag):
            left_out.add(NO_AREA, where)
            continue
        if not node.get("label"):
            left_out.add(NO_LABEL, where)
            continue
        with reading(where):
            draw = _shape(node, rule)
            z_order = int(node.get("z_order") or 0)
        if draw is None:
            left_out.add(FEW_POINTS, where)
            continue
        attributes = {str(a.get("name")): a.text for a in node.iter("attribute")}
        finer = finer_of(attributes, options.finer)
        areas.append(Area(node.get("label"), draw, finer, z=z_order, where=where))
    return areas


def _coordinates(text: str) -> list[float]:
    """The numbers x, y, x, y, … of a text `x,y;x,y;…`.

    Raises:
        ValueError: a point has another count of numbers.
    """
    numbers: list[float] = []
    for point in text.split(";"):
        x, comma, y = point.partition(",")
        if not comma or "," in y:
            raise ValueError(f"its point '{point.strip()}' is not two numbers x,y")
        numbers += [float(x), float(y)]
    return numbers


def _shape(node: Any, rule: PolygonRule) -> Draw | None:
    """The shape of a node; None for a polygon of fewer than three points."""

    def numbers(*attributes: str) -> list[float]:
        return [float(node.attrib[attribute]) for attribute in attributes]

    degrees = float(node.get("rotation") or 0)
    if node.tag == "polygon":
        points = _coordinates(node.attrib["points"])
        return shapes.polygons([points], rule) if shapes.has_points(points) else None
    if node.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        return shapes.turned_box(left, top, right, bottom, degrees)
    if node.tag == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        return shapes.ellipse(x, y, radius_x, radius_y, degrees)
    if node.tag == "mask":
        # runs go row by row; the first is outside the object
        runs = [int(v) for v in node.attrib["rle"].split(",")]
        return shapes.pasted_runs(runs, numbers("left", "top", "width", "height"))
    raise ValueError("polygon, box, ellipse and mask are read")
