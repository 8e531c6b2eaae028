"""A table of pairs: CSV or JSONL with columns image and mask, and optionally split and group."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import Annotations, LabelledImage, annotation_options
from segtune.data.formats.declaration import STORED_MASKS, Declaration
from segtune.data.formats.finding import FileFinder, image_name, split_called
from segtune.data.formats.stated_classes import stated_classes
from segtune.data.reading.images import MASK_SUFFIXES
from segtune.data.reading.masks import MaskReader
from segtune.data.source.files import walk
from segtune.data.source.split_words import split_of_name
from segtune.data.source.text import read_text
from segtune.errors import DataError

_SAMPLE = 20  # rows by which a table is recognised
_SUFFIXES = (".csv", ".tsv", ".jsonl")
_COLUMNS = {
    **dict.fromkeys(("image", "images", "img", "photo", "picture", "file"), "image"),
    **dict.fromkeys(("mask", "masks", "label", "labels", "annotation", "segmentation"), "mask"),
    **dict.fromkeys(("subset", "set", "partition"), "split"),
}
"""Name of a column, without `path`, `file` or `name` at its end -> the column that is read."""

DECLARED = Declaration(
    "table with columns of images and masks",
    ("relocate", *STORED_MASKS),
    has_mask_files=True,
)


def find_files(root: Path) -> list[Path]:
    """The tables: root itself, or every CSV or JSONL in it with columns image and mask."""
    files = [root]
    if not root.is_file():
        files = [root / f for f in walk(root, _SUFFIXES) if "/" not in f]
    tables = []
    for path in files:
        if path.suffix.lower() in _SUFFIXES:
            # a column `label` of a classifier's table holds no files
            masks = [str(row.get("mask")) for row in _read_rows(path, _SAMPLE) if "image" in row]
            if any(mask.lower().endswith(MASK_SUFFIXES) for mask in masks):
                tables.append(path)
    return tables


def header_of(path: Path) -> list[str]:
    """The names of a table's columns, as they are read."""
    return list(_read_rows(path, limit=1)[0])


def _columns(names: Sequence[object]) -> list[str]:
    """The columns of a table by the names that are asked for: `Img_Path` is `image`.

    A column of exactly that name comes before one of a similar name.
    """
    plain = [re.sub(r"[\W_]+", "_", str(name or "").strip().lower()).strip("_") for name in names]
    columns = []
    for name in plain:
        word = re.sub(r"_?(file_?)?(path|name)$|_?file$", "", name) or "file"
        column = _COLUMNS.get(word, name)
        columns.append(name if column in plain or column in columns else column)
    return columns


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the pair of each row; images with one `group` stay in one split.

    A table without a column of splits may be called after one, as `train.csv`.
    """
    tables = find_files(root)
    classes = stated_classes(config, tables[0].parent)
    reader = MaskReader(config, classes)
    images: list[LabelledImage] = []
    for path in tables:
        images += _pairs_of(path, config, reader)
    return Annotations(classes.to_json(), images)


def _pairs_of(path: Path, config: DatasetConfig, reader: MaskReader) -> list[LabelledImage]:
    relocate = annotation_options(config).relocate
    image_finder = FileFinder(path.parent, relocate)
    mask_finder = FileFinder(path.parent, relocate, MASK_SUFFIXES)
    named_split = split_of_name(path.name)
    images = []
    for number, row in enumerate(_read_rows(path), 1):
        where = f"'{path}' row {number}"
        missing = [key for key in ("image", "mask") if not row.get(key)]
        if missing:
            columns = ", ".join(map(str, row)) or "nothing"
            raise DataError(f"{where} lacks {', '.join(missing)}; found: {columns}.")
        image = image_finder.find(str(row["image"]), f"{where}, image,")
        mask = mask_finder.find(str(row["mask"]), f"{where}, mask,")
        images.append(
            LabelledImage(
                image_name(image, path.parent),
                image,
                split=split_called(str(row.get("split") or ""), f"{where}, split,") or named_split,
                group=str(row["group"]) if row.get("group") else None,
                mask=_StoredMask(mask, reader),
            )
        )
    return images


def _read_rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The first rows of a table, or all of them; one empty row if there are none."""
    try:
        text = read_text(path)
        table: Iterable[tuple[Sequence[Any], Sequence[Any]]]
        if path.suffix.lower() == ".jsonl":
            objects = (json.loads(line) for line in text.split("\n") if line.strip())
            table = ((list(row), list(row.values())) for row in objects if isinstance(row, dict))
        else:
            cells = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
            header = next(cells, [])
            table = ((header, row) for row in cells if any(row))
        rows = [dict(zip(_columns(h), row, strict=False)) for h, row in islice(table, limit)]
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"'{path}' cannot be read as a table: {' '.join(str(error).split())[:200]}"
        ) from None
    return rows or [{}]


def _delimiter(text: str) -> str:
    """The character between the columns: the most frequent one of the header."""
    header = text.partition("\n")[0]
    return max(",;\t|", key=header.count)


@dataclass(frozen=True)
class _StoredMask:
    """Reads a mask file as the dataset's config says."""

    path: Path
    reader: MaskReader

    def __call__(self) -> NDArray[np.uint8]:
        return self.reader.read(self.path.read_bytes(), str(self.path))
