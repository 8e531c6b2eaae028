"""CVAT: its XML for images and for video, with polygons, boxes, ellipses and masks."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

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
from segtune.data.formats.cvat_frames import frames_of
from segtune.data.formats.cvat_tracks import coordinates, shapes_by_frame
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import (
    FileFinder,
    annotation_split,
    folder_split,
    image_name,
)
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.source.files import walk
from segtune.data.source.split_words import NamedSplit, first_stated, split_of_name
from segtune.data.source.text import read_xml, xml_tag

_PARTS = 10  # of a video that is alone

DECLARED = Declaration(
    "XML file with annotations",
    (*PAINTING, "z", "polygons", "finer", "relocate"),
    is_export=True,
)


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
        tree = read_xml(path)
        with reading(f"'{path}' color of a label"):
            for name, color in _label_colors(tree).items():
                colors.setdefault(name, color)
        if tree.find("track") is not None:
            images += _frames(tree, path, root, options, left_out)
        else:
            images += _images(tree, path, finder, options, left_out)
    if len({(image.group, image.split) for image in images}) == 1:
        images = _in_parts(images)
    all_areas = areas_of(images)
    names = [*colors, *sorted({str(area.concept) for area in all_areas} - set(colors))]
    known_colors = {name: color for name, color in colors.items() if color is not None}
    rows = class_rows(names, all_areas, options, known_colors)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _images(
    tree: Element, path: Path, finder: FileFinder, options: AnnotationsConfig, left_out: LeftOut
) -> list[LabelledImage]:
    """The images of a file of the form for images."""
    images = []
    for node in tree.iter("image"):
        where = f"'{path}' image '{node.get('name')}'"
        areas = _areas(node, where, options, left_out)
        file_name = str(node.get("name"))
        file = path.relative_to(finder.root).as_posix()
        subset = split_of_name(node.get("subset") or "")
        split = first_stated(subset, folder_split(file_name), annotation_split(file))
        image = finder.find(file_name, f"{where} name", path.parent, split)
        with reading(where):
            size = (int(node.get("height") or 0), int(node.get("width") or 0))
        name = image_name(image, finder.root)
        known_size = size if all(size) else None
        images.append(LabelledImage(name, image, split, areas, known_size, file=file))
    return images


def _frames(
    tree: Element, path: Path, root: Path, options: AnnotationsConfig, left_out: LeftOut
) -> list[LabelledImage]:
    """The frames of a file of the form for video; all of one file are one group."""
    frames = frames_of(tree, path, root)
    numbers = [frame.number for frame in frames]
    shapes_of, without_image = shapes_by_frame(tree, path, numbers, left_out)
    for number in without_image:
        left_out.add("frames with shapes have no image and were left out", f"'{path}' {number}")
    split = annotation_split(path.relative_to(root).as_posix())
    group = image_name(path, root)
    with reading(f"'{path}' meta, original_size"):
        height = tree.findtext("meta//original_size/height")
        width = tree.findtext("meta//original_size/width")
        size = (int(height), int(width)) if height and width else None
    images = []
    for frame in frames:
        where = f"'{path}' frame {frame.number}"
        areas = _areas(shapes_of[frame.number], where, options, left_out)
        name = image_name(frame.image, root)
        images.append(LabelledImage(name, frame.image, split, areas, size, None, group, frame.data))
    return images


def _in_parts(images: list[LabelledImage]) -> list[LabelledImage]:
    """The frames of a lone video without a split, in ten groups of frames that follow each other.

    Frames beside each other look alike: divided one by one, val would show images of train.
    """
    split = images[0].split
    if images[0].group is None or (isinstance(split, NamedSplit) and split.is_sure):
        return images
    parts = []
    for index, image in enumerate(images):
        part = index * _PARTS // len(images)
        parts.append(replace(image, group=f"{image.group}_part{part}"))
    return parts


def _label_colors(tree: Element) -> dict[str, list[int] | None]:
    """Class name -> RGB, or None without a colour; the first of several counts."""
    colors: dict[str, list[int] | None] = {}
    for label in tree.iter("label"):
        name, color = label.findtext("name"), (label.findtext("color") or "").lstrip("#")
        if name:
            colors.setdefault(name, list(bytes.fromhex(color)) if len(color) == 6 else None)
    return colors


def _areas(
    nodes: Iterable[Element], image_where: str, options: AnnotationsConfig, left_out: LeftOut
) -> list[Area]:
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    areas = []
    shape_nodes = [node for node in nodes if node.tag != "tag"]
    for index, node in enumerate(shape_nodes):
        where = f"{image_where} shape {index} ({node.tag})"
        if not has_area(node.tag):
            left_out.add(NO_AREA, where)
            continue
        if not node.get("label"):
            left_out.add(NO_LABEL, where)
            continue
        attributes = {str(a.get("name")): a.text for a in node.iter("attribute")}
        finer = finer_of(attributes, options.finer)
        with left_out.bad_shape(where):
            draw = _shape(node, rule)
            if draw is None:
                left_out.add(FEW_POINTS, where)
                continue
            z_order = int(node.get("z_order") or 0)
            areas.append(Area(node.get("label"), draw, finer, z=z_order, where=where))
    return areas


def _shape(node: Element, rule: PolygonRule) -> Draw | None:
    """The shape of a node; None for a polygon of fewer than three points."""

    def numbers(*attributes: str) -> list[float]:
        return [float(node.attrib[attribute]) for attribute in attributes]

    degrees = float(node.get("rotation") or 0)
    if node.tag == "polygon":
        points = coordinates(node.attrib["points"])
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
