"""The words in names of folders and files that say what they hold: images, masks, a split."""

import re
from collections.abc import Iterable
from itertools import pairwise

from segtune.data.source.split_words import SPLIT_OF_WORD, WORD_IN_NAME, NamedSplit, split_of_name

IMAGE_WORDS = frozenset(
    "image images img imgs jpegimages jpg jpeg photo photos picture pictures pic pics rgb sat "
    "satellite input inputs frame frames ori orig original originals raw scan scans tile tiles "
    "leftimg8bit data".split()
)
MASK_WORDS = frozenset(
    "mask masks label labels labelids gt gts gtfine gtcoarse groundtruth truth annotation "
    "annotations annot annots ann anno seg segs segm segmentation segmentations segmentationclass "
    "segmentationclassraw semantic trimap trimaps manual target targets lbl ah "
    "vk ho stho ndho".split()
)
SECOND_WORDS = frozenset(
    "color colors colour colours colored coloured vis visual visualization overlay overlays "
    "preview previews instance instances instanceids object objects superpixel superpixels edge "
    "edges boundary boundaries contour depth confidence trainids thumb thumbs thumbnails heatmap "
    "segmentationobject noboundary".split()
)
"""Of masks that are pictures of other masks, or say something else than the class."""

_LONGEST_FIRST = sorted(SPLIT_OF_WORD, key=len, reverse=True)
_SHORT_SPLITS = {"Tr": "train", "Ts": "test"}  # of nnU-Net: imagesTr
_BESIDE_A_SPLIT = IMAGE_WORDS | MASK_WORDS | set("a b c dataset part set split subset x y".split())


def words_in(text: str) -> list[str]:
    """The words of a name, in lower case.

    >>> words_in("trainImages/a0_labelIds")
    ['train', 'images', 'a', 'label', 'ids']
    """
    return [word.lower() for word in WORD_IN_NAME.findall(text)]


def says(text: str, vocabulary: frozenset[str]) -> bool:
    """Whether a name holds one of some words, also as two words written as one.

    >>> says("leftImg8bit", IMAGE_WORDS), says("GroundTruth", MASK_WORDS), says("a", MASK_WORDS)
    (True, True, False)
    """
    words = words_in(text)
    pairs = {first + second for first, second in pairwise(words)}
    return not vocabulary.isdisjoint({*words, *pairs})


def stated_splits(folders: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name of a folder -> see `with_split`, for those that state a split.

    One with other words states it where others of its form state train and another split.

    >>> stated_splits(["roads_train", "roads_val", "north_dev", "test"])["roads_val"]
    ('roads_{split}', 'val')
    """
    stated, likely = dict[str, tuple[str, str]](), dict[str, NamedSplit]()
    for folder in sorted(folders):
        usual, named = with_split(folder), split_of_name(folder)
        if usual is not None:
            stated[folder] = usual
        elif named is not None and named.form:
            likely[folder] = named
    splits_of_form: dict[str, set[str]] = {}
    for named in likely.values():
        splits_of_form.setdefault(named.form, set()).add(named)
    for folder, named in likely.items():
        if {"train"} < splits_of_form[named.form]:
            start, _, end = named.form.partition("{split}")
            stated[folder] = named.form, folder[len(start) : len(folder) - len(end)]
    return stated


def with_split(folder: str) -> tuple[str, str] | None:
    """A folder's name with `{split}` in place of the split that it states, and the stated text.

    A folder that shows what happens in it, as `test_drive`, states no split of its own.

    >>> with_split("train_labels"), with_split("TrainAnnot"), with_split("test_drive")
    (('{split}_labels', 'train'), ('{split}Annot', 'Train'), None)
    """
    for word in _LONGEST_FIRST:
        for match in re.finditer(word, folder, re.IGNORECASE):
            before, after = folder[: match.start()], folder[match.end() :]
            if _stand_beside(before, after):
                return f"{before}{{split}}{after}", match[0]
    for word in _SHORT_SPLITS:
        if folder.endswith(word) and words_in(folder[:-2]) and _are_roles(folder[:-2]):
            return f"{folder[:-2]}{{split}}", word
    return None


def split_of(text: str) -> str:
    """The split that a text states, as `Training`.

    >>> split_of("Training"), split_of("Ts")
    ('train', 'test')
    """
    return _SHORT_SPLITS.get(text) or SPLIT_OF_WORD.get(text.lower(), text)


def _stand_beside(before: str, after: str) -> bool:
    """Whether what stands around the name of a split is a role, or nothing that means anything."""
    is_cut = before[-1:].isalpha() and not _are_roles(before)
    is_run_on = after[:1].islower() and not _are_roles(after)
    if is_cut or is_run_on:
        return False
    return set(words_in(before)) | set(words_in(after)) <= _BESIDE_A_SPLIT


def _are_roles(text: str) -> bool:
    return set(words_in(text)) <= _BESIDE_A_SPLIT
