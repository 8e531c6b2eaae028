"""Supervisely: `meta.json`, and `ann/IMAGE.json` beside `img/IMAGE`, with polygons and bitmaps."""

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig
from segtune.data.formats import shapes
from segtune.data.formats.areas import (
    FEW_POINTS,
    NO_AREA,
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    areas_of,
    class_rows,
    finer_of,
    has_area,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name, json_files
from segtune.data.formats.run_lengths import Bits
from segtune.data.formats.shapes import Draw, PolygonRule
from segtune.data.reading.decoding import decode_file
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import read_json
from segtune.data.source.names import in_any_form

_MOST_BYTES = 1 << 28  # of one unpacked bitmap
_WITHOUT_AREA = ("graph", "cuboid_2d", "any")

DECLARED = Declaration(
    "meta.json with folders ann and img",
    (*PAINTING, "z", "polygons", "finer", "relocate"),
    is_export=True,
)


def find_files(root: Path) -> list[Path]:
    """Supervisely's annotation files below root."""

    def is_format(content: Any) -> bool:
        return isinstance(content, dict) and {"objects", "size"} <= content.keys()

    return json_files(root, is_format)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that has a file; later objects lie on top.

    Classes come in the order of `meta.json`, with their colours. A tag with a value may be the
    finer label.
    """
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    left_out = LeftOut()
    images = []
    for path in find_files(root):
        content = read_json(path)
        with reading(f"'{path}'"):
            size = int(content["size"]["height"]), int(content["size"]["width"])
            objects = list(content["objects"])
        # old projects name the file 'photo.json', new ones 'photo.jpg.json'
        split = folder_split(path.relative_to(root).as_posix())
        image = _image_of(path, finder, split)
        areas = _areas(path, objects, options, left_out)
        images.append(LabelledImage(image_name(image, root), image, split, areas, size))
    all_areas = areas_of(images)
    colors = _meta_colors(root)
    names = [*colors, *sorted({str(area.concept) for area in all_areas} - set(colors))]
    known = {name: color for name, color in colors.items() if color is not None}
    rows = class_rows(names, all_areas, options, known)
    return Annotations(rows, images, left_out.notes(), left_out.bad_shapes)


def _image_of(path: Path, finder: FileFinder, split: str | None) -> Path:
    """The image of a file: in the folder `img` beside `ann`, else of that name elsewhere."""
    folder = path.parent.parent / "img"
    for name in (path.stem, *(f"{path.stem}{suffix}" for suffix in IMAGE_SUFFIXES)):
        image = in_any_form(folder, name)
        if image is not None:
            return image
    return finder.find(path.stem, f"the image of '{path}'", folder, split)


def _meta_colors(root: Path) -> dict[str, list[int] | None]:
    """Class name -> RGB, or None without a colour, in the order of the files `meta.json`."""
    colors: dict[str, list[int] | None] = {}
    for path in [root / "meta.json", *sorted(root.glob("*/meta.json"))]:
        if not path.is_file():
            continue
        with reading(f"'{path}' classes"):
            for row in read_json(path)["classes"]:
                text = str(row.get("color") or "").lstrip("#")
                color = list(bytes.fromhex(text)) if len(text) == 6 else None
                colors.setdefault(str(row["title"]), color)
    return colors


def _areas(
    path: Path, objects: list[Mapping[str, Any]], options: AnnotationsConfig, left_out: LeftOut
) -> list[Area]:
    rule: PolygonRule = "coco" if options.polygons == "coco" else "outline"
    areas = []
    for index, row in enumerate(objects):
        where = f"'{path}' objects[{index}]"
        with left_out.bad_shape(where):
            kind = str(row["geometryType"])
            if not has_area(kind) or kind in _WITHOUT_AREA:
                left_out.add(NO_AREA, where)
            elif kind == "polygon" and len(row["points"]["exterior"]) < 3:
                left_out.add(FEW_POINTS, where)
            else:
                tags = {tag["name"]: tag.get("value") for tag in row.get("tags") or ()}
                finer = finer_of(tags, options.finer)
                draw = _shape(kind, row, rule)
                areas.append(Area(str(row["classTitle"]), draw, finer, z=index, where=where))
    return areas


def _shape(kind: str, row: Mapping[str, Any], rule: PolygonRule) -> Draw:
    if kind == "polygon":
        return _with_holes(row["points"], rule)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = row["points"]["exterior"]
        return shapes.polygons([[x1, y1, x2, y1, x2, y2, x1, y2]], rule)
    if kind == "bitmap":
        left, top = row["bitmap"]["origin"]
        data = _unpack(row["bitmap"]["data"])
        return shapes.pasted(lambda: _decode_bitmap(data), left, top)
    raise ValueError(f"it is a {kind}; polygon, rectangle and bitmap are read")


def _with_holes(points: Mapping[str, Any], rule: PolygonRule) -> Draw:
    """A polygon without its holes."""
    exterior = shapes.polygons([_flat(points["exterior"])], rule)
    holes = [_flat(hole) for hole in points.get("interior") or () if len(hole) >= 3]
    if not holes:
        return exterior
    interior = shapes.polygons(holes, rule)
    return lambda height, width: exterior(height, width) & ~interior(height, width)


def _flat(points: list[list[float]]) -> list[float]:
    flat: list[float] = []
    for x, y in points:
        flat += [x, y]
    return flat


def _unpack(text: str) -> bytes:
    """The PNG of a bitmap, which is packed by zlib in base64."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(text), _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"its bitmap is no PNG packed by zlib in base64 ({error})") from None


def _decode_bitmap(data: bytes) -> Bits:
    """The pixels of a bitmap: those of its PNG that are opaque, or else bright."""
    picture = decode_file(data, "bitmap", upright=False)
    if "A" in picture.getbands() or "transparency" in picture.info:
        return np.asarray(picture.convert("RGBA").getchannel("A"), np.uint8) > 0
    return np.asarray(np.asarray(picture.convert("RGB"), np.uint8).max(2) > 0, bool)
