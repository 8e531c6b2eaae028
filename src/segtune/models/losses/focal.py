"""Focal loss: pixels that are right already count less."""

import torch
from segmentation_models_pytorch.losses import FocalLoss
from torch import Tensor, nn


class Focal(nn.Module):
    """Focal loss (Lin et al., 2017): the mean over classes and counted pixels."""

    is_additive = True

    def forward(
        self, logits: Tensor, target: Tensor, ignore_index: int, batch_mask: Tensor
    ) -> Tensor:
        """The loss of a part (B, C, H, W) of a batch, by its share of the batch's counted pixels.

        Args:
            batch_mask: ids (N, H, W) of the batch.
        """
        counted = target != ignore_index
        if not bool(counted.any()):
            return logits.sum() * 0.0  # smp's focal loss is not defined without pixels
        loss: Tensor = FocalLoss("multiclass", ignore_index=ignore_index)(logits, target)
        if target is batch_mask:
            return loss
        return loss * (counted.sum() / torch.count_nonzero(batch_mask != ignore_index).clamp(min=1))
