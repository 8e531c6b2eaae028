"""Regions of one class with their finer labels: what a labeler learns from, and is measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.batches.cache import Decoded, load_split
from segtune.data.reading.images import read_mask, resize_mask
from segtune.data.source.layout import Source
from segtune.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class Numbered:
    """The regions of one mask.

    Attributes:
        numbers: (H, W) int32, 1..R, 0 where there is none.
        labels: (R,) uint8, the finer id of each.
    """

    numbers: NDArray[np.int32]
    labels: NDArray[np.uint8]


def finer_classes(source: Source, concept: str) -> ClassTable:
    """The finer labels of a class as a class table.

    Raises:
        ConfigError: no such class, or one without finer labels.
    """
    known = [c.name for c in source.classes.classes if c.finer]
    for info in source.classes.classes:
        if info.name == concept and info.finer:
            return ClassTable.parse(info.finer)
    has = (
        f"those of '{source.name}' with finer labels: {', '.join(known)}"
        if known
        else "no class has finer labels"
    )
    raise ConfigError(f"labeler.concept={concept}: {nearest(concept, known)} ({has}).")


def number_regions(mask: NDArray[np.uint8], min_area: int) -> Numbered:
    """Connected areas (8 neighbours) of one finer label, of at least `min_area` pixels.

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
                part = slice(top, top + height), slice(left, left + width)
                numbers[part][areas[part] == area] = len(labels)
    return Numbered(numbers, np.array(labels, np.uint8))


def with_regions(batch: dict[str, torch.Tensor], min_area: int) -> dict[str, torch.Tensor]:
    """The batch with `regions` (B, H, W) int32, numbered 1..R over the whole batch, and `labels` (R,) uint8."""
    found = [number_regions(mask, min_area) for mask in batch["mask"].numpy()]
    before, numbers = 0, []
    for one in found:
        numbers.append(np.where(one.numbers > 0, one.numbers + before, 0).astype(np.int32))
        before += len(one.labels)
    labels = np.concatenate([one.labels for one in found])
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
    **where: Any,
) -> Decoded:
    """The images of a split that show regions of a class, with its finer ids as masks and 255 around them.

    Args:
        where: for `load_split`: cache, say.

    Raises:
        ConfigError: a class without finer labels.
        DataError: no finer masks, unknown ids in them, or no region in the whole split.
    """
    classes = finer_classes(source, concept)
    whole = load_split(source, split, image_size, stored_masks=True, **where)
    wanted, total = (
        source.classes.names.index(concept),
        hashlib.sha256(f"{whole.fingerprint} {concept}".encode()),
    )
    names, images, masks = [], [], []
    for name, image, mask in zip(whole.names, whole.images, whole.masks, strict=True):
        path = source.finer_file(split, name)
        finer = read_mask(path)
        if finer.shape != mask.shape:
            raise DataError(
                f"finer mask '{path}' has the shape {finer.shape}, its mask {mask.shape}; both must agree."
            )
        finer = np.where(mask == wanted, finer, IGNORE_INDEX).astype(np.uint8)
        unknown = sorted(set(np.unique(finer).tolist()) - {*range(len(classes)), IGNORE_INDEX})
        if unknown:
            raise DataError(
                f"finer mask '{path}' holds {unknown} at pixels of '{concept}', whose finer labels are "
                f"0..{len(classes) - 1} ({', '.join(classes.names)}) and 255 for none."
            )
        total.update(finer.tobytes())
        shown = finer if stored_masks else resize_mask(finer, *image.shape[:2])
        if len(number_regions(shown, min_area).labels):
            names.append(name)
            images.append(image)
            masks.append(shown)
    if not names:
        raise DataError(
            f"dataset '{source.name}': no image of split '{split}' shows a region of '{concept}' with a finer label "
            f"and at least {min_area} pixels (labeler.min_area)."
        )
    return Decoded(tuple(names), tuple(images), tuple(masks), total.hexdigest())
