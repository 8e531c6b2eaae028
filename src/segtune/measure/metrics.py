"""The confusion matrix over a whole split, and the accuracy figures that come from it."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from segtune.classes import IGNORE_INDEX


class ConfusionMatrix(Metric):
    """Counts of (target, prediction) pairs over all images, (C, C) int64; rows are targets.

    Pixels whose target is 255 do not count. The counts of all ranks are summed.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", empty, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add predicted class ids (B, H, W) for target ids (B, H, W)."""
        self.matrix += count_pairs(prediction, target, self.num_classes)

    def compute(self) -> Tensor:
        """Return the matrix, (C, C) int64."""
        return self.matrix


def count_pairs(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Confusion matrix (C, C) int64 of two id tensors of one shape, without targets of 255.

    On a CPU, OpenCV's histogram of byte pairs takes half the time of `bincount`.

    Args:
        num_classes: C, at most 180.

    >>> count_pairs(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255]), 2).tolist()
    [[1, 0], [0, 1]]
    """
    if prediction.device.type == "cpu":
        return _count_bytes(prediction.to(torch.uint8), target.to(torch.uint8), num_classes)
    # ignored pixels count in row C, which is dropped
    rows = target.to(torch.int16).masked_fill(target == IGNORE_INDEX, num_classes)
    index = rows.mul_(num_classes).add_(prediction.to(torch.int16))
    counts = torch.bincount(index.flatten(), minlength=(num_classes + 1) * num_classes)
    return counts.view(num_classes + 1, num_classes)[:num_classes]


def _count_bytes(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    total = np.zeros((num_classes, num_classes), np.int64)
    targets = torch.split(target.reshape(-1), _EXACT)
    predictions = torch.split(prediction.reshape(-1), _EXACT)
    bins, ranges = [num_classes] * 2, [0, num_classes] * 2  # no bin holds 255
    for pair in zip(targets, predictions, strict=True):
        images = [ids.numpy()[None] for ids in pair]
        total += cv2.calcHist(images, [0, 1], None, bins, ranges).astype(np.int64)
    return torch.from_numpy(total)


_EXACT = 1 << 24  # pixels at a time: OpenCV counts in float32


PerClass = tuple[float | None, ...]
"""One figure in [0, 1] per class; None where it is not defined."""


@dataclass(frozen=True)
class Scores:
    """Accuracy figures of a confusion matrix, each in [0, 1].

    Attributes:
        miou: mean intersection over union of the classes that occur in target or prediction.
        iou: per class; None if it occurs in neither.
        pixel_accuracy: share of the counted pixels whose prediction is right.
        pixels: target pixels per class.
        mean_dice: mean Dice coefficient of the classes that occur in target or prediction.
        fwiou: mean IoU, weighted by each class's share of the target pixels.
        dice: per class, 2 TP / (2 TP + FP + FN).
        precision: per class; None if it is never predicted.
        recall: per class; None if it does not occur in the target.
    """

    miou: float
    iou: PerClass
    pixel_accuracy: float
    pixels: tuple[int, ...]
    mean_dice: float
    fwiou: float
    dice: PerClass
    precision: PerClass
    recall: PerClass


def score(matrix: Tensor) -> Scores:
    """Scores of a confusion matrix (C, C).

    >>> score(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).iou
    (0.75, 0.8, None)
    """
    counts = matrix.double()
    hit, target, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    union, total = target + predicted - hit, float(counts.sum())
    iou, dice = _ratio(hit, union), _ratio(2 * hit, target + predicted)
    weighted = sum(float(t) * v for t, v in zip(target, iou, strict=True) if v is not None)
    return Scores(
        miou=mean_of(iou),
        iou=iou,
        pixel_accuracy=float(hit.sum()) / total if total else 0.0,
        pixels=tuple(int(c) for c in matrix.sum(1)),
        mean_dice=mean_of(dice),
        fwiou=weighted / total if total else 0.0,
        dice=dice,
        precision=_ratio(hit, predicted),
        recall=_ratio(hit, target),
    )


def _ratio(part: Tensor, total: Tensor) -> PerClass:
    return tuple(float(p / t) if t else None for p, t in zip(part, total, strict=True))


def mean_of(values: PerClass) -> float:
    """Mean over the classes whose figure is defined; 0 if there is none."""
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else 0.0
