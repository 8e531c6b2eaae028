"""One mask file for each class of an image, as in CelebAMask-HQ.

The class is the end of the file's name (`00000_hair.png` for the image `0.jpg`), or its folder
(`masks/road/a.png` for `images/a.jpg`, also `masks/road/train/a.png`). A file is 0 and any other
value.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    Area,
    LabelledImage,
    annotation_options,
    class_rows,
)
from segtune.data.formats.declaration import PAINTING, Declaration
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.finding import folder_split, image_name
from segtune.data.formats.shapes import object_mask
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES, stored_size
from segtune.data.reading.mask_values import mask_values
from segtune.data.source.files import walk
from segtune.data.source.names import composed, normal_name
from segtune.data.source.split_words import SPLIT_OF_WORD
from segtune.errors import DataError

_CELEBA = (
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l "
    "neck cloth"
).split()
"""The classes of CelebAMask-HQ; its own conversion paints later ones on top."""

_CLASS = re.compile(r"[^\W\d_]+([ _-][^\W\d_]+)*")
_NO_CLASS = set(
    "ah vk annotator expert manual observer rater reader "  # who drew the masks
    "annotation annotations color colors colour data depth gt image images img imgs instance "
    "instanceids instances label labelids labels labeltrainids left mask masks overlay pred "
    "prediction rgb right sat seg segmentation semantic test train trainids val valid vis "
    "viz".split()
)
_TESTED = 20  # masks that are looked at before a folder counts as of this format


@dataclass(frozen=True)
class ClassMask:
    """A mask file, its class and its image; paths below root with `/`."""

    mask: str
    label: str
    image: str


DECLARED = Declaration(
    "masks called after images and classes, as 0_hair.png and 0_skin.png",
    (*PAINTING, "z"),
    has_mask_files=True,
)


def find_files(root: Path) -> list[ClassMask]:
    """The mask files below root, where their names or folders are those of two classes at least."""
    if root.is_file():
        return []
    files = list(walk(root, MASK_SUFFIXES))
    for masks in (_by_end_of_name(files), _by_folder(files)):
        shown: dict[str, set[str]] = defaultdict(set)
        for mask in masks:
            shown[mask.image].add(mask.label)
        has_both = any(len(labels) > 1 for labels in shown.values())
        if has_both and all(_is_binary(root / mask.mask) for mask in masks[:_TESTED]):
            return masks
    return []


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read every image that has a mask file; overlaps are painted as in CelebAMask-HQ.

    Raises:
        DataError: two files hold one class of one image.
    """
    options = annotation_options(config)
    masks = find_files(root)
    names = sorted({mask.label for mask in masks})
    is_celeba = set(names) <= set(_CELEBA)
    if is_celeba:
        names = [name for name in _CELEBA if name in names]
    areas: dict[str, dict[str, Area]] = defaultdict(dict)
    for mask in masks:
        path = root / mask.mask
        z = _CELEBA.index(mask.label) if is_celeba else 0
        draw = object_mask(path, may_be_smaller=True)
        area = Area(mask.label, draw, z=z, where=f"'{path}'")
        first = areas[mask.image].setdefault(mask.label, area)
        if first is not area:
            raise DataError(
                f"{first.where} and {area.where} both hold the class '{mask.label}' of "
                f"'{mask.image}'. Remove one of them."
            )
    images = []
    for file, shown in areas.items():
        image = root / file
        split = folder_split(file)
        images.append(LabelledImage(image_name(image, root), image, split, list(shown.values())))
    notes = [f"classes from the names of the mask files or their folders: {', '.join(names)}"]
    notes += _size_note(root, masks[0]) + _without_mask(root, masks)
    return Annotations(class_rows(names, [], options), images, notes)


