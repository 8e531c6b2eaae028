"""The loss: a weighted sum of the field's terms, on logits and mask of one size."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.settings import LossConfig


class SegmentationLoss(nn.Module):
    """Sum of the configured terms.

    Args:
        shares: share of each class among the counted pixels of the train masks, for class weights.
    """

    weight: Tensor | None

    def __init__(self, config: LossConfig, shares: Sequence[float] | NDArray[np.float64]) -> None:
        super().__init__()
        self.config = config
        weighted = config.class_weights == "enet"
        self.register_buffer("weight", enet_weights(shares) if weighted else None, persistent=False)
        makers = {
            "dice": lambda: DiceLoss("multiclass", ignore_index=IGNORE_INDEX),
            "focal": lambda: FocalLoss("multiclass", ignore_index=IGNORE_INDEX),
            "lovasz": lambda: LovaszLoss("multiclass", ignore_index=IGNORE_INDEX),
        }
        self.others = nn.ModuleDict({name: makers[name]() for name in config.terms if name != "cross_entropy"})

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss of logits (B, C, H, W) against mask (B, H, W) of ids and 255; 0 where nothing counts."""
        logits, target = logits.float(), mask.long()
        if self.others and not bool((mask != IGNORE_INDEX).any()):
            return logits.sum() * 0.0  # smp's focal and Lovasz losses are not defined on nothing
        total = logits.new_zeros(())
        for name, factor in self.config.terms.items():
            term = self._cross_entropy(logits, target) if name == "cross_entropy" else self.others[name](logits, target)
            total = total + factor * term
        return total

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        # classes last: in channels_last this is a view, and the softmax runs over neighbours in memory
        flat = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
        summed = F.cross_entropy(
            flat,
            target.reshape(-1),
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


def enet_weights(shares: Sequence[float] | NDArray[np.float64], c: float = 1.10) -> Tensor:
    """Class weights 1 / log(c + share), scaled to mean 1 (Paszke et al., 2016, ENet, section 5.2).

    >>> w = enet_weights([0.9, 0.1])
    >>> bool(w[1] > w[0]), round(float(w.mean()), 6)
    (True, 1.0)
    """
    weights = 1.0 / torch.log(c + torch.as_tensor(np.asarray(shares), dtype=torch.float32))
    return weights / weights.mean()
