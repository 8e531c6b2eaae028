"""Regions of one class with their finer labels: the data of a labeler."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.batches.cache import load_split
from segtune.data.batches.decoded import Decoded
from segtune.data.reading.images import read_mask, resize_mask
from segtune.data.source.layout import Source
from segtune.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class NumberedRegions:
    """The regions of one mask.

    Attributes:
        numbers: (H, W) int32, 1..R, 0 outside of all regions.
        labels: (R,) uint8, the finer id of each region.
    """

    numbers: NDArray[np.int32]
    labels: NDArray[np.uint8]


def finer_classes(source: Source, concept: str) -> ClassTable:
    """The finer labels of a class, as a class table.

    Raises:
        ConfigError: no class of this name, or one without finer labels.
    """
    concepts = [c.name for c in source.classes.classes if c.finer]
    for info in source.classes.classes:
        if info.name == concept and info.finer:
            return ClassTable.parse(info.finer)
    choices = "no class has finer labels"
    if concepts:
        choices = f"those of '{source.name}' with finer labels: {', '.join(concepts)}"
    raise ConfigError(f"labeler.concept={concept}: {nearest(concept, concepts)} ({choices}).")


def number_regions(mask: NDArray[np.uint8], min_area: int) -> NumberedRegions:
    """Number the connected areas (8 neighbours) of one finer label and at least `min_area` pixels.

    Args:
        mask: (H, W) finer ids, 255 for none.
    """
    numbers, labels = np.zeros(mask.shape, np.int32), []
    for label in np.unique(mask[mask != IGNORE_INDEX]):
        _, areas, stats, _ = cv2.connectedComponentsWithStats(
            (mask == label).astype(np.uint8), connectivity=8
        )
        for area in range(1, len(stats)):
            if stats[area, cv2.CC_STAT_AREA] >= min_area:
                labels.append(label)
                left, top, width, height = stats[area, :4]
                box = slice(top, top + height), slice(left, left + width)
                numbers[box][areas[box] == area] = len(labels)
    return NumberedRegions(numbers, np.array(labels, np.uint8))


def with_regions(batch: dict[str, torch.Tensor], min_area: int) -> dict[str, torch.Tensor]:
    """Add regions to a batch with finer ids as masks.

    Returns:
        the batch with `regions` (B, H, W) int32, numbered 1..R over the whole batch, and `labels`
        (R,) uint8.
    """
    regions = [number_regions(mask, min_area) for mask in batch["mask"].numpy()]
    first, numbers = 0, []
    for image in regions:
        numbers.append(np.where(image.numbers > 0, image.numbers + first, 0).astype(np.int32))
        first += len(image.labels)
    labels = np.concatenate([image.labels for image in regions])
    return batch | {
        "regions": torch.from_numpy(np.stack(numbers)),
        "labels": torch.from_numpy(labels),
    }


def load_finer(
    source: Source,
    split: str,
    concept: str,
    image_size: Sequence[int],
    min_area: int,
    stored_masks: bool = False,
    **options: Any,
) -> Decoded:
    """Load the images of a split that show regions of a class, with their finer ids as masks.

    The masks hold 255 outside of the class.

    Args:
        stored_masks: keep masks at their stored size.
        options: of `load_split`: `cache`, `say`.

    Raises:
        ConfigError: a class without finer labels.
        DataError: no finer masks, unknown ids in them, or no region in the whole split.
    """
    classes, class_id = finer_classes(source, concept), source.classes.names.index(concept)
    decoded = load_split(source, split, image_size, stored_masks=True, **options)
    digest = hashlib.sha256(f"{decoded.fingerprint} {concept}".encode())
    names, images, masks = [], [], []
    for name, image, mask in zip(decoded.names, decoded.images, decoded.masks, strict=True):
        path = source.finer_file(split, name)
        stored = read_mask(path)
        if stored.shape != mask.shape:
            raise DataError(
                f"finer mask '{path}' has the shape {stored.shape}, its mask {mask.shape}; both "
                "must agree."
            )
        finer = np.where(mask == class_id, stored, IGNORE_INDEX).astype(np.uint8)
        unknown = sorted(set(np.unique(finer).tolist()) - {*range(len(classes)), IGNORE_INDEX})
        if unknown:
            raise DataError(
                f"finer mask '{path}' holds {unknown} at pixels of '{concept}', whose finer labels "
                f"are 0..{len(classes) - 1} ({', '.join(classes.names)}) and 255 for none."
            )
        digest.update(finer.tobytes())
        if not stored_masks:
            finer = resize_mask(finer, *image.shape[:2])
        if len(number_regions(finer, min_area).labels):
            names.append(name)
            images.append(image)
            masks.append(finer)
    if not names:
        raise DataError(
            f"dataset '{source.name}': no image of split '{split}' shows a region of '{concept}' "
            f"with a finer label and at least {min_area} pixels (labeler.min_area)."
        )
    return Decoded(tuple(names), tuple(images), tuple(masks), digest.hexdigest())
