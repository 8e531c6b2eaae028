"""Lovasz-softmax: a loss that follows the Jaccard index."""

import numpy as np
import torch
from torch import Tensor

from segtune.classes import IGNORE_INDEX


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes that a batch shows of the Jaccard loss's Lovasz extension (Berman et al., 2018).

    All classes are sorted at once, and nothing depends on what the device has found so far, so that a GPU never waits
    for the CPU. An ignored pixel has no error: it comes last, where it has no say.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) ids and 255; a batch of nothing but 255 costs 0.
    """
    num_classes = logits.shape[1]
    probabilities = logits.softmax(1).transpose(0, 1).flatten(1)
    ids = target.flatten()
    truth = (ids == torch.arange(num_classes, device=ids.device)[:, None]).to(logits.dtype)
    errors = (truth - probabilities).abs() * (ids != IGNORE_INDEX)
    size = truth.sum(1, keepdim=True)
    # the paper's algorithm 1: the Jaccard loss of the k worst pixels, and what each of them adds to it
    order = _falling(errors.detach())
    hits = truth.gather(1, order).cumsum(1)
    ranks = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    jaccard = 1 - (size - hits) / (size + ranks - hits)
    added = jaccard.diff(dim=1, prepend=jaccard.new_zeros(num_classes, 1))
    weight = torch.empty_like(added).scatter_(1, order, added)
    shown = size[:, 0] > 0
    return ((errors * weight).sum(1) * shown).sum() / shown.sum().clamp(min=1)


def _falling(errors: Tensor) -> Tensor:
    """Places (C, N) of the errors of each class, the largest first."""
    if errors.device.type == "cpu":  # NumPy sorts sooner there (LOG.md)
        return torch.from_numpy(np.argsort(-errors.numpy(), axis=1))
    return errors.argsort(dim=1, descending=True)
