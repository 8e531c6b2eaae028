"""Semantic segmentation as a task: data, loss, predictions and evidence, pixel by pixel."""

from collections.abc import Sequence
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
from segtune.data.batches.decoded import Decoded, batches_of_one_size, spread_evenly
from segtune.data.source.layout import Source
from segtune.inference.decisions import class_ids
from segtune.inference.segmenter import Segmenter
from segtune.measure.evidence import Evidence
from segtune.models.build import build
from segtune.models.losses.distillation import STRIDE
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.offsets import MAX_IMAGES, offset_classes
from segtune.models.segmentation_model import SegmentationModel
from segtune.tasks.evidence import SplitFacts, collect_evidence, draw_overlays
from segtune.tasks.pixel_evidence import compare_pixels

_BATCH = 8  # images that are evaluated at once


class Segmentation:
    """Semantic segmentation: the model gives every pixel a class."""

    unit = "pixel"
    build = staticmethod(build)

    def classes(self, source: Source) -> ClassTable:
        """The classes of the dataset."""
        return source.classes

    def load(
        self,
        source: Source,
        split: str,
        image_size: Sequence[int],
        stored_masks: bool = False,
        **options: Any,
    ) -> Decoded:
        """Load a split with its masks.

        Args:
            options: keyword arguments of `load_split`.
        """
        return load_split(source, split, image_size, stored_masks, **options)

    def loss_stride(self, config: RunConfig) -> int:
        """The stride at which the loss compares logits and masks."""
        return config.loss.stride

    def collate(self, batch: Batch) -> Batch:
        """Return the batch: the loss needs image and mask alone."""
        return batch

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """The loss of the pixels of a batch, at the loss's stride."""
        return self.part_loss(model, loss, batch, batch, loss.draw_shift())

    def part_loss(
        self,
        model: nn.Module,
        loss: SegmentationLoss,
        part: Batch,
        batch: Batch,
        shift: tuple[int, int],
    ) -> Tensor:
        """The share of a part in the loss of its batch, for losses that are sums over pixels.

        Args:
            shift: the random shift of the loss's grid, drawn once for the batch.
        """
        norm_mask = None if batch is part else batch["mask"]
        if loss.mask_loss is None:
            (logits,) = self.outputs(model, loss, part)
            mask = _strided(part["mask"], loss, shift)
            norm = None if norm_mask is None else _strided(norm_mask, loss, shift)
            value: Tensor = loss(logits[..., : mask.shape[1], : mask.shape[2]], mask, norm)
            return value + _taught(loss, logits, part, batch)
        assert isinstance(model, SegmentationModel)
        predictions, (height, width) = model.predictions(part["image"])
        below, right = height - part["mask"].shape[1], width - part["mask"].shape[2]
        mask = F.pad(part["mask"], (0, right, 0, below), value=IGNORE_INDEX)
        of_masks: Tensor = loss.mask_loss(predictions, mask, norm_mask)
        return loss.config.terms["masks"] * of_masks

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits (B, C, h, w) at the loss's stride, as a list of one."""
        if "features" in batch:
            return [_decoded(model, batch, loss.config.stride)]
        return [model(batch["image"], stride=loss.config.stride)]

    def loss_of_outputs(
        self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """The loss of a batch's `outputs`."""
        mask = _strided(batch["mask"], loss, loss.draw_shift())
        value: Tensor = loss(outputs[0][..., : mask.shape[1], : mask.shape[2]], mask)
        return value + _taught(loss, outputs[0], batch, batch)

    def take_rows(self, batch: Batch, rows: slice) -> Batch:
        """Some images of a batch."""
        if "features" in batch:
            features: Any = batch["features"]
            return {**batch, "features": [f[rows] for f in features], "mask": batch["mask"][rows]}  # type: ignore[dict-item]  # lists of tensors, in this kind of batch
        return {key: values[rows] for key, values in batch.items()}

    def predict_ids(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and true ids of the pixels, (B, H, W), and whether all logits are finite."""
        logits = _decoded(model, batch) if "features" in batch else model(batch["image"])
        finite = torch.isfinite(logits.sum())
        if logits.shape[-2:] != batch["mask"].shape[-2:]:
            return class_ids(logits, batch["mask"].shape[-2:]), batch["mask"], finite
        # max(1) costs a fifth of argmax(1) on a CPU
        return logits.max(1).indices, batch["mask"], finite

    def inference_model(
        self, model: nn.Module, classes: ClassTable, image_size: Sequence[int], device: torch.device
    ) -> Segmenter:
        """The segmenter of a trained model."""
        assert isinstance(model, SegmentationModel)
        return Segmenter(model, classes, image_size, {}, device)

    def offset_classes(self, model: Any, source: Source, train: Decoded) -> list[float] | None:
        """Add offsets to the class logits, see `models.offsets`; return what was added.

        The masks are those in the dataset's files, at their own size, because these are counted.
        """
        chosen = spread_evenly(len(train), MAX_IMAGES)
        masks = read_stored_masks(source, "train", [train.names[i] for i in chosen])
        offsets = offset_classes(model.model, [train.images[i] for i in chosen], masks)
        return None if offsets is None else offsets.tolist()

    def evaluate(self, model: Any, split: Decoded, facts: SplitFacts | None = None) -> Evidence:
        """Compare all images of a split, each at the size of its stored mask."""
        comparisons = compare_pixels(model, split, batches_of_one_size(split, _BATCH))
        return collect_evidence(comparisons, split, model.classes, facts or SplitFacts(), self.unit)

    def overlays(
        self, model: Any, split: Decoded, indices: Sequence[int]
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw image, truth, prediction and error of some images, by name."""
        comparisons = compare_pixels(model, split, [[index] for index in indices])
        return draw_overlays(comparisons, split, model.classes)


def _taught(loss: SegmentationLoss, logits: Tensor, part: Batch, batch: Batch) -> Tensor | float:
    """The teacher's term for a part of a batch; 0 without a teacher.

    Args:
        logits: of the part, at the loss's stride.
    """
    if loss.distillation is None:
        return 0.0
    if loss.config.stride == 1:
        logits = F.avg_pool2d(logits, STRIDE, ceil_mode=True, count_include_pad=False)
    number = None if part is batch else _counted(batch).sum()
    counted = _counted(part)
    logits = logits[..., : counted.shape[1], : counted.shape[2]]
    return loss.distillation(logits, part["image"], counted, number)


def _counted(batch: Batch) -> Tensor:
    """Where the teacher's labels count, (B, h, w) at stride 4: at labelled or unlabelled pixels.

    They do not count where a mask says that a pixel is ignored, nor outside of an image.
    """
    counted = batch["taught"] if "taught" in batch else batch["mask"] != IGNORE_INDEX
    return counted[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]


def _strided(mask: Tensor, loss: SegmentationLoss, shift: tuple[int, int]) -> Tensor:
    """The pixels (B, h, w) of a mask (B, H, W) that the loss compares."""
    stride = loss.config.stride
    return mask if stride == 1 else mask[:, shift[0] :: stride, shift[1] :: stride]


def _decoded(model: nn.Module, batch: Batch, stride: int = 1) -> Tensor:
    """The head's logits of cached features."""
    assert isinstance(model, SegmentationModel)
    features: Any = batch["features"]
    if not torch.is_autocast_enabled(features[0].device.type):
        features = [f.float() for f in features]  # the cache holds bf16
    return model.decode(features, batch["size"], stride)  # type: ignore[arg-type]  # a pair, in this kind of batch
