"""Soft Dice: the overlap of a class with its prediction."""

import torch
from torch import Tensor

from segtune.classes import IGNORE_INDEX


def soft_dice(logits: Tensor, target: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Dice loss 1 - 2 |P T| / (|P| + |T|) (Milletari et al., 2016), mean over a batch's classes.

    The sums run over all counted pixels of the batch. Without a counted pixel the loss is 0.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) ids and `ignore_index`.

    >>> logits = torch.tensor([0.0, 0.0, 50.0]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    >>> float(soft_dice(logits, torch.tensor([[[0, 1]]])))  # all pixels wrong; class 2 is absent
    1.0
    """
    num_classes = logits.shape[1]
    ids = target.flatten()
    shares = logits.softmax(1).transpose(0, 1).flatten(1) * (ids != ignore_index)
    truth = (ids == torch.arange(num_classes, device=ids.device)[:, None]).to(logits.dtype)
    size = truth.sum(1)
    losses = 1 - 2 * (shares * truth).sum(1) / (shares.sum(1) + size).clamp(min=1e-7)
    shown = size > 0
    return (losses * shown).sum() / shown.sum().clamp(min=1)
