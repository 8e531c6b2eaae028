"""CVAT: "CVAT for images" XML, with polygons, boxes, ellipses and masks."""

from pathlib import Path
from typing import Any

import numpy as np

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
    finer_of,
    has_area,
    skipped_note,
)
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
    num_skipped = 0
    for path in find_files(root):
        tree = _parse(path)
        for name, color in _label_colors(tree).items():
            colors.setdefault(name, color)
        for node in tree.iter("image"):
            where = f"'{path}' image '{node.get('name')}'"
            areas = _areas(node, where, options)
            num_skipped += sum(not has_area(shape.tag) and shape.tag != "tag" for shape in node)
            file_name = str(node.get("name"))
            split = split_in(node.get("subset") or "")
            split = split or folder_split(file_name)
            split = split or split_in(str(path.relative_to(root)))
            image = finder.find(file_name, f"{where} name", path.parent, split)
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
    return Annotations(rows, images, skipped_note(num_skipped))


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


def _areas(image: Any, where: str, options: AnnotationsConfig) -> list[Area]:
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    areas = []
    for index, node in enumerate(shape for shape in image if has_area(shape.tag)):
        attributes = {str(a.get("name")): a.text for a in node.iter("attribute")}
        draw = _shape(node, f"{where}, shape {index}", rule)
        finer = finer_of(attributes, options.finer)
        areas.append(Area(node.get("label"), draw, finer, z=int(node.get("z_order") or 0)))
    return areas


def _shape(node: Any, where: str, rule: PolygonRule) -> Draw:
    def number(attribute: str) -> float:
        return float(node.attrib[attribute])

    try:
        if node.tag == "polygon":
            points = [float(v) for v in node.attrib["points"].replace(";", ",").split(",")]
            if len(points) >= 6 and len(points) % 2 == 0:
                return shapes.polygons([points], rule)
        if node.tag == "box":
            return shapes.box(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
        if node.tag == "ellipse":
            degrees = float(node.get("rotation") or 0)
            return shapes.ellipse(number("cx"), number("cy"), number("rx"), number("ry"), degrees)
        if node.tag == "mask":
            # runs go row by row; the first is outside the object
            runs = [int(v) for v in node.attrib["rle"].split(",")]
            flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            bits = flat.reshape(int(number("height")), int(number("width")))
            return shapes.pasted(bits, int(number("left")), int(number("top")))
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{where}, a {node.tag}, cannot be read ({type(error).__name__}: {error})."
        ) from None
    raise DataError(
        f"{where} is a {node.tag}; polygon (of 3 points or more), box, ellipse and mask are read."
    )
