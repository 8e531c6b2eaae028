"""Run lengths in a CSV table, as in competitions of Kaggle: a line for each object or class.

A cell holds pairs of start and length. Pixels are counted from 1, column by column, or row by row
where `dataset.annotations.runs=rows` says so.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
from segtune.data.formats.faults import LeftOut, reading
from segtune.data.formats.finding import FileFinder, folder_split, image_name
from segtune.data.formats.ids import id_order
from segtune.data.formats.run_lengths import Bits
from segtune.data.formats.shapes import Draw
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.names import composed
from segtune.data.source.text import read_text
from segtune.errors import DataError

_RUNS = ("encodedpixels", "rle_mask", "rle", "encoding")
_IMAGES = ("imageid", "image_id", "img", "image", "id", "filename")
_CLASSES = ("classid", "class_id", "class", "label")
_IMAGES_WITH_CLASS = ("imageid_classid", "image_label", "imageid_label")
_EMPTY = ("", "nan", "none", "-1")
_EXAMPLE = "sample_submission"  # a table of the wanted form, not of labels
_ONLY_CLASS = "object"


@dataclass(frozen=True)
class _Columns:
    """The columns of a table; `combined` holds image and class, as `a.jpg_3`."""

    runs: str
    image: str
    label: str | None
    combined: bool
    height: str | None
    width: str | None


@dataclass
class _TableImage:
    """The objects of one image."""

    where: str
    areas: list[Area] = field(default_factory=list)
    size: tuple[int, int] | None = None


DECLARED = Declaration(
    "CSV table with a column EncodedPixels, rle_mask or rle",
    (*PAINTING, "relocate", "runs"),
)


def find_files(root: Path) -> list[Path]:
    """The tables of run lengths below root, without examples of a submission."""
    return [path for path in _tables(root) if not path.stem.startswith(_EXAMPLE)]


def _tables(root: Path) -> list[Path]:
    tables = []
    for file in walk(root, (".csv",)):
        try:
            with (root / file).open("rb") as opened:
                head = opened.readline(4096).decode("utf-8-sig", "replace")
        except OSError:
            continue
        # a lone carriage return ends a line, too
        if _columns_of(next(csv.reader(head.splitlines()[:1]), [])):
            tables.append(root / file)
    return tables


def _columns_of(head: Sequence[str]) -> _Columns | None:
    """The columns of a table by their names; None for another table."""
    by_name = {name.strip().lower(): name for name in head}

    def first(names: Sequence[str]) -> str | None:
        return next((by_name[name] for name in names if name in by_name), None)

    runs, combined, image = first(_RUNS), first(_IMAGES_WITH_CLASS), first(_IMAGES)
    if runs is None or (combined or image) is None:
        return None
    return _Columns(
        runs,
        str(combined or image),
        first(_CLASSES),
        combined is not None,
        by_name.get("height"),
        by_name.get("width"),
    )


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that a table names; one whose cells are empty is all background.

    Images whose only split is `train` have no split: Kaggle keeps labelled images in `train`, and
    `test` has no labels.
    """
    options = annotation_options(config)
    finder = FileFinder(root, options.relocate)
    by_stem = _ImagesByStem(root)
    left_out = LeftOut()
    listed: list[tuple[Path, _TableImage, str]] = []  # image, its row, file of the table
    for path in find_files(root):
        for file_name, item in _read_table(path, left_out, options.runs).items():
            image = by_stem.find(file_name) or finder.find(file_name, item.where, path.parent)
            listed.append((image, item, path.relative_to(root).as_posix()))
    images = []
    for image, item, table in listed:
        inside = image.relative_to(root).as_posix() if image.is_relative_to(root) else ""
        split = folder_split(inside)
        name = image_name(image, root)
        images.append(LabelledImage(name, image, split, item.areas, item.size, file=table))
    if {image.split for image in images} == {"train"}:
        images = [_without_split(image) for image in images]
    all_areas = areas_of(images)
    names = sorted({str(area.concept) for area in all_areas}, key=id_order)
    for path in _tables(root):
        if path.stem.startswith(_EXAMPLE):
            left_out.add("tables are examples of a submission and were not read", f"'{path}'")
    rows = class_rows(names, all_areas, options)
    notes = left_out.notes()
    if options.runs == "columns":
        note = "run lengths are read column by column"
        notes.insert(0, f"{note} (dataset.annotations.runs=rows reads them row by row)")
    return Annotations(rows, images, notes, left_out.bad_shapes)


