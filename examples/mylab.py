"""A plugin: a model, a loss, an augmentation, a metric and a callback. See docs/extending.md."""

from typing import Annotated

import numpy as np
import pytorch_lightning as pl
import torch.nn.functional as F
from pydantic import Field
from torch import nn

import segtune


@segtune.register("architecture", "TinyNet")
def tiny_net(num_classes: int, width: Annotated[int, Field(ge=4, le=64)] = 16):
    """Three convolutions and a classifier."""
    layers = []
    for channels, stride in ((3, 2), (width, 2), (width, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Conv2d(width, num_classes, 1))
    net.stride = 4  # the sides of images are padded to multiples of it
    return net


@segtune.register("loss", "tversky")
def tversky(logits, mask, ignore_index, alpha: Annotated[float, Field(ge=0, le=1)] = 0.3):
    """Tversky loss (Salehi et al., 2017): alpha weighs false positives, 1 - alpha misses."""
    counted = (mask != ignore_index).unsqueeze(1)
    truth = F.one_hot(mask * counted[:, 0], logits.shape[1]).movedim(-1, 1) * counted
    shares = logits.softmax(1) * counted
    hits, predicted, true = (x.sum((0, 2, 3)) for x in (shares * truth, shares, truth))
    total = hits + alpha * (predicted - hits) + (1 - alpha) * (true - hits)
    return (1 - hits / total.clamp(min=1e-6)).mean()


@segtune.register("augmentation", "fog")
def fog(image, mask, rng, density: Annotated[float, Field(ge=0, le=1)] = 0.5):
    """Grey fog of a random density."""
    share = rng.uniform(0, density)
    return (image * (1 - share) + 200 * share).astype(np.uint8), mask


@segtune.register("metric", "worst_iou", each_epoch=True)
def worst_iou(counts):
    """IoU of the worst class that occurs."""
    return min((iou for iou in counts.scores.iou if iou is not None), default=None)


@segtune.register("callback", "largest_weight")
class LargestWeight(pl.Callback):
    """Prints the largest weight after each epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        largest = max(float(p.detach().abs().max()) for p in pl_module.parameters())
        print(f"largest weight {largest:.3f}")
