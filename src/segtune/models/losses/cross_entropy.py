"""Cross-entropy with class weights, hard pixels and borders."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.losses.context import LossContext

_BETA = 0.9999
_MIN_FAST_CLASSES = 16
"""With fewer classes, a softmax over neighbours takes a CPU up to three times as long (LOG.md)."""


class CrossEntropy(nn.Module):
    """The cross-entropy as `LossConfig` describes it.

    Attributes:
        is_additive: whether the losses of the parts of a batch sum to the loss of the batch. The
            hardest pixels are chosen among all.
    """

    weight: Tensor | None

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        self.config = context.config
        weights = class_weights(self.config.class_weights, context.shares)
        self.register_buffer("weight", weights, persistent=False)
        self.is_additive = self.config.ohem_ratio == 1.0

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        ignore_index: int = IGNORE_INDEX,
        batch_mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of a part (B, C, H, W) of a batch, divided by the weights of the batch's pixels.

        Args:
            batch_mask: ids (N, H, W) of the batch; None if `target` is all of it.
        """
        batch_mask = target if batch_mask is None else batch_mask
        if self.config.ohem_ratio < 1.0 or self.config.boundary:
            return self._selective(logits, target, batch_mask)
        values, ids = logits, target
        if logits.is_cuda or logits.shape[1] >= _MIN_FAST_CLASSES:
            # a view in channels_last, whose softmax runs over neighbours; deterministic on a GPU
            values = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
            ids = target.reshape(-1)
        summed = F.cross_entropy(
            values,
            ids,
            weight=self.weight,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )
        return summed / self._pixel_weights(batch_mask).sum().clamp(min=1e-6)

    def _selective(self, logits: Tensor, target: Tensor, batch_mask: Tensor) -> Tensor:
        """Cross-entropy of the hardest pixels, or with more weight along borders of classes."""
        counted = target != IGNORE_INDEX
        losses = self._pixel_losses(logits, target, self.weight)
        factor, weights = counted.float(), self._pixel_weights(batch_mask)
        if self.config.boundary:  # the losses have the weights of classes, but not of borders
            factor = factor * (1.0 + self.config.boundary * borders(target))
        if self.config.ohem_ratio < 1.0:  # not additive: `batch_mask` is `target`
            hard = self._hardest(logits, target, counted)
            factor, weights = factor * hard, weights * hard
        return (losses * factor).sum() / weights.sum().clamp(min=1e-6)

    def _pixel_losses(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        return F.cross_entropy(
            logits,
            target,
            weight=weight,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )

    def _pixel_weights(self, target: Tensor) -> Tensor:
        """Weight of each pixel of ids (B, H, W) in the mean cross-entropy; 0 if it is ignored."""
        weights = (target != IGNORE_INDEX).float()
        if self.weight is not None:
            weights = weights * self.weight[target.clamp(max=len(self.weight) - 1)]
        if self.config.boundary:
            weights = weights * (1.0 + self.config.boundary * borders(target))
        return weights

    @torch.no_grad()
    def _hardest(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """Where the cross-entropy without class weights is largest, (B, H, W) bool."""
        if not counted.any():
            return counted
        losses = self._pixel_losses(logits, target, None)
        number = max(1, int(self.config.ohem_ratio * int(counted.sum())))
        return losses >= losses[counted].topk(number).values[-1]


def borders(target: Tensor) -> Tensor:
    """1 where a pixel of ids (B, H, W) has a neighbour of another class, else 0, (B, H, W) float.

    Ignored pixels belong to no class.

    >>> borders(torch.tensor([[[0, 0, 1, 1, 255]]]))
    tensor([[[0., 1., 1., 0., 0.]]])
    """
    is_border = torch.zeros_like(target, dtype=torch.bool)
    if not target.numel():  # a labeler's batch without a region
        return is_border.float()
    for dim in (1, 2):
        length = target.shape[dim] - 1
        a, b = target.narrow(dim, 0, length), target.narrow(dim, 1, length)
        differ = (a != b) & (a != IGNORE_INDEX) & (b != IGNORE_INDEX)
        is_border.narrow(dim, 0, length).logical_or_(differ)
        is_border.narrow(dim, 1, length).logical_or_(differ)
    return is_border.float()


def class_weights(rule: str, shares: Sequence[float] | NDArray[np.float64]) -> Tensor | None:
    """Weight of each class by its share of the pixels, scaled to a mean of 1; None for `none`.

    Args:
        rule: `enet` (Paszke et al., 2016, section 5.2), `inverse`, or `effective` (Cui et al.,
            2019, equation 2). The latter two limit each weight to 10 times the smallest, so that
            an absent class does not set the scale.

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
        positive = np.maximum(share, 1e-9)
        weights = 1.0 / positive
        if rule == "effective":
            weights = 1.0 / (1.0 - _BETA ** (positive * 1e5))
        weights = np.minimum(weights, 10.0 * weights.min())
    return torch.as_tensor(weights / weights.mean(), dtype=torch.float32)
