"""Class offsets: one number a class, added to its logits after training, so that they decide for a higher mIoU.

Crops around rare classes, class weights and a loss that is not mIoU leave logits that decide for rare classes too often
and for others too seldom. Logit adjustment (Menon et al., 2021) mends that by the classes' shares alone; here the
offsets are searched for what the metric counts, on train images as they are.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.segmentation_model import SegmentationModel

MAX_IMAGES = 128  # of a train split that are looked at, at most
MAX_LOGITS = 1 << 24  # of the logits that are kept of them
_STEPS = torch.arange(-8, 9) / 8.0
_COST = 1e-4  # in mIoU, of a step of 1: where the figure hardly changes, the logits should not
_ROUNDS = 3


def class_bias(model: nn.Module) -> Tensor | None:
    """What offsets are added to, (num_classes,); None of a model without a number on each class's logits."""
    layer = model.classifier if isinstance(model, SegmentationModel) else None
    return None if layer is None else layer.bias


@torch.inference_mode()
def offset_classes(
    model: SegmentationModel,
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.uint8]],
) -> Tensor | None:
    """Searches the offsets of a model's classes on some images and adds them to its classifier's bias.

    Args:
        model: in evaluation mode.
        images: each (h, w, 3) uint8, none that the model will be judged by.
        masks: each (h', w') uint8 of class ids and 255; logits are brought to its size.

    Returns:
        What was added, (num_classes,); None where the model has no such bias, and is left as it is.
    """
    bias = class_bias(model)
    if bias is None:
        return None
    area = sum(mask.size for mask in masks)
    every = max(1, math.ceil((area * len(bias) / MAX_LOGITS) ** 0.5))
    first = every // 2
    logits, targets, halves = [], [], []
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        target = torch.from_numpy(mask[first::every, first::every].copy())
        counted = target != IGNORE_INDEX
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        found = model(batch.to(bias.device)).float().cpu()
        # bilinear, as where the whole mask is decided on, but at the pixels that are looked at alone
        y, x = (2 * (torch.arange(first, side, every) + 0.5) / side - 1 for side in mask.shape)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        seen = F.grid_sample(found, grid, padding_mode="border", align_corners=False)
        logits.append(seen[0].permute(1, 2, 0)[counted])
        targets.append(target[counted].long())
        halves.append(torch.full_like(targets[-1], n % 2))
    offsets = best_offsets(torch.cat(logits), torch.cat(targets), torch.cat(halves))
    bias += offsets.to(bias)
    return offsets


def best_offsets(logits: Tensor, target: Tensor, half: Tensor) -> Tensor:
    """Offsets (C,) with which the largest of logits (N, C) gives the highest mIoU of target (N,), class by class.

    Each class in turn takes the step, of at most 1, that gives the highest mIoU while the others stand still, and only
    where the mIoU of either half rises: what one of them gains by chance, the other does not.

    Args:
        half: (N,) of 0 and 1, by image: pixels of one image are alike.

    >>> logits = torch.tensor([[2.0, 1.5], [3.0, 1.0], [2.0, 1.6], [3.0, 0.0]])
    >>> best_offsets(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])).tolist()
    [-0.3125, 0.3125]
    """
    logits, num_classes, steps = logits.clone(), logits.shape[1], len(_STEPS)
    offsets, still = torch.zeros(num_classes), steps // 2
    for _ in range(_ROUNDS):
        before = offsets.clone()
        for c in range(num_classes):
            own = logits[:, c].clone()
            logits[:, c] = -torch.inf
            rest = logits.max(1)
            # the first step with which this class is ahead of all others
            bucket = torch.bucketize(rest.values - own, _STEPS)
            index = (
                (half * (steps + 1) + bucket) * num_classes + target
            ) * num_classes + rest.indices
            counts = torch.bincount(index, minlength=2 * (steps + 1) * num_classes**2)
            counts = counts.view(2, steps + 1, num_classes, num_classes).double()
            ahead = counts.cumsum(1)[:, :steps]
            matrices = counts.sum(1, keepdim=True) - ahead
            matrices[..., c] += ahead.sum(-1)
            each, both = _miou(matrices), _miou(matrices.sum(0)) - _COST * _STEPS.abs()
            allowed = (each > each[:, still : still + 1]).all(0)
            allowed[still] = True
            step = _STEPS[both.masked_fill(~allowed, -1.0).argmax()]
            logits[:, c] = own + step
            offsets[c] += step
        if torch.equal(offsets, before):
            break
    return offsets - offsets.mean()  # what all have in common decides nothing


def _miou(matrices: Tensor) -> Tensor:
    """Mean IoU (...) of confusion matrices (..., C, C), over the classes that occur in each."""
    hit = matrices.diagonal(dim1=-2, dim2=-1)
    union = matrices.sum(-1) + matrices.sum(-2) - hit
    return (hit / union.clamp(min=1)).sum(-1) / (union > 0).sum(-1).clamp(min=1)
