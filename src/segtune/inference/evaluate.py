"""Scores of a segmenter on a split: the same code and the same model that inference uses."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.data.cache import Decoded, batches_of_one_size
from segtune.inference.overlay import four_views
from segtune.inference.segmenter import Segmenter
from segtune.measure.metrics import Scores, count_pairs, score
from segtune.measure.statistics import Interval, miou_interval


@dataclass(frozen=True)
class Evaluation:
    """What a segmenter did on a split, image by image.

    Attributes:
        names: of the images.
        matrices: (N, C, C) int64 confusion matrices of single images; rows are targets.
        groups: of each image, such as its video; None where images stand alone.
    """

    names: tuple[str, ...]
    matrices: NDArray[np.int64]
    groups: tuple[str, ...] | None

    @property
    def scores(self) -> Scores:
        """Of the whole split."""
        return score(torch.from_numpy(self.matrices.sum(0)))

    @property
    def interval(self) -> Interval | None:
        """Of the mIoU, at 95 %; None where a single image, or a single group, tells nothing of the spread."""
        if len(set(self.groups or self.names)) < 2:
            return None
        return miou_interval(self.matrices, self.groups)


def evaluate(
    segmenter: Segmenter,
    split: Decoded,
    batch_size: int = 8,
    groups: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Compares all images of a split, each at the size of its stored mask.

    Args:
        split: decoded at the segmenter's image size, with stored masks.
        groups: pattern whose first match in an image's name is its group.
        progress: is told how many images are done.
    """
    classes = len(segmenter.classes)
    matrices = np.zeros((len(split), classes, classes), np.int64)
    done = 0
    for batch in batches_of_one_size(split, batch_size):
        for index, prediction in zip(batch, _predict(segmenter, split, batch), strict=True):
            matrices[index] = count_pairs(prediction, torch.from_numpy(split.masks[index]), classes).numpy()
        done += len(batch)
        progress(done)
    found = None if groups is None else tuple(_group(groups, name) for name in split.names)
    return Evaluation(split.names, matrices, found)


def _group(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    return match.group(0) if match else name


def overlays(segmenter: Segmenter, split: Decoded, indices: Sequence[int]) -> dict[str, NDArray[np.uint8]]:
    """Image, truth, prediction and error of chosen images, by name; images whose mask has another size are resized."""
    from segtune.data.images import resize_image

    views = {}
    for index in indices:
        prediction = _predict(segmenter, split, [index])[0].numpy()
        truth = split.masks[index]
        image = resize_image(split.images[index], *truth.shape)
        views[split.names[index]] = four_views(image, truth, prediction, segmenter.classes)
    return views


def _predict(segmenter: Segmenter, split: Decoded, batch: Sequence[int]) -> torch.Tensor:
    images = torch.from_numpy(np.stack([split.images[i] for i in batch])).permute(0, 3, 1, 2)
    logits = segmenter.logits(images, split.masks[batch[0]].shape)
    return logits.max(1).indices.to(torch.uint8).cpu()
