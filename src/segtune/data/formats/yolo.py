"""YOLO-seg: a text file for each image, with one polygon in each line: `class x y x y …`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
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
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.finding import image_name
from segtune.data.formats.run_lengths import Bits
from segtune.data.formats.shapes import Draw, PolygonRule, polygons
from segtune.data.formats.yolo_images import (
    find_images,
    has_labels,
    label_file,
    refuse_unlabelled,
)
from segtune.data.source.files import read_mapping, walk
from segtune.data.source.split_words import SPLIT_OF_WORD
from segtune.data.source.text import read_text
from segtune.errors import DataError

_MOST_DIGITS = 9  # of a class number
_TABLES_READ = 20  # YAML files that are tried

DECLARED = Declaration(
    "data.yaml with names, beside labels of polygons",
    (*PAINTING, "polygons"),
    is_export=True,
)


def find_files(root: Path) -> Path | None:
    """YOLO's table of classes below root: a YAML with `names`.

    It also names images (`train` or `val`), or label files lie beside it: other tools list names
    and their number (`nc`) too.
    """
    for file in list(walk(root, (".yaml", ".yml")))[:_TABLES_READ]:
        try:
            content = read_mapping(root / file)
        except DataError:
            continue
        if "names" in content and (
            any(content.get(key) for key in SPLIT_OF_WORD) or has_labels((root / file).parent)
        ):
            return root / file
    return None


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that the table names; without a text file it is all background."""
    options = annotation_options(config)
    table = find_files(root)
    assert table is not None  # the caller looked
    content = read_mapping(table)
    if "kpt_shape" in content:
        raise DataError(
            f"'{table}' is of a pose dataset (kpt_shape); polygons are read (YOLO-seg)."
        )
    names = class_names(table)
    rule: PolygonRule = "outline" if options.polygons == "outline" else "coco"
    named = find_images(table, content)
    left_out = LeftOut()
    unused = {file for file in walk(named.top, (".txt",)) if "/labels/" in f"/{file}"}
    images: list[LabelledImage] = []
    unlabelled = []
    image_of: dict[Path, str] = {}  # label file -> its image
    for file, split in named.splits.items():
        image, labels = named.top / file, label_file(named.top, file)
        areas: list[Area] = []
        if labels is None:
            unlabelled.append(file)
            left_out.add("images have no label file and become background", f"'{file}'")
        elif image_of.setdefault(labels, file) != file:
            raise DataError(
                f"'{labels}' would be the labels of two images, '{image_of[labels]}' and '{file}'. "
                "Put labels into folders like those of the images."
            )
        else:
            unused.discard(labels.relative_to(named.top).as_posix())
            areas = _read_areas(labels, names, rule, left_out)
        images.append(LabelledImage(image_name(image, named.top), image, split, areas))
    for file in sorted(unused):
        left_out.add("label files belong to no image and were left out", f"'{file}'")
    refuse_unlabelled(named.top, unlabelled, len(images))
    all_areas = areas_of(images)
    rows = class_rows(list(names.values()), all_areas, options)
    return Annotations(rows, images, [*named.notes, *left_out.notes()], left_out.bad_shapes)


def class_names(table: Path) -> dict[int, str]:
    """Class number -> name, as written: `no` and `yes` are names here, not booleans.

    Raises:
        DataError: there are no names, or a number is none or is given twice.
    """
    document = yaml.compose(read_text(table), Loader=yaml.BaseLoader)
    assert isinstance(document, yaml.MappingNode)  # find_files looked
    (node,) = [value for key, value in document.value if key.value == "names"][-1:]
    names: dict[int, str] = {}
    if isinstance(node, yaml.SequenceNode):
        names = {number: _name(item, table) for number, item in enumerate(node.value)}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
        number = str(key.value)
        is_number = number.isdecimal() and len(number) <= _MOST_DIGITS
        if not is_number or int(number) in names:
            fault = "is given twice" if is_number else "is no number"
            raise DataError(
                f"'{table}' names: {number} {fault}; a list, or one name for each number, is "
                "allowed, as names: {0: car, 1: tree}."
            )
        names[int(number)] = _name(value, table)
    if not names:
        raise DataError(f"'{table}' names no classes; write names: [car, tree].")
    if len(set(names.values())) < len(names):
        raise DataError(
            f"'{table}' names: {_repeated(names)}; every class needs a name of its own."
        )
    return dict(sorted(names.items()))


def _repeated(names: Mapping[int, str]) -> str:
    """The numbers that share a name, in words."""
    numbers: dict[str, list[str]] = {}
    for number, name in names.items():
        numbers.setdefault(name, []).append(str(number))
    shared = {name: of_name for name, of_name in numbers.items() if len(of_name) > 1}
    return "; ".join(f"{' and '.join(ids)} are both '{name}'" for name, ids in shared.items())


def _name(node: yaml.Node, table: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DataError(f"'{table}' names: a list of texts is allowed, as names: [car, tree].")
    return str(node.value)


def _read_areas(
    path: Path, names: Mapping[int, str], rule: PolygonRule, left_out: LeftOut
) -> list[Area]:
    areas = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"'{path}' line {number}"
        class_id = _class_of(line, where, names)
        with left_out.bad_shape(where):
            points = _points_of(line, where)
            areas.append(Area(names[class_id], _polygon(points, rule), where=where))
    return areas


def _class_of(line: str, where: str, names: Mapping[int, str]) -> int:
    """The class number that a line begins with.

    Raises:
        DataError: it is none of the dataset.
    """
    word = line.split()[0].removesuffix(".0")
    if not word.isdecimal() or len(word) > _MOST_DIGITS:
        raise DataError(f"{where} is '{line[:40]}'; a class number and coordinates are expected.")
    if int(word) not in names:
        raise DataError(f"{where} is of class {int(word)}; data.yaml names {_ranges(names)}.")
    return int(word)


def _points_of(line: str, where: str) -> NDArray[np.float64]:
    """Points (N, 2) of a line, as shares of width and height.

    Raises:
        DataError: another number of values, or values out of range.
    """
    try:
        values = np.array(line.split()[1:], float)
    except ValueError:
        raise DataError(
            f"{where} is '{line[:40]}'; a class number and coordinates are expected."
        ) from None
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
    return values.reshape(-1, 2)


def _ranges(names: Mapping[int, str]) -> str:
    """The class numbers, shortened where they have no gap."""
    numbers = sorted(names)
    if len(numbers) == numbers[-1] - numbers[0] + 1:
        return f"{numbers[0]}..{numbers[-1]}"
    return f"{', '.join(map(str, numbers[:20]))} (with gaps)"


def _polygon(points: NDArray[np.float64], rule: PolygonRule) -> Draw:
    def draw(height: int, width: int) -> Bits:
        pixels = (points * [width, height]).ravel().tolist()
        return polygons([pixels], rule)(height, width)

    return draw
