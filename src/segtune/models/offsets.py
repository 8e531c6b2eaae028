"""Class offsets: one number per class, added to its logits after training, for a higher mIoU.

Crops around rare classes, class weights and a loss that is not mIoU bias the logits: rare classes
are predicted too often, others too seldom. Logit adjustment (Menon et al., 2021) corrects this by
the classes' shares alone. Here the offsets are searched for the mIoU of train images.
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

MAX_IMAGES = 128
"""The most train images that a search looks at."""

MAX_LOGITS = 1 << 24
"""About the most logits of these images that a search keeps."""

_STEPS = torch.arange(-8, 9) / 8.0
_COST = 1e-4  # mIoU that a step of 1 must gain: without a gain the logits stay as they are
_ROUNDS = 3


def class_bias(model: nn.Module) -> Tensor | None:
    """The bias that offsets are added to, (num_classes,); None if the model has none per class."""
    layer = model.classifier if isinstance(model, SegmentationModel) else None
    return None if layer is None else layer.bias


@torch.inference_mode()
def offset_classes(
    model: SegmentationModel,
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.uint8]],
) -> Tensor | None:
    """Search the class offsets of a model on some images and add them to its classifier's bias.

    Args:
        model: in evaluation mode.
        images: each (h, w, 3) uint8; none of them may be used to evaluate the model.
        masks: each (h', w') uint8 of class ids and 255; logits are resized to the mask.

    Returns:
        the offsets, (num_classes,); None if the model has no such bias and stays as it is.
    """
    bias = class_bias(model)
    if bias is None:
        return None
    area = sum(mask.size for mask in masks)
    every = max(1, math.ceil((area * len(bias) / MAX_LOGITS) ** 0.5))
    logits, targets, halves = [], [], []
    for n, (image, mask) in enumerate(zip(images, masks, strict=True)):
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        image_logits, target = _sampled(model(pixels.to(bias.device)).float().cpu(), mask, every)
        logits.append(image_logits)
        targets.append(target)
        halves.append(torch.full_like(target, n % 2))
    offsets = best_offsets(torch.cat(logits), torch.cat(targets), torch.cat(halves))
    bias += offsets.to(bias)
    return offsets


def _sampled(logits: Tensor, mask: NDArray[np.uint8], every: int) -> tuple[Tensor, Tensor]:
    """Logits (N, C) and targets (N,) of the counted pixels in every n-th row and column of a mask.

    Args:
        logits: (1, C, h, w).
    """
    first = every // 2
    target = torch.from_numpy(mask[first::every, first::every].copy())
    counted = target != IGNORE_INDEX
    # bilinear, as for the decision on a whole mask, but only at these pixels
    y, x = (2 * (torch.arange(first, side, every) + 0.5) / side - 1 for side in mask.shape)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    sampled = F.grid_sample(logits, grid, padding_mode="border", align_corners=False)
    return sampled[0].permute(1, 2, 0)[counted], target[counted].long()


def best_offsets(logits: Tensor, target: Tensor, half: Tensor) -> Tensor:
    """Offsets (C,) that raise the mIoU of the largest of logits (N, C) against target (N,).

    Each class in turn takes the step in [-1, 1] with the highest mIoU while the others keep theirs.
    A step is allowed only if it raises the mIoU of both halves: a gain by chance shows in one only.

    Args:
        half: (N,) of 0 and 1, one value per image, since pixels of one image are alike.

    >>> logits = torch.tensor([[2.0, 1.5], [3.0, 1.0], [2.0, 1.6], [3.0, 0.0]])
    >>> best_offsets(logits, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])).tolist()
    [-0.3125, 0.3125]
    """
    logits, num_classes = logits.clone(), logits.shape[1]
    offsets = torch.zeros(num_classes)
    for _ in range(_ROUNDS):
        previous = offsets.clone()
        for c in range(num_classes):
            class_logits = logits[:, c].clone()
            logits[:, c] = -torch.inf
            step = _best_step(c, class_logits, logits, target, half)
            logits[:, c] = class_logits + step
            offsets[c] += step
        if torch.equal(offsets, previous):
            break
    return offsets - offsets.mean()  # a constant on all classes decides nothing


def _best_step(
    c: int, class_logits: Tensor, others: Tensor, target: Tensor, half: Tensor
) -> Tensor:
    """The offset in `_STEPS` of class c with the highest mIoU.

    Args:
        class_logits: (N,) of class c.
        others: logits (N, C) with -inf for class c.
    """
    num_classes, num_steps, zero = others.shape[1], len(_STEPS), len(_STEPS) // 2
    rival = others.max(1)
    # the first step that puts class c ahead of all others, for each pixel
    bucket = torch.bucketize(rival.values - class_logits, _STEPS)
    index = ((half * (num_steps + 1) + bucket) * num_classes + target) * num_classes
    counts = torch.bincount(index + rival.indices, minlength=2 * (num_steps + 1) * num_classes**2)
    counts = counts.view(2, num_steps + 1, num_classes, num_classes).double()
    ahead = counts.cumsum(1)[:, :num_steps]
    matrices = counts.sum(1, keepdim=True) - ahead
    matrices[..., c] += ahead.sum(-1)
    half_mious = _miou(matrices)
    miou = _miou(matrices.sum(0)) - _COST * _STEPS.abs()
    allowed = (half_mious > half_mious[:, zero : zero + 1]).all(0)
    allowed[zero] = True
    return _STEPS[miou.masked_fill(~allowed, -1.0).argmax()]


def _miou(matrices: Tensor) -> Tensor:
    """Mean IoU (...) of confusion matrices (..., C, C), over the classes that occur in each."""
    hit = matrices.diagonal(dim1=-2, dim2=-1)
    union = matrices.sum(-1) + matrices.sum(-2) - hit
    return (hit / union.clamp(min=1)).sum(-1) / (union > 0).sum(-1).clamp(min=1)
