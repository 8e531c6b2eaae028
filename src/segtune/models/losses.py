"""The loss: a weighted sum of the field's terms, on logits and mask of one size."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.lovasz import lovasz_softmax
from segtune.models.mask_loss import MaskClassificationLoss
from segtune.settings import LossConfig

_BETA = 0.9999
_LANES = 16
"""Classes below which a CPU takes up to three times as long for a softmax over neighbours (LOG.md)."""


class SegmentationLoss(nn.Module):
    """Sum of the configured terms.

    Attributes:
        of_masks: the loss of a query-based model's predictions, where that is what is configured; else None.

    Args:
        shares: share of each class among the counted pixels of the train masks, for class weights.
    """

    weight: Tensor | None

    def __init__(self, config: LossConfig, shares: Sequence[float] | NDArray[np.float64]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("weight", class_weights(config.class_weights, shares), persistent=False)
        makers = {
            "dice": lambda: DiceLoss("multiclass", ignore_index=IGNORE_INDEX),
            "focal": lambda: FocalLoss("multiclass", ignore_index=IGNORE_INDEX),
        }
        self.others = nn.ModuleDict({name: makers[name]() for name in config.terms if name in makers})
        self.of_masks = MaskClassificationLoss(len(shares), config.points) if "masks" in config.terms else None

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss of logits (B, C, H, W) against mask (B, H, W) of ids and 255; 0 where nothing counts."""
        logits, target = logits.float(), mask.long()
        total = logits.new_zeros(())
        for name, factor in self.config.terms.items():
            if name == "cross_entropy":
                term = self._cross_entropy(logits, target)
            elif name == "lovasz":
                term = lovasz_softmax(*self._some(logits, target))
            else:
                term = self._other(name, logits, target)
            total = total + factor * term
        return total

    def _some(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Every n-th row and column, from a random place on."""
        every = self.config.lovasz_stride
        row, column = (int(torch.randint(min(every, side), ())) for side in target.shape[1:])
        return logits[:, :, row::every, column::every], target[:, row::every, column::every]

    def _other(self, name: str, logits: Tensor, target: Tensor) -> Tensor:
        if not bool((target != IGNORE_INDEX).any()):
            return logits.sum() * 0.0  # smp's focal loss is not defined on nothing
        term: Tensor = self.others[name](logits, target)
        return term

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.config.hardest < 1.0 or self.config.boundary:
            return self._chosen_cross_entropy(logits, target)
        values, ids = logits, target
        if logits.is_cuda or logits.shape[1] >= _LANES:
            # classes last: in channels_last a view, whose softmax runs over neighbours; deterministic on a GPU, too
            values, ids = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), target.reshape(-1)
        summed = F.cross_entropy(
            values,
            ids,
            weight=self.weight,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )
        counted = target != IGNORE_INDEX
        if self.weight is None:
            norm = counted.sum()
        else:
            norm = (self.weight[target.clamp(max=len(self.weight) - 1)] * counted).sum()
        return summed / norm.clamp(min=1e-6)

    def _chosen_cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of the hardest pixels, or with more weight along the borders of classes."""
        counted = target != IGNORE_INDEX
        each = F.cross_entropy(
            logits, target, ignore_index=IGNORE_INDEX, label_smoothing=self.config.label_smoothing, reduction="none"
        )
        weight = counted.float()
        if self.weight is not None:
            weight = weight * self.weight[target.clamp(max=len(self.weight) - 1)]
        if self.config.boundary:
            weight = weight * (1.0 + self.config.boundary * borders(target))
        if self.config.hardest < 1.0:
            number = max(1, int(self.config.hardest * int(counted.sum())))
            least = each.detach()[counted].topk(number).values[-1] if counted.any() else each.new_zeros(())
            weight = weight * (each.detach() >= least)
        return (each * weight).sum() / weight.sum().clamp(min=1e-6)


def borders(target: Tensor) -> Tensor:
    """Where a pixel of ids (B, H, W) has a neighbour of another class, (B, H, W) float; ignored pixels are no class.

    >>> borders(torch.tensor([[[0, 0, 1, 1, 255]]]))
    tensor([[[0., 1., 1., 0., 0.]]])
    """
    found = torch.zeros_like(target, dtype=torch.bool)
    for dim in (1, 2):
        length = target.shape[dim] - 1
        a, b = target.narrow(dim, 0, length), target.narrow(dim, 1, length)
        differ = (a != b) & (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
        found.narrow(dim, 0, length).logical_or_(differ)
        found.narrow(dim, 1, length).logical_or_(differ)
    return found.float()


def class_weights(rule: str, shares: Sequence[float] | NDArray[np.float64]) -> Tensor | None:
    """Weight of each class by its share of the pixels, scaled to a mean of 1; None for `none`.

    Args:
        rule: `enet` (Paszke et al., 2016, section 5.2), `inverse`, or `effective` (Cui et al., 2019, equation 2); the
            latter two give no class more than 10 times the least weight, nor an absent one any say in the scale.

    >>> [round(w, 2) for w in class_weights("inverse", [0.8, 0.2]).tolist()]
    [0.4, 1.6]
    >>> class_weights("none", [0.8, 0.2])
    """
    if rule == "none":
        return None
    share = np.asarray(shares, np.float64)
    if rule == "enet":
        weights = 1.0 / np.log(1.10 + share)
    else:
        seen = np.maximum(share, 1e-9)
        weights = 1.0 / seen if rule == "inverse" else 1.0 / (1.0 - _BETA ** (seen * 1e5))
        weights = np.minimum(weights, 10.0 * weights.min())
    return torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
