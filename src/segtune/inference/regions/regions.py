"""Regions: the labelled areas of a mask, as data for other programs.

Their schema is version 2, in `regions.schema.json`. The segmenter gives a region its concept.
Labelers add finer concepts, the most confident first.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from shapely import Polygon

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.errors import DataError
from segtune.inference.choices import SPLITS
from segtune.inference.regions.polygons import TOLERANCE, polygons_of, to_polygons, to_rings
from segtune.inference.regions.runs import Rle, Runs, sums

SCHEMA_VERSION = 2
SCHEMA = Path(__file__).with_name("regions.schema.json")


@dataclass(frozen=True)
class Concept:
    """A finer label of a region: its id and name in the class table, and a confidence in [0, 1]."""

    id: int
    name: str
    confidence: float


@dataclass(frozen=True)
class Region:
    """One labelled area.

    Attributes:
        id: its position among the regions of its image or frame.
        concept_id: the class id.
        area_share: pixels of the region over pixels of the image, in (0, 1].
        mean_confidence: mean softmax probability of its class over the region, in [0, 1].
        box: x, y, width, height in pixels: the smallest box around the region.
        rle: COCO's compressed run lengths, {"size": [H, W], "counts": str}.
        finer: finer concepts, the most confident first; empty without a labeler.
        track: the same number in all frames of a video that show the region; None for images.
        outline: returns the polygons, if those of the whole mask are computed together; None
            computes them from `rle`.
    """

    id: int
    concept_id: int
    concept: str
    area_share: float
    mean_confidence: float
    box: tuple[int, int, int, int]
    rle: Mapping[str, Any]
    finer: tuple[Concept, ...] = ()
    track: int | None = None
    outline: Callable[[], list[Polygon]] | None = field(default=None, compare=False, repr=False)

    def mask(self) -> NDArray[np.bool_]:
        """Return the region's pixels, (H, W)."""
        return np.asarray(coco_mask.decode(dict(self.rle)), bool)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.rle["size"][0]), int(self.rle["size"][1])

    @cached_property
    def polygons(self) -> list[Polygon]:
        """The outline with holes, within a pixel; `to_polygons(region.mask())` is exact."""
        return self.outline() if self.outline else to_polygons(self.mask(), TOLERANCE)

    @property
    def label(self) -> str:
        """The name of the most confident finer concept, else of the concept."""
        return self.finer[0].name if self.finer else self.concept

    def to_json(self, polygons: bool = True) -> dict[str, Any]:
        """Return plain data, as `regions.schema.json` describes it."""
        row: dict[str, Any] = {
            "id": self.id,
            "concept": {"id": self.concept_id, "name": self.concept},
            "area_share": self.area_share,
            "mean_confidence": self.mean_confidence,
            "box": list(self.box),
            "rle": dict(self.rle),
        }
        if polygons:
            row["polygons"] = [to_rings(p) for p in self.polygons]
        if self.finer:
            row["finer"] = [
                {"id": c.id, "name": c.name, "confidence": c.confidence} for c in self.finer
            ]
        if self.track is not None:
            row["track"] = self.track
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Region":
        """Return the region of plain data."""
        x, y, width, height = row["box"]
        return cls(
            id=row["id"],
            concept_id=row["concept"]["id"],
            concept=row["concept"]["name"],
            area_share=row["area_share"],
            mean_confidence=row["mean_confidence"],
            box=(x, y, width, height),
            rle=row["rle"],
            finer=tuple(Concept(c["id"], c["name"], c["confidence"]) for c in row.get("finer", ())),
            track=row.get("track"),
        )


