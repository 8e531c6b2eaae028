"""The kinds of model that are fine-tuned, swept, compared and registered alike, and what is particular to each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import ClassTable
from segtune.data.cache import Decoded, load_split
from segtune.data.datamodule import Batch
from segtune.data.sources import Source, cache_dir
from segtune.inference.evaluate import evaluate, overlays
from segtune.inference.segmenter import Segmenter
from segtune.measure.evidence import Evidence
from segtune.models.build import build
from segtune.models.losses import SegmentationLoss
from segtune.models.probe import StepFormat, fastest_format
from segtune.settings import RunConfig


class Segmenters:
    """Models that give every pixel a class."""

    def classes(self, source: Source) -> ClassTable:
        """The dataset's."""
        return source.classes

    def load(self, source: Source, split: str, image_size: Sequence[int], stored_masks: bool = False) -> Decoded:
        """The masks as they are."""
        return load_split(source, split, image_size, stored_masks)

    def build(self, model: Mapping[str, Any], num_classes: int, pretrained: bool = False) -> nn.Module:
        """See `models.build`."""
        return build(model, num_classes, pretrained)

    def step_format(
        self, config: RunConfig, num_classes: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> StepFormat:
        """Measured once per model and machine, unless the config says."""
        trainer = config.trainer
        return fastest_format(
            lambda: build(config.template["model"], num_classes),
            shape,
            config.loss.stride,
            device,
            keep=cache_dir() / "step_formats.json",
            bf16=None if trainer.precision == "auto" else trainer.precision == "bf16",
            channels_last=None if trainer.channels_last == "auto" else trainer.channels_last,
        )

    def collate(self, batch: Batch) -> Batch:
        """Nothing more."""
        return batch

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """Of the pixels, at the loss's stride."""
        stride, mask = loss.config.stride, batch["mask"]
        logits = model(batch["image"], stride=stride)
        if stride > 1:
            mask = mask[:, stride // 2 :: stride, stride // 2 :: stride]
            logits = logits[..., : mask.shape[1], : mask.shape[2]]
        found: Tensor = loss(logits, mask)
        return found

    def pairs_of(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the pixels, at the size of the masks."""
        logits = model(batch["image"])
        if logits.shape[-2:] != batch["mask"].shape[-2:]:
            logits = F.interpolate(logits, size=batch["mask"].shape[-2:], mode="bilinear", align_corners=False)
        # max(1) costs a fifth of argmax(1) on a CPU
        return logits.max(1).indices, batch["mask"]

    def finished(
        self, model: nn.Module, classes: ClassTable, image_size: Sequence[int], device: torch.device
    ) -> Segmenter:
        """A segmenter."""
        return Segmenter(model, classes, image_size, {}, device)  # type: ignore[arg-type]  # what `build` made

    def evaluate(self, model: Any, split: Decoded, **facts: Any) -> Evidence:
        """Pixel by pixel."""
        return evaluate(model, split, **facts)

    def overlays(self, model: Any, split: Decoded, indices: Sequence[int]) -> dict[str, NDArray[np.uint8]]:
        """Image, truth, prediction, error."""
        return overlays(model, split, indices)


def kind_of(config: RunConfig) -> Segmenters:
    """What a config trains."""
    return Segmenters()
