"""What a segmenter does on a split: the same code and the same model that inference uses."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.data.batches.decoded import Decoded, batches_of_one_size, shapes_of, spread_evenly
from segtune.data.reading.images import resize_image, resize_mask
from segtune.inference.regions.overlay import four_views
from segtune.inference.segmenter import Segmenter
from segtune.measure.boundary import boundary_counts
from segtune.measure.calibration import Calibration
from segtune.measure.evidence import Evidence, Origin
from segtune.measure.metrics import count_pairs

_SURE = 0.9
_SHOWN = 400  # images of a split that reports can show
_SMALL = 320  # pixels of their longer side there


def evaluate(
    segmenter: Segmenter,
    split: Decoded,
    *,
    dataset: str = "",
    split_name: str = "val",
    groups: Sequence[str] | None = None,
    cost: Mapping[str, float] | None = None,
    device: str = "",
    duplicates: Sequence[str] | None = None,
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda _: None,
) -> Evidence:
    """Compares all images of a split, each at the size of its stored mask.

    Args:
        split: decoded at the segmenter's image size, with stored masks.
        groups: of each image.
        progress: is told how many images are done.
    """
    classes, number = len(segmenter.classes), len(split)
    matrices = np.zeros((number, classes, classes), np.int64)
    outlines = np.zeros((number, 2, classes), np.int64)
    disputed, masks, done = np.zeros(number), {}, 0
    calibrations: list[Calibration] = []
    shown = set(shown_images(number))
    for batch in batches_of_one_size(split, batch_size):
        predicted, confidence = _predict(segmenter, split, batch)
        for index, ids, sure in zip(batch, predicted, confidence, strict=True):
            truth = split.masks[index]
            matrices[index] = count_pairs(
                torch.from_numpy(ids), torch.from_numpy(truth), classes
            ).numpy()
            outlines[index] = boundary_counts(ids, truth, classes)
            calibrations.append(Calibration.count(sure, ids, truth))
            counted = int(matrices[index].sum())
            wrong = np.count_nonzero((ids != truth) & (truth < classes) & (sure >= _SURE))
            disputed[index] = wrong / counted if counted else 0.0
            if index in shown:
                masks[split.names[index]] = small(ids)
        done += len(batch)
        progress(done)
    origin = origin_of(segmenter.classes, split, dataset, split_name, cost, device, duplicates)
    found = None if groups is None else tuple(groups)
    sizes = np.array(shapes_of(split.masks), np.int64)
    total = sum(calibrations[1:], start=calibrations[0])
    return Evidence(origin, split.names, found, sizes, matrices, outlines, total, disputed, masks)


def shown_images(number: int) -> list[int]:
    """Indices of the images that reports can show: all, or 400 evenly chosen."""
    return spread_evenly(number, _SHOWN)


def small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask (H, W) or an image (H, W, 3), shrunk to 320 pixels at its longer side; masks keep their ids."""
    height, width = pixels.shape[:2]
    scale = min(1.0, _SMALL / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return resize_mask(pixels, *size) if pixels.ndim == 2 else resize_image(pixels, *size)


def origin_of(
    classes: ClassTable,
    split: Decoded,
    dataset: str,
    split_name: str,
    cost: Mapping[str, float] | None,
    device: str,
    duplicates: Sequence[str] | None,
    unit: str = "pixel",
) -> Origin:
    """What was measured on what, now; of which segmenter is noted once it is saved."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Origin(
        dataset, split_name, split.fingerprint, tuple(classes.names), "", dict(cost or {}), device,
        None if duplicates is None else tuple(duplicates), now, unit,
    )  # fmt: skip


def overlays(
    segmenter: Segmenter, split: Decoded, indices: Sequence[int]
) -> dict[str, NDArray[np.uint8]]:
    """Image, truth, prediction and error of chosen images, by name; images whose mask has another size are resized."""
    views = {}
    for index in indices:
        prediction = _predict(segmenter, split, [index])[0][0]
        truth = split.masks[index]
        image = resize_image(split.images[index], *truth.shape)
        views[split.names[index]] = four_views(image, truth, prediction, segmenter.classes)
    return views


def _predict(
    segmenter: Segmenter, split: Decoded, batch: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Ids and confidences, (B, H, W)."""
    images = torch.from_numpy(np.stack([split.images[i] for i in batch])).permute(0, 3, 1, 2)
    found = segmenter.decide(images, shapes_of(split.masks)[batch[0]])
    return np.stack([ids for ids, _ in found]), np.stack([sure for _, sure in found])
