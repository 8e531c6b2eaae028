"""Distillation: a student also learns the soft labels of a trained segmenter, its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segtune.models.segmentation_model import SegmentationModel

STRIDE = 4
"""Teacher and student are compared at every fourth pixel."""


@dataclass
class Distillation:
    """Temperature squared times the divergence of the student's soft labels from the teacher's.

    It is the Kullback-Leibler divergence of the softmaxes at the temperature, averaged over the
    pixels that count (Hinton et al., 2015, arXiv 1503.02531). The teacher sees the student's own
    views (Beyer et al., 2022, arXiv 2106.05237). It is no module: neither checkpoints nor
    optimizers know its weights.

    Attributes:
        channels: position of each class of the student among those of the teacher.
        zoom: pixels of the teacher's images per pixel of the student's.
    """

    teacher: SegmentationModel
    channels: Sequence[int]
    weight: float
    temperature: float
    zoom: float = 1.0

    def __call__(
        self, logits: Tensor, image: Tensor, counted: Tensor, number: Tensor | None = None
    ) -> Tensor:
        """The weighted term for a batch or a part of one.

        Args:
            logits: the student's, (B, C, h, w) at stride 4.
            image: (B, 3, H, W) uint8.
            counted: (B, h, w) bool, False at pixels that do not count.
            number: of pixels that count, in the whole batch; None for those of `counted`.
        """
        target = self.soft_labels(image)[..., : logits.shape[-2], : logits.shape[-1]]
        with torch.autocast(logits.device.type, enabled=False):
            student = F.log_softmax(logits.float() / self.temperature, 1)
            divergence = F.kl_div(student, target, reduction="none").sum(1)
            total = counted.sum() if number is None else number
            mean = (divergence * counted).sum() / total.clamp(min=1)
        return self.weight * self.temperature**2 * mean

    @torch.no_grad()
    def soft_labels(self, image: Tensor) -> Tensor:
        """The teacher's probabilities (B, C, H / 4, W / 4), rounded up, at the temperature."""
        self.teacher.to(image.device)
        grid = tuple(-(-side // STRIDE) for side in image.shape[-2:])
        if self.zoom != 1.0:
            image = F.interpolate(
                image.float(), scale_factor=self.zoom, mode="bilinear", antialias=True
            )
        logits = self.teacher(image, stride=STRIDE).float()
        if tuple(logits.shape[-2:]) != grid:
            logits = F.interpolate(logits, size=grid, mode="bilinear")
        labels: Tensor = (logits[:, list(self.channels)] / self.temperature).softmax(1)
        return labels
