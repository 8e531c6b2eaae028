"""Test-time augmentation: average a model's outputs over mirrored and resized views of an image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.errors import ConfigError, nearest

SCALES = (0.75, 1.0, 1.25)
AVERAGES = {"none": ((1.0,), False), "flip": ((1.0,), True), "scales": (SCALES, True)}
"""Name -> scales of the views, and whether each view is mirrored, too."""


def averaged(infer: Callable[[Tensor], Tensor], image: Tensor, average: str) -> Tensor:
    """Return logits (B, C, H, W) whose softmax is the mean of the softmax over all views.

    Args:
        infer: uint8 images (B, 3, H, W) -> logits (B, C, H, W).
        average: a name in AVERAGES.

    Raises:
        ConfigError: an unknown name.
    """
    if average not in AVERAGES:
        raise ConfigError(f"tta={average}: {nearest(average, AVERAGES)}")
    if average == "none":
        return infer(image)
    scales, is_mirrored = AVERAGES[average]
    size = (image.shape[-2], image.shape[-1])
    total: Tensor | float = 0.0
    for scale in scales:
        view = _resized(image, scale)
        total = total + _at_size(infer(view), size).softmax(1)
        if is_mirrored:
            total = total + _at_size(infer(view.flip(-1)).flip(-1), size).softmax(1)
    assert isinstance(total, Tensor)
    return (total / (len(scales) * (1 + is_mirrored))).clamp_min(1e-12).log()


def _resized(image: Tensor, scale: float) -> Tensor:
    if scale == 1.0:
        return image
    height, width = image.shape[-2:]
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized = F.interpolate(
        image.float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.round().clamp(0, 255).to(torch.uint8)


def _at_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
