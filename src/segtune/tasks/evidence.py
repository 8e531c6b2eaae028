"""Evidence of a split: one loop for every task, over predictions beside their truth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.data.batches.decoded import Decoded, shapes_of, spread_evenly
from segtune.data.reading.images import resize_image, resize_mask
from segtune.inference.regions.overlay import four_views
from segtune.measure.boundary import boundary_counts
from segtune.measure.calibration import Calibration
from segtune.measure.evidence import Evidence, Origin
from segtune.measure.metrics import count_pairs

_SURE = 0.9  # the lowest confidence of a prediction that may point to a wrong label
_SHOWN = 400  # images of a split that reports can show
_SMALL = 320  # pixels of their longer side


@dataclass(frozen=True)
class SplitFacts:
    """What evidence records beside the predictions.

    Attributes:
        groups: group of each image, such as its video.
        cost: figures of `models.cost`.
        device: name of the device on which the latency was measured.
        duplicates: images whose bytes are in the train split, too; None if nobody has compared.
    """

    dataset: str = ""
    split: str = "val"
    groups: Sequence[str] | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    duplicates: Sequence[str] | None = None


@dataclass(frozen=True)
class Comparison:
    """The predictions for one image beside their truth.

    Attributes:
        index: place of the image in the split.
        predicted: uint8 ids of the pixels (H, W), or of the regions (R,).
        confidence: float32 in [0, 1], of the same shape.
        truth: uint8 ids of the same shape; 255 is ignored.
        painted: (H, W) uint8, the predicted ids as a mask.
    """

    index: int
    predicted: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    truth: NDArray[np.uint8]
    painted: NDArray[np.uint8]


def collect_evidence(
    comparisons: Iterable[Comparison],
    split: Decoded,
    classes: ClassTable,
    facts: SplitFacts,
    unit: str,
) -> Evidence:
    """Count the predictions for all images of a split.

    Args:
        comparisons: one of each image, in any order.
        unit: what is counted, `pixel` or `region`; only pixels have boundaries.
    """
    num_classes, number = len(classes), len(split)
    matrices = np.zeros((number, num_classes, num_classes), np.int64)
    outlines = np.zeros((number, 2, num_classes), np.int64)
    disputed = np.zeros(number)
    masks: dict[str, NDArray[np.uint8]] = {}
    disputes: dict[str, NDArray[np.uint8]] = {}
    no_ids = np.zeros(0, np.uint8)
    calibration = Calibration.count(np.zeros(0, np.float32), no_ids, no_ids)
    shown = set(shown_images(number))
    for comparison in comparisons:
        index, predicted, truth = comparison.index, comparison.predicted, comparison.truth
        counts = count_pairs(torch.from_numpy(predicted), torch.from_numpy(truth), num_classes)
        matrices[index] = counts.numpy()
        if unit == "pixel":
            outlines[index] = boundary_counts(predicted, truth, num_classes)
        calibration += Calibration.count(comparison.confidence, predicted, truth)
        counted = int(matrices[index].sum())
        is_sure_error = (predicted != truth) & (comparison.confidence >= _SURE)
        is_sure_error &= truth < num_classes
        disputed[index] = np.count_nonzero(is_sure_error) / counted if counted else 0.0
        if index in shown:
            masks[split.names[index]] = shrink(comparison.painted)
            if unit == "pixel" and is_sure_error.any():
                disputes[split.names[index]] = shrink(is_sure_error.astype(np.uint8))
    return Evidence(
        origin=_origin(classes, split, facts, unit),
        names=split.names,
        groups=None if facts.groups is None else tuple(facts.groups),
        sizes=np.array(shapes_of(split.masks), np.int64),
        matrices=matrices,
        outlines=outlines,
        calibration=calibration,
        disputed=disputed,
        masks=masks,
        disputes=disputes,
    )


def _origin(classes: ClassTable, split: Decoded, facts: SplitFacts, unit: str) -> Origin:
    """The facts of a measurement: data, machine, time; saving the segmenter adds its hash."""
    return Origin(
        dataset=facts.dataset,
        split=facts.split,
        fingerprint=split.fingerprint,
        classes=tuple(classes.names),
        segmenter="",
        cost=dict(facts.cost),
        device=facts.device,
        duplicates=None if facts.duplicates is None else tuple(facts.duplicates),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        unit=unit,
    )


def draw_overlays(
    comparisons: Iterable[Comparison], split: Decoded, classes: ClassTable
) -> dict[str, NDArray[np.uint8]]:
    """Draw image, truth, prediction and error of some images, by name, at the size of the truth."""
    overlays = {}
    for comparison in comparisons:
        truth = split.masks[comparison.index]
        image = resize_image(split.images[comparison.index], *truth.shape)
        overlays[split.names[comparison.index]] = four_views(
            image, truth, comparison.painted, classes
        )
    return overlays


def shown_images(number: int) -> list[int]:
    """Indices of the images that reports can show: all, or 400 evenly chosen."""
    return spread_evenly(number, _SHOWN)


def shrink(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a mask (H, W) or an image (H, W, 3) to at most 320 pixels at its longer side."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _SMALL / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return resize_mask(pixels, *size) if pixels.ndim == 2 else resize_image(pixels, *size)
