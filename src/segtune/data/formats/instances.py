"""One mask file for each object: `NAME/images` and `NAME/masks`, or `images` and `masks/NAME`."""

from pathlib import Path

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.finding import split_in
from segtune.data.formats.shapes import object_mask
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.source.files import walk


def find_files(root: Path) -> list[tuple[Path, Path]]:
    """(image, folder of its objects' masks) below root, in either of the two layouts."""
    return _folder_per_image(root) or _shared_folders(root)


def _folder_per_image(root: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for masks in sorted([*root.glob("*/masks"), *root.glob("*/*/masks")]):
        files = sorted((masks.parent / "images").glob("*")) if masks.is_dir() else []
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        if len(images) == 1:
            pairs.append((images[0], masks))
    return pairs


def _shared_folders(root: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for file in walk(root / "images", IMAGE_SUFFIXES):
        masks = root / "masks" / file.rpartition(".")[0]
        if masks.is_dir():
            pairs.append((root / "images" / file, masks))
    return pairs


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image; its objects become one class, `object`."""
    images = []
    for image, masks in find_files(root):
        areas = [Area("object", object_mask(masks / f)) for f in walk(masks, MASK_SUFFIXES)]
        split = split_in(str(image.parent.relative_to(root)))
        images.append(LabelledImage(image.stem, image, split, areas))
    return Annotations(class_rows(["object"], [], annotation_options(config)), images)
