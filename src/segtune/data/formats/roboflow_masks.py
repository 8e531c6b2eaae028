"""Roboflow's "PNG mask semantic": `NAME_mask.png` beside `NAME.jpg`, with a `_classes.csv`."""

import csv
from pathlib import Path

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.declaration import Declaration
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.finding import FileFinder, folder_split, image_name
from segtune.data.formats.value_masks import ValueMask
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.names import composed
from segtune.data.source.text import read_text
from segtune.errors import DataError

_TABLE = "_classes.csv"
_END = "_mask.png"
_MOST_DIGITS = 9  # of a value

DECLARED = Declaration(
    "_classes.csv beside NAME_mask.png",
    ("unlabelled", "relocate"),
    has_mask_files=True,
)


def find_files(root: Path) -> list[Path]:
    """The tables of classes below root that have masks in their folder."""
    folders = {Path(file).parent for file in walk(root, (".png",)) if file.endswith(_END)}
    return [root / folder / _TABLE for folder in sorted(folders) if _is_table(root / folder)]


def _is_table(folder: Path) -> bool:
    path = folder / _TABLE
    return path.is_file() and read_text(path).lower().startswith("pixel value")


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the image of each mask; each folder's table says what the values of its masks mean.

    Copies of one photo (`NAME.rf.HASH.jpg`) stay in one split where the folders name none.
    """
    tables = {path.parent: _class_names(path) for path in find_files(root)}
    all_names: list[str] = []
    for names in tables.values():
        all_names += names.values()
    options = annotation_options(config)
    classes = class_rows(list(dict.fromkeys(all_names)), [], options)
    class_ids = {str(row["name"]): index for index, row in enumerate(classes)}
    finder = FileFinder(root, options.relocate)
    images: list[LabelledImage] = []
    left_out = LeftOut()
    for folder, names in tables.items():
        ids = {value: class_ids[name] for value, name in names.items()}
        allowed = f"'{folder / _TABLE}' does not name it. Add a line 'VALUE, NAME'."
        files = [file for file in walk(folder, IMAGE_SUFFIXES) if "/" not in file]
        masks = {file.removesuffix(_END) for file in files if file.endswith(_END)}
        for stem in sorted(masks):
            mask = folder / f"{stem}{_END}"
            path = (mask.relative_to(root).parent / stem).as_posix()
            image = finder.find_stem(path, f"the image of '{mask}'")
            split = folder_split(path)
            group = stem.partition(".rf.")[0] if split is None and ".rf." in stem else None
            reader = ValueMask(mask, ids, allowed)
            name = image_name(image, root)
            images.append(LabelledImage(name, image, split, mask=reader, group=group))
        masked = {composed(stem) for stem in masks}
        for file in files:
            if not file.endswith(_END) and composed(file.rpartition(".")[0]) not in masked:
                place = (folder / file).relative_to(root).as_posix()
                left_out.add("images have no mask and were left out", f"'{place}'")
    return Annotations(classes, images, left_out.notes())


def _class_names(path: Path) -> dict[int, str]:
    """Value in the masks -> name of the class.

    Raises:
        DataError: a line is no value and name, or states one of them again.
    """
    names: dict[int, str] = {}
    for number, row in enumerate(csv.reader(read_text(path).split("\n")), 1):
        cells = [cell.strip() for cell in row]
        if number == 1 or not any(cells):
            continue
        where = f"'{path}' line {number}"
        is_value = cells[0].isdecimal() and len(cells[0]) <= _MOST_DIGITS
        if len(cells) < 2 or not is_value or not cells[1]:
            raise DataError(
                f"{where} is '{','.join(row)}'; a value of the masks and the name of its class are "
                "allowed, as '1, car'. Correct it."
            )
        value, name = int(cells[0]), cells[1]
        if value in names or name in names.values():
            raise DataError(
                f"{where} states the value {value} or the class '{name}' for the second time. "
                "Keep one line for each."
            )
        names[value] = name
    return names
