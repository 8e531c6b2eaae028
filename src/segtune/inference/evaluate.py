"""Scores of a segmenter on a split: the same code and the same model that inference uses."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.data.cache import Decoded, batches_of_one_size
from segtune.inference.overlay import four_views
from segtune.inference.segmenter import Segmenter
from segtune.measure.metrics import ConfusionMatrix, Scores, score


def evaluate(
    segmenter: Segmenter, split: Decoded, batch_size: int = 8, progress: Callable[[int], None] = lambda _: None
) -> Scores:
    """Scores over all images of a split, each compared at the size of its stored mask.

    Args:
        split: decoded at the segmenter's image size, with stored masks.
        progress: is told how many images are done.
    """
    # one process evaluates: the other ranks of a distributed run are not waited for
    confusion = ConfusionMatrix(len(segmenter.classes), sync_on_compute=False)
    done = 0
    for batch in batches_of_one_size(split, batch_size):
        prediction = _predict(segmenter, split, batch)
        confusion.update(prediction, torch.from_numpy(np.stack([split.masks[i] for i in batch])))
        done += len(batch)
        progress(done)
    return score(confusion.compute())


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
