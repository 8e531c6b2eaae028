"""A plugin: a model and a loss of your own, in one file. docs/extending.md explains each door."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import segtune


@segtune.register("architecture", "TinyNet")
def tiny_net(num_classes: int, width: Annotated[int, Field(ge=4, le=64)] = 16) -> nn.Module:
    """Four convolutions."""
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, num_classes, 1),
    )
    net.stride = 4  # the sides of images are padded to multiples of it
    return net


@segtune.register("loss", "tversky")
class Tversky(nn.Module):
    """Tversky loss (Salehi et al., 2017): `alpha` weighs false positives, 1 - alpha misses."""

    def __init__(self, alpha: Annotated[float, Field(ge=0, le=1)] = 0.3) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, logits: Tensor, mask: Tensor, ignore_index: int) -> Tensor:
        counted = (mask != ignore_index).unsqueeze(1)
        truth = F.one_hot(mask * counted[:, 0], logits.shape[1]).movedim(-1, 1) * counted
        shares = logits.softmax(1) * counted
        hits = (shares * truth).sum((0, 2, 3))
        wrong = self.alpha * (shares.sum((0, 2, 3)) - hits)
        missed = (1 - self.alpha) * (truth.sum((0, 2, 3)) - hits)
        return (1 - hits / (hits + wrong + missed).clamp(min=1e-6)).mean()