def find_regions(
    mask: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    classes: ClassTable,
    split: str = "concept",
    min_area: int = 16,
) -> list[Region]:
    """Return the regions of a mask, the largest first.

    Args:
        mask: (H, W) class ids.
        confidence: (H, W) in [0, 1].
        split: `concept` for one region per class, `components` for connected areas (8 neighbours).
        min_area: components of fewer pixels are ignored.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: allowed are 'concept' and 'components'.")
    numbers, concepts = _numbered_areas(mask, split, min_area)
    runs = Runs.of(numbers)
    pixels = runs.pixels[1:].tolist()
    if not pixels:
        return []
    order = sorted(range(len(pixels)), key=lambda n: (-pixels[n], concepts[n]))
    outlines = _Outlines(numbers)
    confidence_sums = sums(numbers, confidence, len(pixels) + 1)
    encoded = runs.encoded([index + 1 for index in order])
    regions = []
    for number, (index, rle) in enumerate(zip(order, encoded, strict=True)):
        confidence_sum = float(confidence_sums[index + 1])
        region = _region(number, concepts[index], pixels[index], rle, confidence_sum, classes)
        regions.append(replace(region, outline=partial(outlines.polygons, index)))
    return regions


def _numbered_areas(
    mask: NDArray[np.uint8], split: str, min_area: int
) -> tuple[NDArray[Any], list[int]]:
    """Number the areas of a mask from 1; return the numbers (H, W), 0 elsewhere, and concepts."""
    mask = np.ascontiguousarray(mask)
    histogram = cv2.calcHist([mask], [0], None, [256], [0, 256])
    present = [int(c) for c in np.flatnonzero(histogram) if c != IGNORE_INDEX]
    if split == "concept":
        lookup = np.zeros(256, np.uint8)
        lookup[present] = np.arange(1, len(present) + 1)
        return np.asarray(cv2.LUT(mask, lookup)), present
    numbers, concepts = np.zeros(mask.shape, np.int32), list[int]()
    for concept in present:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            (mask == concept).astype(np.uint8), connectivity=8
        )
        areas = stats[:, cv2.CC_STAT_AREA].tolist()
        large = [n for n in range(1, count) if areas[n] >= min_area]
        lookup = np.zeros(count, np.int32)
        lookup[large] = len(concepts) + np.arange(1, len(large) + 1)
        numbers += lookup[labels]  # areas share no pixel
        concepts += [concept] * len(large)
    return numbers, concepts


class _Outlines:
    """The polygons of all regions of a mask, computed together at the first request."""

    def __init__(self, numbers: NDArray[Any]) -> None:
        self._numbers = numbers

    @cached_property
    def _polygons(self) -> dict[int, list[Polygon]]:
        return polygons_of(self._numbers, TOLERANCE)

    def polygons(self, number: int) -> list[Polygon]:
        """Return those of one region, numbered from 0."""
        return self._polygons[number + 1]


def describe_area(
    number: int,
    concept: int,
    area: NDArray[np.bool_],
    confidence: NDArray[np.float32],
    classes: ClassTable,
) -> Region:
    """Return an area (H, W) as a region.

    Args:
        confidence: (H, W) in [0, 1].
    """
    confidence_sum = float(confidence[area].sum(dtype=np.float64))
    pixels = area.astype(np.uint8)
    rle = coco_mask.encode(np.asfortranarray(pixels))
    return _region(number, concept, int(pixels.sum()), rle, confidence_sum, classes)


def paint(regions: Iterable[Region], height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask (H, W) of regions: class ids, 255 elsewhere; smaller regions are on top."""
    mask = np.full((height, width), IGNORE_INDEX, np.uint8)
    for region in sorted(regions, key=lambda r: -r.area_share):
        mask[region.mask()] = region.concept_id
    return mask


def renumbered(regions: Iterable[Region]) -> list[Region]:
    """Return the regions with new ids: their positions."""
    return [replace(region, id=number) for number, region in enumerate(regions)]


def read_document(path: Path) -> dict[str, Any]:
    """Read a `regions.json`; `Region.from_json` reads its rows.

    Raises:
        DataError: unreadable, or another schema version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is no regions file that can be read: {error}.") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"'{path}' has schema version {version!r}; this segtune reads {SCHEMA_VERSION}. "
            "Read it with the segtune that wrote it, or predict again."
        )
    return dict(document)


def _region(
    number: int,
    concept: int,
    pixels: int,
    rle: Rle,
    confidence_sum: float,
    classes: ClassTable,
) -> Region:
    """Return a region of so many pixels; `rle` has its counts as bytes."""
    x, y, width, height = (int(v) for v in coco_mask.toBbox(rle))
    size = [int(s) for s in rle["size"]]
    return Region(
        id=number,
        concept_id=concept,
        concept=classes.names[concept],
        area_share=pixels / (size[0] * size[1]),
        mean_confidence=confidence_sum / pixels,
        box=(x, y, width, height),
        rle={"size": size, "counts": rle["counts"].decode("ascii")},
    )
