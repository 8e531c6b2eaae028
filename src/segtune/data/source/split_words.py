"""The words that name a split, in folders, file names, tables and lists."""

SPLITS = ("train", "val", "test")
"""The splits that segtune trains on, chooses the best model by, and reports."""

_WORDS = {
    "train": "train training trn",
    "val": "val valid validation dev",
    "test": "test testing tst",
}

SPLIT_OF_WORD = {word: split for split in SPLITS for word in _WORDS[split].split()}
"""Word in lower case -> the split that it names; in the order of the splits."""
