"""Region labeling as a task: data, loss, predictions and evidence, region by region."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from segtune.tasks.evidence import SplitFacts, collect_evidence, draw_overlays
from segtune.tasks.region_evidence import compare_regions


def _at_cells(mask: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Sample a mask (B, H, W) at the centres of a grid (h, w) of cells, `stride` pixels wide.

    The last cells may reach beyond the image.

    >>> _at_cells(torch.arange(5).view(1, 1, 5).expand(1, 4, 5), (1, 2), 4)
    tensor([[[  2, 255]]])
    """
    below, right = (count * stride - side for count, side in zip(size, mask.shape[1:], strict=True))
    padded = F.pad(mask, (0, right, 0, below), value=IGNORE_INDEX)
    return padded[:, stride // 2 :: stride, stride // 2 :: stride]


@dataclass(frozen=True)
class RegionLabeling:
    """Region labeling: the model gives each region of one class a finer label.

    Attributes:
        concept: name of the class.
        min_area: smallest region, in pixels.
    """

    concept: str
    min_area: int
    unit = "region"
    build = staticmethod(build_labeler)

    def classes(self, source: Source) -> ClassTable:
        """The finer labels of the class."""
        return finer_classes(source, self.concept)

    def load(
        self,
        source: Source,
        split: str,
        image_size: Sequence[int],
        stored_masks: bool = False,
        **options: Any,
    ) -> Decoded:
        """Load the images of a split that show such regions; their masks hold finer ids.

        Args:
            options: keyword arguments of `load_split`.
        """
        return load_finer(
            source, split, self.concept, image_size, self.min_area, stored_masks, **options
        )

    def loss_stride(self, config: RunConfig) -> int | None:
        """None: the outputs, one for each region and cell, have no stride."""
        return None

    def collate(self, batch: Batch) -> Batch:
        """Add the numbered regions of the masks, and their labels."""
        return with_regions(batch, self.min_area)

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """The loss of a batch: of its regions, as if each were a pixel, and of the grid cells."""
        return self.loss_of_outputs(model, loss, self.outputs(model, loss, batch), batch)

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits of the regions (R, C) and of the grid cells (B, C, h, w)."""
        assert isinstance(model, RegionModel)
        return list(model.logits(batch["image"], batch["regions"]))

    def loss_of_outputs(
        self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch
    ) -> Tensor:
        """The loss of a batch's `outputs`."""
        region_logits, cell_logits = outputs
        assert isinstance(model, RegionModel)
        mask = _at_cells(batch["mask"], cell_logits.shape[-2:], model.stride)
        region_loss: Tensor = loss(region_logits.T[None, :, None], batch["labels"][None, None])
        cell_loss: Tensor = loss(cell_logits, mask)
        return region_loss + cell_loss

    def take_rows(self, batch: Batch, rows: slice) -> Batch:
        """Some images of a batch, with the labels of their regions."""
        regions = batch["regions"][rows]
        skipped = int(batch["regions"][: rows.start].max()) if rows.start else 0
        last = max(skipped, int(regions.max()))
        return {
            "image": batch["image"][rows],
            "mask": batch["mask"][rows],
            "regions": regions,
            "labels": batch["labels"][skipped:last],
        }

    def predict_ids(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and true ids of the regions, (R,) each, and whether all logits are finite."""
        logits = model(batch["image"], batch["regions"])
        return logits.argmax(1), batch["labels"], torch.isfinite(logits.sum())

    def inference_model(
        self, model: nn.Module, classes: ClassTable, image_size: Sequence[int], device: torch.device
    ) -> RegionLabeler:
        """The labeler of a trained model."""
        assert isinstance(model, RegionModel)
        return RegionLabeler(model, self.concept, classes, image_size, self.min_area, {}, device)

    def offset_classes(self, model: Any, source: Source, train: Decoded) -> list[float] | None:
        """None: labelers have no class offsets."""
        return None

    def evaluate(self, model: Any, split: Decoded, facts: SplitFacts | None = None) -> Evidence:
        """Compare the labels of all regions of a split; the matrices count regions, not pixels."""
        comparisons = compare_regions(model, split, range(len(split)))
        return collect_evidence(comparisons, split, model.classes, facts or SplitFacts(), self.unit)

    def overlays(
        self, model: Any, split: Decoded, indices: Sequence[int]
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw image, true finer labels, predicted ones and error of some images, by name."""
        return draw_overlays(compare_regions(model, split, indices), split, model.classes)
