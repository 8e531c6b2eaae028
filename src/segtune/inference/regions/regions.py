"""Regions: the labelled areas of a mask, as data that other programs read.

One schema, version 2, in `regions.schema.json`. A concept is what the segmenter saw; finer concepts are what labelers
added, the most confident first.
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

SCHEMA_VERSION = 2
SCHEMA = Path(__file__).with_name("regions.schema.json")
_COUNTED = 2**22  # pixels that are counted at a time


@dataclass(frozen=True)
class Concept:
    """What a region shows: an id in its class table, a name, and how sure the labeler is, in [0, 1]."""

    id: int
    name: str
    confidence: float


@dataclass(frozen=True)
class Region:
    """One labelled area.

    Attributes:
        id: its place among the regions of its image or frame.
        concept_id: the class id.
        area_share: pixels of the region over pixels of the image, in (0, 1].
        mean_confidence: mean over the region of the softmax probability of its class, in [0, 1].
        box: x, y, width, height in pixels, the smallest that holds the region.
        rle: COCO's compressed run lengths, {"size": [H, W], "counts": str}.
        finer: finer concepts, the most confident first; empty where no labeler looked.
        track: the same number in every frame of a video that shows the region; None for images.
        outline: gives its polygons where those of the whole mask are found together; None finds them from `rle`.
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
        """The region's pixels, (H, W)."""
        return np.asarray(coco_mask.decode(dict(self.rle)), bool)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return int(self.rle["size"][0]), int(self.rle["size"][1])

    @cached_property
    def polygons(self) -> list[Polygon]:
        """Its outline with holes, within a pixel of the mask's; `to_polygons(region.mask())` gives the exact one."""
        return self.outline() if self.outline else to_polygons(self.mask(), TOLERANCE)

    @property
    def label(self) -> str:
        """The finest name that is known."""
        return self.finer[0].name if self.finer else self.concept

    def to_json(self, polygons: bool = True) -> dict[str, Any]:
        """Plain data, as `regions.schema.json` describes it."""
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
        """The region that `to_json` described."""
        finer = tuple(Concept(c["id"], c["name"], c["confidence"]) for c in row.get("finer", ()))
        x, y, width, height = row["box"]
        concept = row["concept"]
        return cls(
            row["id"], concept["id"], concept["name"], row["area_share"], row["mean_confidence"],
            (x, y, width, height), row["rle"], finer, row.get("track"),
        )  # fmt: skip


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
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: allowed are 'concept' and 'components'.")
    numbers, found = _number(mask, split, min_area)
    if not found:
        return []
    order = sorted(range(len(found)), key=lambda n: (-found[n][1], found[n][0]))
    place = np.zeros(len(found) + 1, np.uint8 if len(found) < 256 else np.int32)
    place[np.array(order) + 1] = np.arange(1, len(found) + 1)
    numbers = np.stack(
        [place[row] for row in numbers]
    )  # not at once: NumPy makes 8 bytes of each index
    sure = _sums(numbers, confidence, len(found) + 1)[1:]
    columns = np.asfortranarray(numbers)  # as run lengths go
    outlines = _Outlines(numbers)
    regions = []
    for number, (concept, pixels) in enumerate(found[n] for n in order):
        area = (columns == number + 1).view(np.uint8)
        region = _describe(number, concept, area, pixels, float(sure[number]), classes)
        regions.append(replace(region, outline=partial(outlines.of, number)))
    return regions


