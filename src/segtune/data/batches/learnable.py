"""Refuse splits without two classes to learn, or without a pixel to count."""

from collections.abc import Sequence

import numpy as np

from segtune.classes import IGNORE_INDEX
from segtune.config.commands import command
from segtune.data.batches.decoded import Decoded
from segtune.data.source.layout import Source
from segtune.errors import DataError


def check_learnable(source: Source, train: Decoded, names: Sequence[str]) -> None:
    """Check that the counted pixels of the train masks show at least two classes.

    Args:
        names: of the classes, or of a labeler's finer labels.

    Raises:
        DataError: they show fewer than two.
    """
    check_countable(source, "train", train, names)
    totals = train.pixel_counts(len(names)).sum(0)
    shown = np.flatnonzero(totals)
    if len(shown) > 1:
        return
    raise DataError(
        f"dataset '{source.name}': the masks of split 'train' show one class alone, "
        f"{names[shown[0]]} (id {shown[0]}), of {len(names)}; nothing can be learned from them."
        f"{_hint_on_ignored(source, train)} Check the masks' ids against dataset.classes and "
        f"dataset.ignore: {command('check', dataset=source.config)}"
    )


def check_countable(source: Source, split: str, data: Decoded, names: Sequence[str]) -> None:
    """Check that the masks of a split hold at least one counted pixel.

    Raises:
        DataError: every pixel is ignored.
    """
    if data.pixel_counts(len(names)).any():
        return
    raise DataError(
        f"dataset '{source.name}': every pixel of the {len(data)} masks of split '{split}' is "
        f"ignored, so that nothing counts.{_hint_on_ignored(source, data)} Check dataset.ignore "
        f"and dataset.label_map: {command('check', dataset=source.config)}"
    )


def _hint_on_ignored(source: Source, data: Decoded) -> str:
    """Suggest `mask_format=binary` if pixels of 255 may be class 1; empty if there are none."""
    config = source.config
    if config.mask_format != "index" or IGNORE_INDEX not in config.ignore:
        return ""
    if not any((mask == IGNORE_INDEX).any() for mask in data.masks):
        return ""
    return (
        " All other pixels are 255 or another ignored id. If the masks are pictures of 0 and 255 "
        "with 255 for class 1, set dataset.mask_format=binary."
    )
