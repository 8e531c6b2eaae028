"""The loss of a run: a weighted sum of terms, on logits and mask of one size."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from segmentation_models_pytorch.losses import FocalLoss
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.config.schema import LossConfig
from segtune.models.losses.lovasz import lovasz_softmax
from segtune.models.losses.masks import MaskClassificationLoss

_BETA = 0.9999
_ADDITIVE_TERMS = {"cross_entropy", "focal", "masks"}
_MIN_FAST_CLASSES = 16
"""With fewer classes, a softmax over neighbours takes a CPU up to three times as long (LOG.md)."""


class SegmentationLoss(nn.Module):
    """Sum of the configured terms.

    Attributes:
        mask_loss: the loss of a query-based model's predictions; None if it is not configured.

    Args:
        shares: share of each class among the counted pixels of the train masks, for class weights.
    """

    weight: Tensor | None

    def __init__(self, config: LossConfig, shares: Sequence[float] | NDArray[np.float64]) -> None:
        super().__init__()
        self.config = config
        weights = class_weights(config.class_weights, shares)
        self.register_buffer("weight", weights, persistent=False)
        self.focal = FocalLoss("multiclass", ignore_index=IGNORE_INDEX)
        self.mask_loss = None
        if "masks" in config.terms:
            self.mask_loss = MaskClassificationLoss(len(shares), config.points)

    @property
    def is_additive(self) -> bool:
        """Whether the losses of the parts of a batch sum to the loss of the batch.

        Dice and Lovasz are ratios over all pixels, and the hardest pixels are chosen among all.
        """
        return set(self.config.terms) <= _ADDITIVE_TERMS and self.config.ohem_ratio == 1.0

    def draw_shift(self) -> tuple[int, int]:
        """Draw the row and column at which a strided loss starts; call it once per batch.

        A logit lies between the two middle pixels of its cell. A fixed choice of one of them would
        shift all predictions by half a pixel.
        """
        stride = self.config.stride
        if stride == 1:
            return 0, 0
        return stride // 2 - int(torch.randint(2, ())), stride // 2 - int(torch.randint(2, ()))

    def forward(self, logits: Tensor, mask: Tensor, batch_mask: Tensor | None = None) -> Tensor:
        """Scalar loss of logits (B, C, H, W) against mask (B, H, W) of ids and 255.

        The loss is 0 if every pixel is ignored.

        Args:
            batch_mask: the mask (N, H, W) of the batch that `mask` is a part of, for a loss that
                `is_additive`. The terms are then divided by the counted pixels of the batch.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), mask.long()
            batch_mask = target if batch_mask is None else batch_mask.long()
            total = logits.new_zeros(())
            for name, factor in self.config.terms.items():
                total = total + factor * self._term(name, logits, target, batch_mask)
        return total

    def _term(self, name: str, logits: Tensor, target: Tensor, batch_mask: Tensor) -> Tensor:
        if name == "cross_entropy":
            return self._cross_entropy(logits, target, batch_mask)
        if name == "lovasz":
            return lovasz_softmax(*self._subsampled(logits, target))
        if name == "dice":
            return soft_dice(logits, target)
        if not bool((target != IGNORE_INDEX).any()):
            return logits.sum() * 0.0  # smp's focal loss is not defined without pixels
        term: Tensor = self.focal(logits, target)
        return term * _counted_share(target, batch_mask)

    def _subsampled(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Every n-th row and column, from a random start."""
        every = self.config.lovasz_stride
        # at least 1: a labeler's batch may hold no region
        row, column = (
            int(torch.randint(max(1, min(every, side)), ())) for side in target.shape[1:]
        )
        return logits[:, :, row::every, column::every], target[:, row::every, column::every]

    def _cross_entropy(self, logits: Tensor, target: Tensor, batch_mask: Tensor) -> Tensor:
        if self.config.ohem_ratio < 1.0 or self.config.boundary:
            return self._selective_cross_entropy(logits, target, batch_mask)
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

    def _selective_cross_entropy(
        self, logits: Tensor, target: Tensor, batch_mask: Tensor
    ) -> Tensor:
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


def _counted_share(target: Tensor, batch_mask: Tensor) -> Tensor | float:
    """Share of the counted pixels of a batch that lie in a part of it."""
    if target is batch_mask:
        return 1.0
    return (target != IGNORE_INDEX).sum() / (batch_mask != IGNORE_INDEX).sum().clamp(min=1)


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss 1 - 2 |P T| / (|P| + |T|) (Milletari et al., 2016), mean over a batch's classes.

    The sums run over all counted pixels of the batch. Without a counted pixel the loss is 0.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) ids and 255.

    >>> logits = torch.tensor([0.0, 0.0, 50.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    >>> float(soft_dice(logits, torch.tensor([[[0, 1]]])))  # all pixels wrong; class 2 is absent
    1.0
    """
    num_classes = logits.shape[1]
    ids = target.flatten()
    shares = logits.softmax(1).transpose(0, 1).flatten(1) * (ids != IGNORE_INDEX)
    truth = (ids == torch.arange(num_classes, device=ids.device)[:, None]).to(logits.dtype)
    size = truth.sum(1)
    losses = 1 - 2 * (shares * truth).sum(1) / (shares.sum(1) + size).clamp(min=1e-7)
    shown = size > 0
    return (losses * shown).sum() / shown.sum().clamp(min=1)


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
