"""The words that name a split, in folders, file names, tables and lists."""

import re

SPLITS = ("train", "val", "test")
"""The splits that segtune trains on, chooses the best model by, and reports."""

_WORDS = {
    "train": "train training trn",
    "val": "val valid validation dev",
    "test": "test testing tst",
}

SPLIT_OF_WORD = {word: split for split in SPLITS for word in _WORDS[split].split()}
"""Word in lower case -> the split that it names; in the order of the splits."""

WORD_IN_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""A word of a folder's or file's name, as the two of `trainImages`."""

_BESIDE_A_SPLIT = set(
    "a annotated annotation annotations b c caption captions coco csv data dataset export files "
    "frames gt image images img imgs index info instance instances jpegimages jpg json jsonl "
    "keypoints label labels list lists mask masks meta metadata ndjson pairs panoptic "
    "parquet part person photos png project region regions result results semantic set split stuff "
    "subset table tsv txt v via x xml y".split()
)
_PIECE = re.compile(r"-\d+-of-\d+.*")  # as Hugging Face numbers the files of a split


class NamedSplit(str):
    """A split, which remembers the name that states it; it equals its plain text, as `val`.

    Attributes:
        word: the word for it, in lower case, as `dev`.
        form: the whole name with `{split}` in place of the word, as `north_{split}`, where more
            than the usual words stand beside it: it may be the name of a place. Else empty.
        otherwise: with a form, the split that a usual name further out states; else None.
    """

    word: str
    form: str
    otherwise: "NamedSplit | None" = None

    @property
    def is_sure(self) -> bool:
        """Whether a usual name states a split."""
        return not self.form or self.otherwise is not None

    def __new__(cls, word: str, form: str = "") -> "NamedSplit":
        """The split of a word of `SPLIT_OF_WORD`, in any case."""
        split = super().__new__(cls, SPLIT_OF_WORD[word.lower()])
        split.word, split.form = word.lower(), form
        return split


def split_of_name(name: str) -> NamedSplit | None:
    """The split that the name of a folder or of a file of annotations states; None if it does not.

    >>> split_of_name("instances_train2017.json"), split_of_name("north_dev").form
    ('train', 'north_{split}')
    >>> split_of_name("device_images"), split_of_name("train_val")
    (None, None)
    """
    name = _PIECE.sub("", name)
    matches = list(WORD_IN_NAME.finditer(name))
    stated = [match for match in matches if match[0].lower() in SPLIT_OF_WORD]
    if len({SPLIT_OF_WORD[match[0].lower()] for match in stated}) != 1:
        return None
    last = stated[-1]
    others = {match[0].lower() for match in matches} - set(SPLIT_OF_WORD)
    is_usual = others <= _BESIDE_A_SPLIT
    form = "" if is_usual else f"{name[: last.start()]}{{split}}{name[last.end() :]}"
    return NamedSplit(last[0], form)


def first_stated(*splits: NamedSplit | None) -> NamedSplit | None:
    """The first split; where its name is not usual, with the first of a usual name beside it."""
    known = [split for split in splits if split is not None]
    candidates = [split.otherwise if split.form else split for split in known]
    usual = next((split for split in candidates if split is not None), None)
    if not known or not known[0].form:
        return usual
    first = NamedSplit(known[0].word, known[0].form)
    first.otherwise = usual
    return first