def _sums(numbers: NDArray[Any], values: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Of the values (H, W) at each number, a few rows at a time: NumPy makes 16 bytes of each pixel to count it."""
    total = np.zeros(length)
    rows = max(1, _COUNTED // numbers.shape[1])
    for start in range(0, len(numbers), rows):
        some = slice(start, start + rows)
        total += np.bincount(numbers[some].ravel(), values[some].ravel(), length)
    return total


def _number(
    mask: NDArray[np.uint8], split: str, min_area: int
) -> tuple[NDArray[np.int32], list[tuple[int, int]]]:
    """Numbers (H, W) of the areas from 1, 0 where there is none, and of each the concept and how many pixels it has."""
    counts = np.zeros(256, np.int64)
    for rows in mask:
        counts += np.bincount(rows, minlength=256)
    concepts = [int(c) for c in np.flatnonzero(counts) if c != IGNORE_INDEX]
    if split == "concept":
        lookup = np.zeros(256, np.int32)
        lookup[concepts] = np.arange(1, len(concepts) + 1)
        return lookup[mask], [(c, int(counts[c])) for c in concepts]
    numbers, found = np.zeros(mask.shape, np.int32), list[tuple[int, int]]()
    for concept in concepts:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            (mask == concept).astype(np.uint8), connectivity=8
        )
        large = [n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= min_area]
        lookup = np.zeros(count, np.int32)
        lookup[large] = len(found) + np.arange(1, len(large) + 1)
        numbers += lookup[labels]  # areas share no pixel
        found += [(concept, int(stats[n, cv2.CC_STAT_AREA])) for n in large]
    return numbers, found


class _Outlines:
    """The polygons of all regions of a mask, found in one pass when the first is asked for."""

    def __init__(self, numbers: NDArray[Any]) -> None:
        self._numbers = numbers

    @cached_property
    def _found(self) -> dict[int, list[Polygon]]:
        return polygons_of(self._numbers, TOLERANCE)

    def of(self, number: int) -> list[Polygon]:
        """Of the region that was number `number`, from 0."""
        return self._found[number + 1]


def describe_area(
    number: int,
    concept: int,
    area: NDArray[np.bool_],
    confidence: NDArray[np.float32],
    classes: ClassTable,
) -> Region:
    """An area (H, W) as a region.

    Args:
        confidence: (H, W) in [0, 1].
    """
    sure = float(confidence[area].sum(dtype=np.float64))
    return _describe(number, concept, area.astype(np.uint8), int(area.sum()), sure, classes)


def paint(regions: Iterable[Region], height: int, width: int) -> NDArray[np.uint8]:
    """The mask (H, W) that regions were found in: class ids, 255 where there is none; smaller ones lie on top."""
    mask = np.full((height, width), IGNORE_INDEX, np.uint8)
    for region in sorted(regions, key=lambda r: -r.area_share):
        mask[region.mask()] = region.concept_id
    return mask


def renumbered(regions: Iterable[Region]) -> list[Region]:
    """The regions with ids that are their places again, after some were taken out."""
    return [replace(r, id=n) for n, r in enumerate(regions)]


def read_document(path: Path) -> dict[str, Any]:
    """A `regions.json`, whose rows `Region.from_json` takes.

    Raises:
        DataError: unreadable, or of another schema version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is no regions file that can be read: {error}.") from None
    check_version(found, str(path))
    return dict(found)


def check_version(found: Any, name: str) -> None:
    """Refuses regions of a schema that this segtune does not know.

    Raises:
        DataError: naming the version found and the one that is read.
    """
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"'{name}' has schema version {version!r}; this segtune reads {SCHEMA_VERSION}. "
            "Read it with the segtune that wrote it, or predict again."
        )


def _describe(
    number: int,
    concept: int,
    area: NDArray[np.uint8],
    pixels: int,
    sure: float,
    classes: ClassTable,
) -> Region:
    """An area (H, W) of so many pixels as a region; `sure` is the sum of their confidences."""
    rle = coco_mask.encode(np.asfortranarray(area))
    x, y, width, height = (int(v) for v in coco_mask.toBbox(rle))
    return Region(
        id=number,
        concept_id=concept,
        concept=classes.names[concept],
        area_share=pixels / area.size,
        mean_confidence=sure / pixels,
        box=(x, y, width, height),
        rle={"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")},
    )
