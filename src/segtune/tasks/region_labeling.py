"""Region labeling as a task: data, loss, predictions and evidence, region by region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.schema import RunConfig
from segtune.data.batches.datamodule import Batch
from segtune.data.batches.decoded import Decoded
from segtune.data.batches.finer import finer_classes, load_finer, with_regions
from segtune.data.source.layout import Source
from segtune.inference.labeler import RegionLabeler
from segtune.measure.evidence import Evidence
from segtune.models.labeler import RegionModel, build_labeler
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.probe import StepFormat
from segtune.tasks.region_evidence import evaluate_regions, overlays_of_regions
from segtune.tasks.step_format import step_format


def _at_places(mask: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """A mask (B, H, W) at places (h, w), each `stride` pixels wide: the last ones may reach beyond the image.

    >>> _at_places(torch.arange(5).view(1, 1, 5).expand(1, 4, 5), (1, 2), 4)
    tensor([[[  2, 255]]])
    """
    below, right = (count * stride - side for count, side in zip(size, mask.shape[1:], strict=True))
    whole = F.pad(mask, (0, right, 0, below), value=IGNORE_INDEX)
    return whole[:, stride // 2 :: stride, stride // 2 :: stride]


@dataclass(frozen=True)
class RegionLabeling:
    """Region labeling: the model gives each region of one class a finer label."""

    concept: str
    min_area: int
    unit = "region"

    def classes(self, source: Source) -> ClassTable:
        """The finer labels of the class."""
        return finer_classes(source, self.concept)

    def load(
        self,
        source: Source,
        split: str,
        image_size: Sequence[int],
        stored_masks: bool = False,
        **where: Any,
    ) -> Decoded:
        """The images that show such regions; their masks hold finer ids."""
        return load_finer(
            source, split, self.concept, image_size, self.min_area, stored_masks, **where
        )

    def build(
        self, model: Mapping[str, Any], num_classes: int, pretrained: bool = False
    ) -> nn.Module:
        """See `models.labeler`."""
        return build_labeler(model, num_classes, pretrained)

    def step_format(
        self,
        config: RunConfig,
        num_classes: int,
        shape: tuple[int, int, int, int],
        device: torch.device,
    ) -> StepFormat:
        """Measured once per model and machine, unless the config says."""
        make = partial(build_labeler, config.template["model"], num_classes)
        return step_format(config, make, shape, None, device)

    def collate(self, batch: Batch) -> Batch:
        """The regions of the masks, numbered, and their labels."""
        return with_regions(batch, self.min_area)

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """Of the regions, as if each were a pixel, and of the places."""
        return self.compare(model, loss, self.outputs(model, loss, batch), batch)

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits of the regions (R, C) and of the places (B, C, h, w)."""
        assert isinstance(model, RegionModel)
        return list(model.logits(batch["image"], batch["regions"]))

    def compare(
        self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """The loss of a batch's `outputs`."""
        logits, places = outputs
        assert isinstance(model, RegionModel)
        mask = _at_places(batch["mask"], places.shape[-2:], model.stride)
        found: Tensor = loss(logits.T[None, :, None], batch["labels"][None, None]) + loss(
            places, mask
        )
        return found

    def part(self, batch: Batch, rows: slice) -> Batch:
        """Some of a batch's images, with the labels of their regions."""
        regions = batch["regions"][rows]
        before = int(batch["regions"][: rows.start].max()) if rows.start else 0
        last = max(before, int(regions.max()))
        labels = batch["labels"][before:last]
        return {
            "image": batch["image"][rows],
            "mask": batch["mask"][rows],
            "regions": regions,
            "labels": labels,
        }

    def pairs_of(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of the regions; and whether all logits are finite."""
        logits = model(batch["image"], batch["regions"])
        return logits.argmax(1), batch["labels"], torch.isfinite(logits.sum())

    def finished(
        self, model: nn.Module, classes: ClassTable, image_size: Sequence[int], device: torch.device
    ) -> RegionLabeler:
        """A labeler."""
        assert isinstance(model, RegionModel)
        return RegionLabeler(model, self.concept, classes, image_size, self.min_area, {}, device)

    def offset_classes(self, model: Any, source: Source, train: Decoded) -> list[float] | None:
        """None: a labeler has none."""
        return None

    def evaluate(self, model: Any, split: Decoded, **facts: Any) -> Evidence:
        """Region by region."""
        return evaluate_regions(model, split, **facts)

    def overlays(
        self, model: Any, split: Decoded, indices: Sequence[int]
    ) -> dict[str, NDArray[np.uint8]]:
        """Image, true finer labels, predicted ones, error."""
        return overlays_of_regions(model, split, indices)
