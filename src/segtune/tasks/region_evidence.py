"""What a labeler does on a split, given true regions; each region counts once, whatever its size."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.finer import number_regions
from segtune.data.reading.images import resize_image
from segtune.inference.labeler import RegionLabeler
from segtune.inference.regions.overlay import four_views
from segtune.measure.calibration import Calibration
from segtune.measure.evidence import Evidence
from segtune.measure.metrics import count_pairs
from segtune.tasks.pixel_evidence import origin_of, shown_images, small

_SURE = 0.9


def evaluate_regions(
    labeler: RegionLabeler,
    split: Decoded,
    *,
    dataset: str = "",
    split_name: str = "val",
    groups: Sequence[str] | None = None,
    cost: Mapping[str, float] | None = None,
    device: str = "",
    duplicates: Sequence[str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """Compares the labels of all regions of a split: the matrices of the evidence count regions, not pixels.

    Regions of fewer pixels than the labeler's `min_area` are not counted.

    Args:
        split: see `load_finer`, with stored masks.
        groups: of each image.
        progress: is told how many images are done.
    """
    classes, number = len(labeler.classes), len(split)
    matrices = np.zeros((number, classes, classes), np.int64)
    disputed, masks = np.zeros(number), {}
    calibration = Calibration.count(
        np.zeros(0, np.float32), np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    )
    shown = set(shown_images(number))
    for index in range(number):
        predicted, sure, truth, painted = _labelled(labeler, split, index)
        matrices[index] = count_pairs(
            torch.from_numpy(predicted), torch.from_numpy(truth), classes
        ).numpy()
        calibration += Calibration.count(sure, predicted, truth)
        disputed[index] = np.mean((predicted != truth) & (sure >= _SURE)) if len(truth) else 0.0
        if index in shown:
            masks[split.names[index]] = small(painted)
        progress(index + 1)
    origin = origin_of(
        labeler.classes, split, dataset, split_name, cost, device, duplicates, unit="region"
    )
    found = None if groups is None else tuple(groups)
    sizes = np.array(shapes_of(split.masks), np.int64)
    outlines = np.zeros((number, 2, classes), np.int64)
    return Evidence(
        origin, split.names, found, sizes, matrices, outlines, calibration, disputed, masks
    )


def overlays_of_regions(
    labeler: RegionLabeler, split: Decoded, indices: Sequence[int]
) -> dict[str, NDArray[np.uint8]]:
    """Image, true finer labels, predicted ones and error of chosen images, by name."""
    views = {}
    for index in indices:
        painted, truth = _labelled(labeler, split, index)[3], split.masks[index]
        views[split.names[index]] = four_views(
            resize_image(split.images[index], *truth.shape), truth, painted, labeler.classes
        )
    return views


def _labelled(
    labeler: RegionLabeler, split: Decoded, index: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Predicted labels, their probabilities and the true ones, each (R,), and the predicted ones painted (H, W)."""
    truth = number_regions(split.masks[index], labeler.min_area)
    chances = labeler.chances(labeler.encode(split.images[index]), truth.numbers)
    predicted = chances.argmax(1).astype(np.uint8)
    painted = np.append(np.uint8(IGNORE_INDEX), predicted)[truth.numbers]
    return predicted, chances.max(1), truth.labels, painted
