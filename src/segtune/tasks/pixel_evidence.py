"""Predictions of a segmenter, pixel by pixel: the same code and model that inference uses."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.inference.segmenter import Segmenter
from segtune.tasks.evidence import Comparison


def compare_pixels(
    segmenter: Segmenter, split: Decoded, batches: Iterable[Sequence[int]]
) -> Iterator[Comparison]:
    """Segment images, each at the size of its stored mask.

    Args:
        split: decoded at the segmenter's image size, with stored masks.
        batches: indices of images of one size, with masks of one size.
    """
    mask_shapes = shapes_of(split.masks)
    for batch in batches:
        images, masks = split.read_pairs(batch)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        decisions = segmenter.decide(stacked, mask_shapes[batch[0]])
        for index, mask, (ids, confidence) in zip(batch, masks, decisions, strict=True):
            yield Comparison(index, ids, confidence, mask, ids)
