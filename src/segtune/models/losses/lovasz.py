"""Lovasz-softmax: a loss that follows the Jaccard index."""

import numpy as np
import torch
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.losses.context import LossContext


class Lovasz(nn.Module):
    """Lovasz-softmax of every n-th row and column, from a random start."""

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        self.every = context.config.lovasz_stride

    def forward(self, logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        """The loss of logits (B, C, H, W) against ids (B, H, W)."""
        # at least 1: a labeler's batch may hold no region
        row, column = (
            int(torch.randint(max(1, min(self.every, side)), ())) for side in target.shape[1:]
        )
        every = self.every
        return lovasz_softmax(
            logits[:, :, row::every, column::every], target[:, row::every, column::every]
        )


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Lovasz extension of the Jaccard loss (Berman et al., 2018), mean over the classes of a batch.

    All classes are sorted at once, and no step depends on values of the device, so that a GPU
    never waits for the CPU. An ignored pixel has error 0: it comes last and adds nothing.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) ids and 255; the loss of a batch that holds only 255 is 0.
    """
    num_classes = logits.shape[1]
    probabilities = logits.softmax(1).transpose(0, 1).flatten(1)
    ids = target.flatten()
    truth = (ids == torch.arange(num_classes, device=ids.device)[:, None]).to(logits.dtype)
    errors = (truth - probabilities).abs() * (ids != IGNORE_INDEX)
    size = truth.sum(1, keepdim=True)
    # the paper's algorithm 1: the Jaccard loss of the k worst pixels, and the share of each pixel
    order = _descending(errors.detach())
    hits = truth.gather(1, order).cumsum(1)
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    jaccard = 1 - (size - hits) / (size + ranks - hits)
    increase = jaccard.diff(dim=1, prepend=jaccard.new_zeros(num_classes, 1))
    weight = torch.empty_like(increase).scatter_(1, order, increase)
    shown = size[:, 0] > 0
    return ((errors * weight).sum(1) * shown).sum() / shown.sum().clamp(min=1)


def _descending(errors: Tensor) -> Tensor:
    """Indices (C, N) that sort errors (C, N) of each class, the largest first."""
    if errors.device.type == "cpu":  # NumPy sorts faster there (LOG.md)
        return torch.from_numpy(np.argsort(-errors.numpy(), axis=1))
    return errors.argsort(dim=1, descending=True)
