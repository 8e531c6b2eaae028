"""Test-time augmentation: the mean of what a model sees in an image, its mirror image, and other sizes of it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.errors import ConfigError, nearest

SCALES = (0.75, 1.0, 1.25)
AVERAGES = {"none": ((1.0,), False), "flip": ((1.0,), True), "scales": (SCALES, True)}
"""Name -> sizes that are looked at, and whether mirrored too."""


def averaged(infer: Callable[[Tensor], Tensor], image: Tensor, average: str) -> Tensor:
    """Logits (B, C, H, W) whose softmax is the mean of the softmax over all views.

    Args:
        infer: uint8 images (B, 3, H, W) -> logits (B, C, H, W).
        average: a name in AVERAGES.

    Raises:
        ConfigError: another name.
    """
    if average not in AVERAGES:
        raise ConfigError(f"tta={average}: {nearest(average, AVERAGES)}")
    if average == "none":
        return infer(image)
    scales, mirrored = AVERAGES[average]
    height, width = image.shape[-2:]
    total: Tensor | float = 0.0
    for scale in scales:
        view = image
        if scale != 1.0:
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            resized = F.interpolate(
                image.float(), size=size, mode="bilinear", align_corners=False, antialias=True
            )
            view = resized.round().clamp(0, 255).to(torch.uint8)
        for flip in (False, True)[: 1 + mirrored]:
            logits = infer(view.flip(-1)).flip(-1) if flip else infer(view)
            if logits.shape[-2:] != (height, width):
                logits = F.interpolate(
                    logits, size=(height, width), mode="bilinear", align_corners=False
                )
            total = total + logits.softmax(1)
    assert isinstance(total, Tensor)
    return (total / (len(scales) * (1 + mirrored))).clamp_min(1e-12).log()
