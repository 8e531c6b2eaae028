"""Every number about accuracy comes from one confusion matrix over the whole split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segtune.classes import IGNORE_INDEX


class ConfusionMatrix(Metric):
    """Counts of (target, prediction) pairs over all images seen, (C, C) int64; rows are targets.

    Pixels whose target is 255 count nowhere. Ranks of a distributed run are summed.
    """

    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", empty, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds class ids (B, H, W) predicted for target ids (B, H, W)."""
        self.matrix += count_pairs(prediction, target, self.num_classes)

    def compute(self) -> Tensor:
        """The matrix."""
        return self.matrix


def count_pairs(prediction: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Confusion matrix (C, C) of two id tensors of one shape; a target of 255 is left out.

    Counted as one `bincount` over int16 indices, the fastest form measured on a CPU; C <= 180 keeps them in range.

    >>> count_pairs(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 255]), 2).tolist()
    [[1, 0], [0, 1]]
    """
    # ignored pixels go to row C, which is dropped
    rows = target.to(torch.int16).masked_fill(target == IGNORE_INDEX, num_classes)
    index = rows.mul_(num_classes).add_(prediction.to(torch.int16))
    counts = torch.bincount(index.flatten(), minlength=(num_classes + 1) * num_classes)
    return counts.view(num_classes + 1, num_classes)[:num_classes]


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        miou: mean intersection over union of the classes that occur in target or prediction, in [0, 1].
        iou: per class, None where a class occurs in neither.
        pixel_accuracy: share of counted pixels that are right.
        pixels: target pixels per class.
    """

    miou: float
    iou: tuple[float | None, ...]
    pixel_accuracy: float
    pixels: tuple[int, ...]

    def named(self, names: Sequence[str], prefix: str = "val/") -> dict[str, float]:
        """Flat metrics under their logged names; absent classes are left out."""
        row = {f"{prefix}miou": self.miou, f"{prefix}pixel_accuracy": self.pixel_accuracy}
        return row | {f"{prefix}iou/{n}": v for n, v in zip(names, self.iou, strict=True) if v is not None}


def score(matrix: Tensor) -> Scores:
    """Scores of a confusion matrix (C, C).

    >>> score(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])).iou
    (0.75, 0.8, None)
    """
    counts = matrix.double()
    hit = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hit
    present = union > 0
    iou = hit / union.clamp(min=1)
    miou = float(iou[present].mean()) if bool(present.any()) else 0.0
    total = float(counts.sum())
    per_class = tuple(float(v) if p else None for v, p in zip(iou, present, strict=True))
    return Scores(miou, per_class, float(hit.sum()) / total if total else 0.0, tuple(int(c) for c in matrix.sum(1)))
