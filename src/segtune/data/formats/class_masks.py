"""One mask file for each class of an image, as in CelebAMask-HQ.

The class is the end of the file's name (`00000_hair.png` for the image `0.jpg`), or its folder
(`masks/road/a.png` for `images/a.jpg`, also `masks/road/train/a.png`). A file is 0 and any other
value. A class may be called as a split, as `dev`: see `_folders_of_splits`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
from segtune.data.proposal.words import IMAGE_WORDS
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES, stored_size
from segtune.data.reading.mask_values import mask_values
from segtune.data.source.files import walk
from segtune.data.source.names import composed, normal_name
from segtune.data.source.split_words import SPLIT_OF_WORD, NamedSplit, split_of_name
from segtune.errors import DataError

_CELEBA = (
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l "
    "neck cloth"
).split()
"""The classes of CelebAMask-HQ; its own conversion paints later ones on top."""

_CLASS = re.compile(r"[^\W\d_]+([ _-][^\W\d_]+)*|(c|cat|category|class|cls|type)[ _-]?\d+")
_NO_CLASS = set(
    "ah vk annotator expert manual observer rater reader "  # who drew the masks
    "annotation annotations color colors colour data depth gt image images img imgs instance "
    "instanceids instances label labelids labels labeltrainids left mask masks overlay pred "
    "prediction rgb right sat seg segmentation semantic trainids vis viz".split()
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
        DataError: two files hold one class of one image, or a folder may be a class or a split.
    """
    options = annotation_options(config)
    masks = find_files(root)
    _refuse_class_or_split(masks)
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
    rows = class_rows(names, [], options)
    return Annotations(rows, images, notes, one_class_each=not is_celeba)


def _refuse_class_or_split(masks: Sequence[ClassMask]) -> None:
    """Raise DataError where the class of a mask is called as the split of its image."""
    for mask in masks:
        split = folder_split(mask.image)
        if split is not None and split.word == mask.label.lower():
            raise DataError(
                f"'{mask.mask}' may show the class '{mask.label}' of '{mask.image}', or be its "
                f"mask in the split {split}. For the class, rename its folder, as "
                f"'class_{mask.label}'; for the split, give each class a folder that holds those "
                f"of the splits, as 'CLASS/{mask.label}'."
            )


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
    """Files that are called as an image and a class.

    The word of a split is a class where another class of the same image has a file.
    """
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
    labelled = {mask.image for mask in masks if mask.label.lower() not in SPLIT_OF_WORD}
    return _without_chains([mask for mask in masks if mask.image in labelled])


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
    of_splits = _folders_of_splits(by_stem)
    masks = []
    for same in by_stem.values():
        parents: dict[PurePosixPath, list[tuple[str, str]]] = defaultdict(list)
        for file in same:
            folder = PurePosixPath(file).parent
            folder = folder.parent if folder in of_splits else folder
            if _is_class(folder.name):
                parents[folder.parent].append((file, folder.name))
        for parent, inside in parents.items():
            outside = [file for file in same if _is_image_of(file, parent)]
            for file, label in inside:
                image = _one_of(outside, file)
                if image is not None:
                    masks.append(ClassMask(file, label, image))
    return masks


def _is_image_of(file: str, parent: PurePosixPath) -> bool:
    """Whether a file may be the image of masks in the folders below a parent."""
    path = PurePosixPath(file)
    is_beside = path.parent.name.lower() in IMAGE_WORDS & _NO_CLASS
    return file.lower().endswith(IMAGE_SUFFIXES) and (is_beside or not path.is_relative_to(parent))


def _folders_of_splits(by_stem: Mapping[str, Sequence[str]]) -> set[PurePosixPath]:
    """The folders, called after a split, that hold the masks of one and are no class.

    A split has images of its own: none of its names is in a folder beside it, unless the images
    lie in folders of the same word. The folder of a class shares names with those of the others.
    """
    folders = {PurePosixPath(file).parent for same in by_stem.values() for file in same}
    named = {folder for folder in folders if folder.name.lower() in SPLIT_OF_WORD}
    shared: set[PurePosixPath] = set()
    for same in by_stem.values():
        places = {PurePosixPath(file).parent for file in same}
        for folder in named & places:
            beside = {p for p in places if p.parent == folder.parent and _is_class(p.name)}
            others = {p for p in places if p.parent != folder.parent}
            own = NamedSplit(folder.name)
            has_own_images = any(own in map(split_of_name, other.parts) for other in others)
            if len(beside) > 1 and (beside - named or not has_own_images):
                shared.add(folder)
    return named - shared


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
    if not _CLASS.fullmatch(label) or label.lower() in _NO_CLASS:
        return False
    split = split_of_name(label)
    return split is None or bool(split.form) or label.lower() == split.word


def _is_binary(path: Path) -> bool:
    """Whether a mask holds 0 and at most one other value, or that one alone."""
    try:
        mask = mask_values(path.read_bytes(), str(path))
    except (DataError, OSError):
        return False
    values = np.unique(mask.pixels)
    return mask.pixels.ndim == 2 and (len(values) == 1 or (len(values) == 2 and values[0] == 0))
