"""The one rule for the splits of images that a reader returns: which names count, and together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from segtune.data.formats.areas import LabelledImage
from segtune.data.formats.faults import LeftOut
from segtune.data.source.patterns import SPLIT
from segtune.data.source.split_words import NamedSplit


def settled(images: Sequence[LabelledImage], left_out: LeftOut) -> list[LabelledImage]:
    """Images with the splits that names surely state.

    A name that also holds other words, as `north_dev`, is a split only where names of the same
    form name train and another split, as `north_train`; else the usual name of a folder further
    out counts. Several words for one split, as `val` and
    `dev`, are that split together. Both are noted.
    """
    splits_of_form: dict[str, set[str]] = {}
    for image in images:
        if isinstance(image.split, NamedSplit):
            splits_of_form.setdefault(image.split.form, set()).add(image.split)
    sure = {form for form, splits in splits_of_form.items() if {"train"} < splits}
    result = []
    for image in images:
        split = image.split
        if isinstance(split, NamedSplit) and split.form:
            is_sure = split.form in sure
            if is_sure or split.otherwise is None:
                left_out.add(_meaning(split, is_sure), f"'{image.name}'")
            split = split if is_sure else split.otherwise
        result.append(replace(image, split=split))
    _note_synonyms(result, left_out)
    return result


def _meaning(split: NamedSplit, is_sure: bool) -> str:
    name = split.form.replace(SPLIT, split.word)
    if is_sure:
        return f"images are in the split {split}: '{name}' stands beside others of its form"
    return (
        f"images belong to '{name}', which may name a place: it is not taken for the split {split}."
        f" If it is this split, call it '{split}'"
    )


def _note_synonyms(images: Sequence[LabelledImage], left_out: LeftOut) -> None:
    """Note the splits that several words name, with the number of images of each word."""
    words: dict[str, Counter[str]] = {}
    for image in images:
        if isinstance(image.split, NamedSplit):
            words.setdefault(str(image.split), Counter())[image.split.word] += 1
    for split, counts in words.items():
        if len(counts) > 1:
            for word, count in counts.items():
                place = f"'{word}' with {count} images"
                left_out.add(f"names of the split {split} are joined", place)
