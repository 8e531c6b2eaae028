"""Masks as polygons with holes, along the edges of the pixels: pixel (x, y) covers [x, x + 1] by [y, y + 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes
from rasterio.transform import IDENTITY
from shapely import Polygon

Ring = list[list[float]]
TOLERANCE = 0.75
"""How far a simplified outline may leave the pixels' edges, in pixels: a diagonal's stairs are sqrt(1/2) deep."""


def to_polygons(
    mask: NDArray[np.bool_] | NDArray[np.uint8], tolerance: float = 0.0
) -> list[Polygon]:
    """The polygons that a mask (H, W) consists of, each with its holes, the largest first.

    With a tolerance of 0 their area is the number of pixels, and `to_mask` gives back every one of them.

    Args:
        tolerance: how far an outline may leave the pixels' edges, in pixels (Douglas and Peucker, 1973).

    >>> [(p.area, len(p.interiors)) for p in to_polygons(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]))]
    [(8.0, 1)]
    """
    return polygons_of(np.asarray(mask, bool).astype(np.uint8), tolerance).get(1, [])


def polygons_of(
    numbers: NDArray[np.uint8] | NDArray[np.int32], tolerance: float = 0.0
) -> dict[int, list[Polygon]]:
    """The same for all areas of one number each in one pass over (H, W): number -> polygons; 0 is no area."""
    drawn = [
        (_polygon(s["coordinates"]), int(value))
        for s, value in shapes(numbers, mask=numbers > 0, connectivity=4)
    ]
    polygons = (
        shapely.simplify([p for p, _ in drawn], tolerance) if tolerance else [p for p, _ in drawn]
    )
    found: dict[int, list[Polygon]] = {}
    for polygon, (_, value) in zip(polygons, drawn, strict=True):
        found.setdefault(value, []).append(polygon)
    return {value: sorted(some, key=lambda p: -p.area) for value, some in found.items()}


def _polygon(rings: Any) -> Polygon:
    """Of rings as GeoJSON has them, through arrays: point by point costs four times as much."""
    exterior, *holes = (shapely.linearrings(np.array(ring)) for ring in rings)
    return shapely.polygons(exterior, holes=holes or None)


def to_mask(polygons: Sequence[Polygon], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) whose centres lie in one of the polygons."""
    if not polygons:
        return np.zeros((height, width), bool)
    drawn = rasterize(polygons, (height, width), transform=IDENTITY, dtype="uint8")
    return np.asarray(drawn, bool)


def to_rings(polygon: Polygon) -> dict[str, Any]:
    """A polygon as data: its exterior and its holes, closed rings of [x, y] in pixels."""
    return {"exterior": _ring(polygon.exterior), "holes": [_ring(r) for r in polygon.interiors]}


def from_rings(data: dict[str, Any]) -> Polygon:
    """The polygon that `to_rings` described."""
    return Polygon(data["exterior"], data["holes"])


def one_path(polygon: Polygon) -> Ring:
    """A polygon as one ring, for formats that know no holes: each hole is reached over a seam of no width.

    Drawn with the even-odd or the non-zero rule it covers the same pixels.
    """
    path = _ring(polygon.exterior)
    for interior in polygon.interiors:
        hole = np.array(_ring(interior))
        distance = np.linalg.norm(hole[:, None] - np.array(path)[None], axis=2)
        start, joint = np.unravel_index(int(distance.argmin()), distance.shape)
        loop = np.concatenate([hole[start:-1], hole[: start + 1]]).tolist()
        path = [*path[: joint + 1], *loop, *path[joint:]]
    return path


def _ring(ring: Any) -> Ring:
    coordinates: Ring = shapely.get_coordinates(ring).tolist()
    return coordinates
