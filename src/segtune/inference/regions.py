"""Regions: the labelled areas of a mask, as data that other programs read.

One schema, version 1: concept, area share, mean confidence, box and the mask as COCO run lengths.
"""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from segtune.classes import IGNORE_INDEX, ClassTable

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Region:
    """One labelled area.

    Attributes:
        concept_id: the class id.
        area_share: pixels of the region over pixels of the image, in (0, 1].
        mean_confidence: mean over the region of the softmax probability of its class, in [0, 1].
        box: x, y, width, height in pixels, the smallest that holds the region.
        rle: COCO's compressed run lengths, {"size": [H, W], "counts": str}.
    """

    id: int
    concept_id: int
    concept: str
    area_share: float
    mean_confidence: float
    box: tuple[int, int, int, int]
    rle: dict[str, Any]

    def mask(self) -> NDArray[np.bool_]:
        """The region's pixels, (H, W)."""
        return np.asarray(coco_mask.decode(self.rle), bool)

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the concept as {id, name}."""
        row = asdict(self)
        row["concept"] = {"id": row.pop("concept_id"), "name": self.concept}
        return row | {"box": list(self.box)}


def find_regions(
    mask: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    classes: ClassTable,
    split: str = "concept",
    min_area: int = 16,
) -> list[Region]:
    """The regions of a mask, largest first.

    Args:
        mask: (H, W) class ids.
        confidence: (H, W) in [0, 1].
        split: `concept` for one region per class, `components` for connected areas (8 neighbours).
        min_area: components of fewer pixels are left out.

    Raises:
        ValueError: another split.
    """
    if split not in ("concept", "components"):
        raise ValueError(f"split={split!r}: allowed are 'concept' and 'components'.")
    areas: list[tuple[int, NDArray[np.uint8]]] = []
    for concept in (int(c) for c in np.unique(mask) if c != IGNORE_INDEX):
        whole = (mask == concept).astype(np.uint8)
        if split == "concept":
            areas.append((concept, whole))
            continue
        count, labels = cv2.connectedComponents(whole, connectivity=8)
        parts = ((labels == n).astype(np.uint8) for n in range(1, count))
        areas.extend((concept, part) for part in parts if int(part.sum()) >= min_area)
    areas.sort(key=lambda a: (-int(a[1].sum()), a[0]))
    return [_describe(n, concept, area, confidence, classes) for n, (concept, area) in enumerate(areas)]


def _describe(
    number: int, concept: int, area: NDArray[np.uint8], confidence: NDArray[np.float32], classes: ClassTable
) -> Region:
    rle = coco_mask.encode(np.asfortranarray(area))
    x, y, width, height = (int(v) for v in coco_mask.toBbox(rle))
    return Region(
        id=number,
        concept_id=concept,
        concept=classes.names[concept],
        area_share=float(area.mean()),
        mean_confidence=float(confidence[area.astype(bool)].mean()),
        box=(x, y, width, height),
        rle={"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")},
    )
