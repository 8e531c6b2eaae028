"""One mask file for each object: `NAME/images` and `NAME/masks`, or `images` and `masks/NAME`.

Files that are called as their classes (`person.png`, `road_2.png`) keep these; files with numbers
or arbitrary names show objects of one class.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.finding import folder_split
from segtune.data.formats.shapes import object_mask
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.names import in_any_form

_WORDS = re.compile(r"[^\W\d_]+([ _-][^\W\d_]+)*")

DECLARED = Declaration(
    "folder of masks for each image",
    PAINTING,
    has_mask_files=True,
)


def find_files(root: Path) -> list[tuple[Path, Path]]:
    """(image, folder of its objects' masks) below root, in either of the two layouts."""
    return _folder_per_image(root) or _shared_folders(root)


def _folder_per_image(root: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for masks in sorted([*root.glob("*/masks"), *root.glob("*/*/masks")]):
        folder = masks.parent / "images"
        images = list(walk(folder, IMAGE_SUFFIXES)) if masks.is_dir() else []
        if len(images) == 1:
            pairs.append((folder / images[0], masks))
    return pairs


def _shared_folders(root: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for file in walk(root / "images", IMAGE_SUFFIXES):
        masks = in_any_form(root / "masks", file.rpartition(".")[0])
        if masks is not None and masks.is_dir():
            pairs.append((root / "images" / file, masks))
    return pairs


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image; its objects have the class that their files name, else `object`."""
    pairs = [(image, masks, list(walk(masks, MASK_SUFFIXES))) for image, masks in find_files(root)]
    classes = _named_classes(files for _, _, files in pairs)
    images = []
    for image, masks, files in pairs:
        areas = []
        for file in files:
            name = _word(file) if classes else "object"
            areas.append(Area(name, object_mask(masks / file)))
        # a folder of one image has the image's own name, which names no split
        place = masks.parent if masks.name == "masks" else image
        split = folder_split(place.relative_to(root).as_posix())
        images.append(LabelledImage(image.stem, image, split, areas))
    rows = class_rows(classes or ["object"], [], annotation_options(config))
    notes = ["the names of the mask files are no classes: all objects become the class 'object'"]
    if classes:
        notes = [f"classes from the names of the mask files: {', '.join(classes)}"]
    return Annotations(rows, images, notes)


def _named_classes(files_by_image: Iterable[list[str]]) -> list[str]:
    """The classes that mask files are called after; none where names say nothing.

    They do where all are words, of which one at least is in the names of two images' files.
    """
    images_by_word: dict[str, int] = defaultdict(int)
    for files in files_by_image:
        for word in {_word(file) for file in files}:
            images_by_word[word] += 1
    words = sorted(images_by_word)
    are_words = all(_WORDS.fullmatch(word) for word in words)
    is_class = are_words and max(images_by_word.values(), default=0) > 1
    return words if len(words) > 1 and is_class else []


def _word(file: str) -> str:
    """The name of a mask file without its suffix and a number at its end.

    >>> _word("a/person_02.png")
    'person'
    """
    return re.sub(r"[\s_-]*\d*$", "", Path(file).stem)
