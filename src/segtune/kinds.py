"""The kinds of model that are fine-tuned, swept, compared and registered alike, and what is particular to each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.cache import Decoded, evenly, load_split, stored_masks
from segtune.data.datamodule import Batch
from segtune.data.files import cache_dir
from segtune.data.finer import finer_classes, load_finer, with_regions
from segtune.data.layout import Source
from segtune.inference.decisions import class_ids
from segtune.inference.evaluate import evaluate, overlays
from segtune.inference.evaluate_regions import evaluate_regions, overlays_of_regions
from segtune.inference.labeler import RegionLabeler
from segtune.inference.segmenter import Segmenter
from segtune.measure.evidence import Evidence
from segtune.models.build import SegmentationModel, build
from segtune.models.labeler import RegionModel, build_labeler
from segtune.models.losses import SegmentationLoss
from segtune.models.offsets import IMAGES, offset_classes
from segtune.models.probe import StepFormat, fastest_format
from segtune.settings import RunConfig


class Segmenters:
    """Models that give every pixel a class."""

    unit = "pixel"

    def classes(self, source: Source) -> ClassTable:
        """The dataset's."""
        return source.classes

    def load(
        self, source: Source, split: str, image_size: Sequence[int], stored_masks: bool = False, **where: Any
    ) -> Decoded:
        """The masks as they are; `where` goes to `load_split`: cache, say."""
        return load_split(source, split, image_size, stored_masks, **where)

    def build(self, model: Mapping[str, Any], num_classes: int, pretrained: bool = False) -> nn.Module:
        """See `models.build`."""
        return build(model, num_classes, pretrained)

    def step_format(
        self, config: RunConfig, num_classes: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> StepFormat:
        """Measured once per model and machine, unless the config says."""
        make = partial(build, config.template["model"], num_classes)
        return _step_format(config, make, shape, config.loss.stride, device)

    def collate(self, batch: Batch) -> Batch:
        """Nothing more."""
        return batch

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """Of the pixels, at the loss's stride."""
        return self.part_loss(model, loss, batch, batch, loss.draw_shift())

    def part_loss(
        self, model: nn.Module, loss: SegmentationLoss, part: Batch, whole: Batch, shift: tuple[int, int]
    ) -> Tensor:
        """What a part of a batch adds to the batch's loss, where that is additive.

        Args:
            shift: the loss's, drawn once for the batch.
        """
        if loss.of_masks is None:
            (logits,) = self.outputs(model, loss, part)
            mask = _strided(part["mask"], loss, shift)
            norm = None if whole is part else _strided(whole["mask"], loss, shift)
            found: Tensor = loss(logits[..., : mask.shape[1], : mask.shape[2]], mask, norm)
            return found
        assert isinstance(model, SegmentationModel)
        predictions, (height, width) = model.predictions(part["image"])
        below, right = height - part["mask"].shape[1], width - part["mask"].shape[2]
        mask = F.pad(part["mask"], (0, right, 0, below), value=IGNORE_INDEX)
        of_masks: Tensor = loss.of_masks(predictions, mask, None if whole is part else whole["mask"])
        return loss.config.terms["masks"] * of_masks

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits (B, C, h, w) at the loss's stride, as a list of one."""
        if "features" in batch:
            return [_decoded(model, batch, loss.config.stride)]
        return [model(batch["image"], stride=loss.config.stride)]

    def compare(self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch) -> Tensor:
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
        chosen = evenly(len(train), IMAGES)
        masks = stored_masks(source, "train", [train.names[i] for i in chosen])
        offsets = offset_classes(model.model, [train.images[i] for i in chosen], masks)
        return None if offsets is None else offsets.tolist()

    def evaluate(self, model: Any, split: Decoded, **facts: Any) -> Evidence:
        """Pixel by pixel."""
        return evaluate(model, split, **facts)

    def overlays(self, model: Any, split: Decoded, indices: Sequence[int]) -> dict[str, NDArray[np.uint8]]:
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


def _at_places(mask: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """A mask (B, H, W) at places (h, w), each `stride` pixels wide: the last ones may reach beyond the image.

    >>> _at_places(torch.arange(5).view(1, 1, 5).expand(1, 4, 5), (1, 2), 4)
    tensor([[[  2, 255]]])
    """
    below, right = (count * stride - side for count, side in zip(size, mask.shape[1:], strict=True))
    whole = F.pad(mask, (0, right, 0, below), value=IGNORE_INDEX)
    return whole[:, stride // 2 :: stride, stride // 2 :: stride]


@dataclass(frozen=True)
class Labelers:
    """Models that give the regions of one class its finer labels."""

    concept: str
    min_area: int
    unit = "region"

    def classes(self, source: Source) -> ClassTable:
        """The finer labels of the class."""
        return finer_classes(source, self.concept)

    def load(
        self, source: Source, split: str, image_size: Sequence[int], stored_masks: bool = False, **where: Any
    ) -> Decoded:
        """The images that show such regions; their masks hold finer ids."""
        return load_finer(source, split, self.concept, image_size, self.min_area, stored_masks, **where)

    def build(self, model: Mapping[str, Any], num_classes: int, pretrained: bool = False) -> nn.Module:
        """See `models.labeler`."""
        return build_labeler(model, num_classes, pretrained)

    def step_format(
        self, config: RunConfig, num_classes: int, shape: tuple[int, int, int, int], device: torch.device
    ) -> StepFormat:
        """Measured once per model and machine, unless the config says."""
        make = partial(build_labeler, config.template["model"], num_classes)
        return _step_format(config, make, shape, None, device)

    def collate(self, batch: Batch) -> Batch:
        """The regions of the masks, numbered, and their labels."""
        return with_regions(batch, self.min_area)

    def loss_of(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> Tensor:
        """Of the regions, as if each were a pixel, and of the places."""
        return self.compare(model, loss, self.outputs(model, loss, batch), batch)

    def outputs(self, model: nn.Module, loss: SegmentationLoss, batch: Batch) -> list[Tensor]:
        """Logits of the regions (R, C) and of the places (B, C, h, w)."""
        assert isinstance(model, RegionModel)
        return list(model.both(batch["image"], batch["regions"]))

    def compare(self, model: nn.Module, loss: SegmentationLoss, outputs: Sequence[Tensor], batch: Batch) -> Tensor:
        """The loss of a batch's `outputs`."""
        logits, places = outputs
        assert isinstance(model, RegionModel)
        mask = _at_places(batch["mask"], places.shape[-2:], model.stride)
        found: Tensor = loss(logits.T[None, :, None], batch["labels"][None, None]) + loss(places, mask)
        return found

    def part(self, batch: Batch, rows: slice) -> Batch:
        """Some of a batch's images, with the labels of their regions."""
        regions = batch["regions"][rows]
        before = int(batch["regions"][: rows.start].max()) if rows.start else 0
        last = max(before, int(regions.max()))
        labels = batch["labels"][before:last]
        return {"image": batch["image"][rows], "mask": batch["mask"][rows], "regions": regions, "labels": labels}

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

    def overlays(self, model: Any, split: Decoded, indices: Sequence[int]) -> dict[str, NDArray[np.uint8]]:
        """Image, true finer labels, predicted ones, error."""
        return overlays_of_regions(model, split, indices)


Kind = Segmenters | Labelers


def _step_format(
    config: RunConfig,
    make: Callable[[], nn.Module],
    shape: tuple[int, int, int, int],
    stride: int | None,
    device: torch.device,
) -> StepFormat:
    trainer = config.trainer
    return fastest_format(
        make, shape, stride, device, keep=cache_dir() / "step_formats.json",
        bf16=None if trainer.precision == "auto" else trainer.precision == "bf16",
        channels_last=None if trainer.channels_last == "auto" else trainer.channels_last,
    )  # fmt: skip


def kind_of(config: RunConfig) -> Kind:
    """What a config trains."""
    return Labelers(config.labeler.concept, config.labeler.min_area) if config.labeler else Segmenters()


def kind_of_model(model: Segmenter | RegionLabeler) -> Kind:
    """What a finished model is."""
    return Labelers(model.concept, model.min_area) if isinstance(model, RegionLabeler) else Segmenters()
