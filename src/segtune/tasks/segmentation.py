"""Semantic segmentation as a task: data, loss, predictions and evidence, pixel by pixel."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.schema import RunConfig
from segtune.data.batches.cache import load_split, read_stored_masks
from segtune.data.batches.datamodule import Batch
from segtune.data.batches.decoded import Decoded, spread_evenly
from segtune.data.source.layout import Source
from segtune.inference.decisions import class_ids
from segtune.inference.segmenter import Segmenter
from segtune.measure.evidence import Evidence
from segtune.models.build import build
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.offsets import MAX_IMAGES, offset_classes
from segtune.models.probe import StepFormat
from segtune.models.segmentation_model import SegmentationModel
from segtune.tasks.pixel_evidence import evaluate, overlays
from segtune.tasks.step_format import step_format


class Segmentation:
    """Semantic segmentation: the model gives every pixel a class."""

    unit = "pixel"

    def classes(self, source: Source) -> ClassTable:
        """The dataset's."""
        return source.classes

    def load(
        self,
        source: Source,
        split: str,
        image_size: Sequence[int],
        stored_masks: bool = False,
        **where: Any,
    ) -> Decoded:
        """The masks as they are; `where` goes to `load_split`: cache, say."""
        return load_split(source, split, image_size, stored_masks, **where)

    def build(
        self, model: Mapping[str, Any], num_classes: int, pretrained: bool = False
    ) -> nn.Module:
        """See `models.build`."""
        return build(model, num_classes, pretrained)

    def step_format(
        self,
        config: RunConfig,
        num_classes: int,
        shape: tuple[int, int, int, int],
        device: torch.device,
    ) -> StepFormat:
        """Measured once per model and machine, unless the config says."""
        make = partial(build, config.template["model"], num_classes)
        return step_format(config, make, shape, config.loss.stride, device)

    def collate(self, batch: Batch) -> Batch:
        """Nothing more."""
        return batch

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """Of the pixels, at the loss's stride."""
        return self.part_loss(model, loss, batch, batch, loss.draw_shift())

    def part_loss(
        self,
        model: nn.Module,
        loss: SegmentationLoss,
        part: Batch,
        whole: Batch,
        shift: tuple[int, int],
    ) -> Tensor:
        """What a part of a batch adds to the batch's loss, where that is additive.

        Args:
            shift: the loss's, drawn once for the batch.
        """
        if loss.mask_loss is None:
            (logits,) = self.outputs(model, loss, part)
            mask = _strided(part["mask"], loss, shift)
            norm = None if whole is part else _strided(whole["mask"], loss, shift)
            found: Tensor = loss(logits[..., : mask.shape[1], : mask.shape[2]], mask, norm)
            return found
        assert isinstance(model, SegmentationModel)
        predictions, (height, width) = model.predictions(part["image"])
        below, right = height - part["mask"].shape[1], width - part["mask"].shape[2]
        mask = F.pad(part["mask"], (0, right, 0, below), value=IGNORE_INDEX)
        mask_loss: Tensor = loss.mask_loss(
            predictions, mask, None if whole is part else whole["mask"]
        )
        return loss.config.terms["masks"] * mask_loss

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits (B, C, h, w) at the loss's stride, as a list of one."""
        if "features" in batch:
            return [_decoded(model, batch, loss.config.stride)]
        return [model(batch["image"], stride=loss.config.stride)]

    def compare(
        self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """The loss of a batch's `outputs`."""
        mask = _strided(batch["mask"], loss, loss.draw_shift())
        found: Tensor = loss(outputs[0][..., : mask.shape[1], : mask.shape[2]], mask)
        return found

    def part(self, batch: Batch, rows: slice) -> Batch:
        """Some of a batch's images."""
        if "features" in batch:
            features: Any = batch["features"]
            return {**batch, "features": [f[rows] for f in features], "mask": batch["mask"][rows]}  # type: ignore[dict-item]  # lists of tensors, in this kind of batch
        return {key: values[rows] for key, values in batch.items()}

    def pairs_of(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of the pixels, at the size of the masks; and whether all logits are finite."""
        logits = _decoded(model, batch) if "features" in batch else model(batch["image"])
        finite = torch.isfinite(logits.sum())
        if logits.shape[-2:] != batch["mask"].shape[-2:]:
            return class_ids(logits, batch["mask"].shape[-2:]), batch["mask"], finite
        # max(1) costs a fifth of argmax(1) on a CPU
        return logits.max(1).indices, batch["mask"], finite

    def finished(
        self, model: nn.Module, classes: ClassTable, image_size: Sequence[int], device: torch.device
    ) -> Segmenter:
        """A segmenter."""
        assert isinstance(model, SegmentationModel)
        return Segmenter(model, classes, image_size, {}, device)

    def offset_classes(self, model: Any, source: Source, train: Decoded) -> list[float] | None:
        """See `models.offsets`; what was added to each class. By masks as stored, as those are that count."""
        chosen = spread_evenly(len(train), MAX_IMAGES)
        masks = read_stored_masks(source, "train", [train.names[i] for i in chosen])
        offsets = offset_classes(model.model, [train.images[i] for i in chosen], masks)
        return None if offsets is None else offsets.tolist()

    def evaluate(self, model: Any, split: Decoded, **facts: Any) -> Evidence:
        """Pixel by pixel."""
        return evaluate(model, split, **facts)

    def overlays(
        self, model: Any, split: Decoded, indices: Sequence[int]
    ) -> dict[str, NDArray[np.uint8]]:
        """Image, truth, prediction, error."""
        return overlays(model, split, indices)


def _strided(mask: Tensor, loss: SegmentationLoss, shift: tuple[int, int]) -> Tensor:
    """The pixels (B, h, w) of a mask (B, H, W) that a loss compares."""
    stride = loss.config.stride
    return mask if stride == 1 else mask[:, shift[0] :: stride, shift[1] :: stride]


def _decoded(model: nn.Module, batch: Batch, stride: int = 1) -> Tensor:
    """The head's logits of features that were encoded before."""
    assert isinstance(model, SegmentationModel)
    features: Any = batch["features"]
    if not torch.is_autocast_enabled(features[0].device.type):
        features = [f.float() for f in features]  # they are kept as bf16
    return model.decode(features, batch["size"], stride)  # type: ignore[arg-type]  # a pair, in this kind of batch
