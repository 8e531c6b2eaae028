"""Tables of Hugging Face's `datasets`: Parquet or Arrow files with columns of images and masks."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import Annotations, LabelledImage, annotation_options
from segtune.data.formats.arrow_tables import Cells, columns_of, refuse_damaged
from segtune.data.formats.declaration import STORED_MASKS, Declaration
from segtune.data.formats.faults import reading
from segtune.data.formats.finding import annotation_split
from segtune.data.formats.stated_classes import stated_classes
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.reading.masks import MaskReader
from segtune.data.source.files import walk
from segtune.errors import DataError

_IMAGES = ("image", "pixel_values", "img", "images", "photo")
_MASKS = (
    "mask masks label labels annotation annotations segmentation segmentation_mask "
    "semantic_segmentation semantic_mask seg_mask gt"
).split()
_TABLES = (".parquet", ".arrow")
_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "MPO": ".jpg",
}

DECLARED = Declaration(
    "Parquet or Arrow table with columns of images and masks",
    ("label", *STORED_MASKS),
    has_mask_files=True,
)


def find_files(root: Path) -> list[Path]:
    """The Parquet and Arrow files below root with a column of images and another one of masks."""
    paths = [root / file for file in walk(root, _TABLES)]
    tables = []
    for path in paths:
        columns = columns_of(path)
        if len(columns) > 1 and not set(_IMAGES).isdisjoint(columns):
            tables.append(path)
    return tables


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every row; the split is named by the file or its folder.

    `annotations.label` names the column of masks, where there are several.
    """
    for file in walk(root, _TABLES):
        refuse_damaged(root / file)  # else a part of the set would be missing unsaid
    classes = stated_classes(config, root)
    reader = MaskReader(config, classes)
    images = []
    for path in find_files(root):
        place = path.relative_to(root).as_posix()
        names = _chosen(columns_of(path), annotation_options(config).label, path)
        cells = Cells(path, names)
        split = annotation_split(place)
        for row, stated in enumerate(cells.paths(names[0])):
            file_name = _file_name(cells, row, names[0], stated)
            mask = _Mask(cells, row, names[1], reader)
            data = partial(cells.read, row, names[0])
            # the row makes the path unique: it stands for the file that other formats have
            image = path / str(row) / file_name
            images.append(LabelledImage(image.stem, image, split, mask=mask, data=data))
    return Annotations(classes.to_json(), images)


def _chosen(columns: Sequence[str], label: str, path: Path) -> tuple[str, str]:
    """The column of images and that of masks.

    Raises:
        DataError: several columns could be them.
    """
    image = next((name for name in _IMAGES if name in columns), None)
    masks = [name for name in columns if name != image]
    if label != "auto":
        masks = [name for name in masks if name == label]
    elif len(masks) > 1:
        masks = [name for name in masks if name.lower() in _MASKS]
    if image is None or len(masks) != 1:
        raise DataError(
            f"'{path}' has the columns of images {', '.join(columns)}; one called "
            f"{' or '.join(_IMAGES[:3])} and one of masks are needed. Name that of the masks: "
            "label=COLUMN (or, for train, dataset.annotations.label=COLUMN)."
        )
    return image, masks[0]


def _file_name(cells: Cells, row: int, column: str, stated: str) -> str:
    """The name of an image file: that of its stated path, else the number of the row."""
    name = stated.replace("\\", "/").rpartition("/")[2]
    if name.lower().endswith(IMAGE_SUFFIXES):
        return name
    with reading(f"'{cells.path}' row {row}, {column}"):
        with Image.open(io.BytesIO(cells.read(row, column))) as image:
            kind = str(image.format)
        if kind not in _SUFFIXES:
            raise ValueError(
                f"it holds an image of the format {kind}; allowed: {', '.join(_SUFFIXES)}"
            )
    return f"{cells.path.stem}_{row:06d}{_SUFFIXES[kind]}"


@dataclass(frozen=True)
class _Mask:
    """Reads the mask of a row as the dataset's config says."""

    cells: Cells
    row: int
    column: str
    reader: MaskReader

    def __call__(self) -> NDArray[np.uint8]:
        name = f"{self.cells.path} row {self.row}, {self.column}"
        return self.reader.read(self.cells.read(self.row, self.column), name)
