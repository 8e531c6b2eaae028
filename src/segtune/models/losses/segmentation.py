"""The loss: a weighted sum of the field's terms, on logits and mask of one size."""

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
_LANES = 16
"""Classes below which a CPU takes up to three times as long for a softmax over neighbours (LOG.md)."""


class SegmentationLoss(nn.Module):
    """Sum of the configured terms.

    Attributes:
        mask_loss: the loss of a query-based model's predictions, where that is what is configured; else None.

    Args:
        shares: share of each class among the counted pixels of the train masks, for class weights.
    """

    weight: Tensor | None

    def __init__(self, config: LossConfig, shares: Sequence[float] | NDArray[np.float64]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer(
            "weight", class_weights(config.class_weights, shares), persistent=False
        )
        self.focal = FocalLoss("multiclass", ignore_index=IGNORE_INDEX)
        self.mask_loss = (
            MaskClassificationLoss(len(shares), config.points) if "masks" in config.terms else None
        )

    @property
    def is_additive(self) -> bool:
        """Whether the losses of a batch's parts sum to the batch's, where each is given the `whole`.

        Dice and Lovasz are ratios over all pixels, and the hardest pixels are chosen among all.
        """
        return (
            set(self.config.terms) <= {"cross_entropy", "focal", "masks"}
            and self.config.ohem_ratio == 1.0
        )

    def draw_shift(self) -> tuple[int, int]:
        """The row and column that a strided loss starts at, drawn anew for each batch.

        A logit lies between the two middle pixels of its cell: with always the same, all would slide by half a pixel.
        """
        stride = self.config.stride
        if stride == 1:
            return 0, 0
        return stride // 2 - int(torch.randint(2, ())), stride // 2 - int(torch.randint(2, ()))

    def forward(self, logits: Tensor, mask: Tensor, whole: Tensor | None = None) -> Tensor:
        """Scalar loss of logits (B, C, H, W) against mask (B, H, W) of ids and 255; 0 where nothing counts.

        Args:
            whole: the mask (N, H, W) of the batch that these are a part of. Terms are then divided by what counts in
                all of it; only for a loss that `is_additive`.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), mask.long()
            whole = target if whole is None else whole.long()
            total = logits.new_zeros(())
            for name, factor in self.config.terms.items():
                total = total + factor * self._term(name, logits, target, whole)
        return total

    def _term(self, name: str, logits: Tensor, target: Tensor, whole: Tensor) -> Tensor:
        if name == "cross_entropy":
            return self._cross_entropy(logits, target, whole)
        if name == "lovasz":
            return lovasz_softmax(*self._some(logits, target))
        if name == "dice":
            return soft_dice(logits, target)
        if not bool((target != IGNORE_INDEX).any()):
            return logits.sum() * 0.0  # smp's focal loss is not defined on nothing
        term: Tensor = self.focal(logits, target)
        return term * _share(target, whole)

    def _some(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Every n-th row and column, from a random place on."""
        every = self.config.lovasz_stride
        # at least 1: a labeler's batch may hold no region
        row, column = (
            int(torch.randint(max(1, min(every, side)), ())) for side in target.shape[1:]
        )
        return logits[:, :, row::every, column::every], target[:, row::every, column::every]

    def _cross_entropy(self, logits: Tensor, target: Tensor, whole: Tensor) -> Tensor:
        if self.config.ohem_ratio < 1.0 or self.config.boundary:
            return self._chosen_cross_entropy(logits, target, whole)
        values, ids = logits, target
        if logits.is_cuda or logits.shape[1] >= _LANES:
            # classes last: in channels_last a view, whose softmax runs over neighbours; deterministic on a GPU, too
            values, ids = (
                logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]),
                target.reshape(-1),
            )
        summed = F.cross_entropy(
            values,
            ids,
            weight=self.weight,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )
        return summed / self._norms(whole).sum().clamp(min=1e-6)

    def _chosen_cross_entropy(self, logits: Tensor, target: Tensor, whole: Tensor) -> Tensor:
        """Of the hardest pixels, or with more weight along the borders of classes."""
        counted = target != IGNORE_INDEX
        each = F.cross_entropy(
            logits,
            target,
            weight=self.weight,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        factor, norm = (
            counted.float(),
            self._norms(whole),
        )  # `each` has the weights of classes already
        if self.config.boundary:
            factor = factor * (1.0 + self.config.boundary * borders(target))
        if self.config.ohem_ratio < 1.0:  # of a whole batch: this is not additive
            hard = self._hardest(logits, target, counted)
            factor, norm = factor * hard, norm * hard
        return (each * factor).sum() / norm.sum().clamp(min=1e-6)

    def _norms(self, target: Tensor) -> Tensor:
        """What each pixel of ids (B, H, W) adds to what the cross-entropy is divided by; an ignored one nothing."""
        norm = (target != IGNORE_INDEX).float()
        if self.weight is not None:
            norm = norm * self.weight[target.clamp(max=len(self.weight) - 1)]
        return (
            norm * (1.0 + self.config.boundary * borders(target)) if self.config.boundary else norm
        )

    @torch.no_grad()
    def _hardest(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """Where the cross-entropy, without weights of classes, is largest: (B, H, W) bool."""
        each = F.cross_entropy(
            logits,
            target,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        number = max(1, int(self.config.ohem_ratio * int(counted.sum())))
        return each >= each[counted].topk(number).values[-1] if counted.any() else counted


def _share(target: Tensor, whole: Tensor) -> Tensor | float:
    """Share of the counted pixels of a batch that a part of it holds."""
    if target is whole:
        return 1.0
    return (target != IGNORE_INDEX).sum() / (whole != IGNORE_INDEX).sum().clamp(min=1)


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes that a batch shows of 1 - 2 |P T| / (|P| + |T|) (Milletari et al., 2016), 0 if none is.

    The sums run over all counted pixels of the batch.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) ids and 255.

    >>> logits = torch.tensor([0.0, 0.0, 50.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    >>> float(soft_dice(logits, torch.tensor([[[0, 1]]])))  # all wrong, and one class of three is not shown
    1.0
    """
    num_classes = logits.shape[1]
    ids = target.flatten()
    shares = logits.softmax(1).transpose(0, 1).flatten(1) * (ids != IGNORE_INDEX)
    truth = (ids == torch.arange(num_classes, device=ids.device)[:, None]).to(logits.dtype)
    size = truth.sum(1)
    each = 1 - 2 * (shares * truth).sum(1) / (shares.sum(1) + size).clamp(min=1e-7)
    shown = size > 0
    return (each * shown).sum() / shown.sum().clamp(min=1)


def borders(target: Tensor) -> Tensor:
    """Where a pixel of ids (B, H, W) has a neighbour of another class, (B, H, W) float; ignored pixels are no class.

    >>> borders(torch.tensor([[[0, 0, 1, 1, 255]]]))
    tensor([[[0., 1., 1., 0., 0.]]])
    """
    found = torch.zeros_like(target, dtype=torch.bool)
    if not target.numel():  # a labeler's batch without a region
        return found.float()
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