def _size_note(root: Path, first: ClassMask) -> list[str]:
    image, mask = (stored_size(root / file, file)[:2] for file in (first.image, first.mask))
    if image == mask:
        return []
    return [
        f"masks are smaller than their images ('{first.mask}' {mask[1]} x {mask[0]}, "
        f"'{first.image}' {image[1]} x {image[0]}): each pixel of a mask becomes a square"
    ]


def _without_mask(root: Path, masks: Sequence[ClassMask]) -> list[str]:
    left_out = LeftOut()
    known = {mask.mask for mask in masks} | {mask.image for mask in masks}
    for file in walk(root, IMAGE_SUFFIXES):
        if file not in known:
            left_out.add(
                "image files have no mask of a class, and are none; they were left out", f"'{file}'"
            )
    return left_out.notes()


def _by_end_of_name(files: Sequence[str]) -> list[ClassMask]:
    """Files that are called as an image and a class."""
    images: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if file.lower().endswith(IMAGE_SUFFIXES):
            images[_key(PurePosixPath(file).stem)].append(file)
    masks = []
    for file in files:
        for start, label in _divisions(PurePosixPath(file).stem):
            image = _one_of(images.get(_key(start), []), file)
            if image is not None:
                if _is_class(label):
                    masks.append(ClassMask(file, label, image))
                break
    return _without_chains(masks)


def _divisions(stem: str) -> Iterator[tuple[str, str]]:
    """Beginning and end of a name, at each separator, the longest beginning first."""
    for match in reversed(list(re.finditer(r"[_\-. ]", stem))):
        yield stem[: match.start()], stem[match.end() :]


def _without_chains(masks: list[ClassMask]) -> list[ClassMask]:
    """Without masks whose image is a mask itself."""
    files = {mask.mask for mask in masks}
    return [mask for mask in masks if mask.image not in files]


def _by_folder(files: Sequence[str]) -> list[ClassMask]:
    """Files in folders of classes, which lie side by side and hold no image."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for file in files:
        by_stem[composed(PurePosixPath(file).stem)].append(file)
    masks = []
    for same in by_stem.values():
        parents: dict[PurePosixPath, list[str]] = defaultdict(list)
        for file in same:
            if _is_class(_class_folder(file).name):
                parents[_class_folder(file).parent].append(file)
        for parent, inside in parents.items():
            outside = [f for f in same if f.lower().endswith(IMAGE_SUFFIXES)]
            outside = [f for f in outside if not PurePosixPath(f).is_relative_to(parent)]
            for file in inside:
                image = _one_of(outside, file)
                if image is not None:
                    masks.append(ClassMask(file, _class_folder(file).name, image))
    return masks


def _class_folder(file: str) -> PurePosixPath:
    """The folder of a mask, without that of a split inside it.

    >>> str(_class_folder("masks/road/train/a.png")), str(_class_folder("masks/road/a.png"))
    ('masks/road', 'masks/road')
    """
    folder = PurePosixPath(file).parent
    return folder.parent if folder.name.lower() in SPLIT_OF_WORD else folder


def _one_of(images: Sequence[str], mask: str) -> str | None:
    """The image of a mask: the only one, or the only one in the split of the mask's folders."""
    others = [image for image in images if image != mask]
    if len(others) > 1:
        others = [image for image in others if folder_split(image) == folder_split(mask)]
    return others[0] if len(others) == 1 else None


def _key(stem: str) -> str:
    """A stem as it is compared: 00012 is 12."""
    return str(int(stem)) if stem.isascii() and stem.isdigit() else normal_name(stem)


def _is_class(label: str) -> bool:
    return bool(_CLASS.fullmatch(label)) and label.lower() not in _NO_CLASS


def _is_binary(path: Path) -> bool:
    """Whether a mask holds 0 and at most one other value, or that one alone."""
    try:
        mask = mask_values(path.read_bytes(), str(path))
    except (DataError, OSError):
        return False
    values = np.unique(mask.pixels)
    return mask.pixels.ndim == 2 and (len(values) == 1 or (len(values) == 2 and values[0] == 0))
