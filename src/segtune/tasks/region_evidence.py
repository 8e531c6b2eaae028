"""Predictions of a labeler for true regions; each region counts once, whatever its size."""

from collections.abc import Iterable, Iterator

import numpy as np

from segtune.classes import IGNORE_INDEX
from segtune.data.batches.decoded import Decoded
from segtune.data.batches.finer import number_regions
from segtune.inference.labeler import RegionLabeler
from segtune.tasks.evidence import Comparison


def compare_regions(
    labeler: RegionLabeler, split: Decoded, indices: Iterable[int]
) -> Iterator[Comparison]:
    """Label the true regions of images; regions below the labeler's `min_area` are left out.

    Args:
        split: see `load_finer`, with stored masks.
    """
    for index in indices:
        regions = number_regions(split.masks[index], labeler.min_area)
        probabilities = labeler.probabilities(labeler.encode(split.images[index]), regions.numbers)
        predicted = probabilities.argmax(1).astype(np.uint8)
        painted = np.append(np.uint8(IGNORE_INDEX), predicted)[regions.numbers]
        yield Comparison(index, predicted, probabilities.max(1), regions.labels, painted)