def _without_split(image: LabelledImage) -> LabelledImage:
    return LabelledImage(image.name, image.image, None, image.areas, image.size)


class _ImagesByStem:
    """The images below a folder by their names without a suffix, as tables of ids use them."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, list[Path]] = {}
        for file in walk(root, IMAGE_SUFFIXES):
            path = root / file
            self._files.setdefault(composed(path.stem), []).append(path)

    def find(self, file_name: str) -> Path | None:
        """The only image of a name without suffix; a folder `masks` does not count."""
        same_stem = self._files.get(composed(file_name), [])
        if len(same_stem) > 1:
            same_stem = [path for path in same_stem if "mask" not in path.parent.name.lower()]
        return same_stem[0] if len(same_stem) == 1 else None


def _read_table(path: Path, left_out: LeftOut, runs: str) -> dict[str, _TableImage]:
    """Name of an image -> its objects."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    columns = _columns_of(rows.fieldnames or ())
    assert columns is not None  # the caller looked
    images: dict[str, _TableImage] = {}
    try:
        for row in rows:
            where = f"'{path}' line {rows.line_num}"
            with reading(where):
                item, label, text = _cells_of(row, columns, where, images)
                if text:
                    with left_out.bad_shape(where):
                        item.areas.append(Area(label, _one_based_runs(text, runs), where=where))
    except csv.Error as error:
        raise DataError(f"'{path}' line {rows.line_num} cannot be read as CSV: {error}") from None
    return images


def _cells_of(
    row: dict[str, str], columns: _Columns, where: str, images: dict[str, _TableImage]
) -> tuple[_TableImage, str, str]:
    """The image of a row, its class, and its run lengths; these are empty where it has none."""
    file_name = (row[columns.image] or "").strip()
    label = (row[columns.label] or "").strip() if columns.label else _ONLY_CLASS
    if columns.combined:
        file_name, _, label = file_name.rpartition("_")
    if not file_name:
        raise ValueError(f"it names no image in the column {columns.image}")
    item = images.setdefault(file_name, _TableImage(f"{where}, {columns.image},"))
    if columns.height and columns.width and row[columns.height] and row[columns.width]:
        item.size = int(float(row[columns.height])), int(float(row[columns.width]))
    text = (row[columns.runs] or "").strip()
    if text.lower() in _EMPTY:
        return item, label, ""
    if label.lower() in _EMPTY:
        raise ValueError(f"it holds run lengths, but no class in the column {columns.label}")
    if label.endswith(".0") and label[:-2].isdecimal():  # as pandas writes integers beside gaps
        label = label[:-2]
    return item, label, text


def _one_based_runs(text: str, order: str) -> Draw:
    """The shape of a cell `start length start length …`.

    Args:
        order: `columns` or `rows`, one after another.

    Raises:
        ValueError: the numbers are no such pairs; the drawing raises it where they leave the image.
    """
    words = text.split()
    if len(words) % 2 or not all(word.isdecimal() for word in words):
        raise ValueError(
            f"it holds '{text[:40]}'; pairs of start and length, whole numbers, are allowed"
        )
    numbers = [int(word) for word in words]
    starts, lengths = numbers[::2], numbers[1::2]
    end = 1
    for start, length in zip(starts, lengths, strict=True):
        if start < end:
            raise ValueError(
                f"a run starts at {start}, before pixel {end}. Starts are pixels from 1 on, "
                "in ascending order; other run lengths are not read"
            )
        end = start + length

    def draw(height: int, width: int) -> Bits:
        if end - 1 > height * width:
            raise ValueError(
                f"its runs end at pixel {end - 1:,}, but the image has {width} x {height} = "
                f"{height * width:,}"
            )
        bits = np.zeros(height * width, bool)
        for start, length in zip(starts, lengths, strict=True):
            bits[start - 1 : start - 1 + length] = True
        return bits.reshape(width, height).T if order == "columns" else bits.reshape(height, width)

    return draw
