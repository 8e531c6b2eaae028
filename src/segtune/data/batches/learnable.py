"""Refuses splits from which nothing can be learned, or on which nothing can be counted."""

from collections.abc import Sequence

import numpy as np

from segtune.classes import IGNORE_INDEX
from segtune.config.commands import command
from segtune.data.batches.cache import Decoded
from segtune.data.source.layout import Source
from segtune.errors import DataError


def check_learnable(source: Source, train: Decoded, names: Sequence[str]) -> None:
    """Asks for two classes at least among the counted pixels of the train masks.

    Args:
        names: of the classes, or of a labeler's finer labels.

    Raises:
        DataError: fewer than two are left.
    """
    check_countable(source, "train", train, names)
    totals = train.pixel_counts(len(names)).sum(0)
    shown = np.flatnonzero(totals)
    if len(shown) > 1:
        return
    raise DataError(
        f"dataset '{source.name}': the masks of split 'train' show one class alone, {names[shown[0]]} (id {shown[0]}), "
        f"of {len(names)}; nothing can be learned from them.{_ignored(source, train)} Check the masks' ids against "
        f"dataset.classes and dataset.ignore: {command('check', dataset=source.config)}"
    )


def check_countable(source: Source, split: str, data: Decoded, names: Sequence[str]) -> None:
    """Asks for one counted pixel at least.

    Raises:
        DataError: there is none.
    """
    if data.pixel_counts(len(names)).any():
        return
    raise DataError(
        f"dataset '{source.name}': every pixel of the {len(data)} masks of split '{split}' is ignored, so that nothing "
        f"counts.{_ignored(source, data)} Check dataset.ignore and dataset.label_map: "
        f"{command('check', dataset=source.config)}"
    )


def _ignored(source: Source, data: Decoded) -> str:
    """What ignored pixels may stand for: masks of 0 and 255 are often pictures of one class."""
    config = source.config
    if config.mask_format != "index" or IGNORE_INDEX not in config.ignore:
        return ""
    if not any((mask == IGNORE_INDEX).any() for mask in data.masks):
        return ""
    return (
        " All other pixels are 255 or another ignored id. If the masks are pictures of 0 and 255 with 255 for class 1, "
        "set dataset.mask_format=binary."
    )
