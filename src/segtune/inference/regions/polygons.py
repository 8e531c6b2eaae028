"""Masks as polygons with holes, along the edges of pixels.

Pixel (x, y) covers [x, x + 1] by [y, y + 1].
"""

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
"""Pixels by which a simplified outline may leave the edges; diagonal steps are sqrt(1/2) deep."""


def to_polygons(
    mask: NDArray[np.bool_] | NDArray[np.uint8], tolerance: float = 0.0
) -> list[Polygon]:
    """Return the polygons of a mask (H, W), each with its holes, the largest first.

    With a tolerance of 0 their area is the number of pixels, and `to_mask` restores every pixel.

    Args:
        tolerance: pixels by which an outline may leave the edges (Douglas and Peucker, 1973).

    >>> ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> [(p.area, len(p.interiors)) for p in to_polygons(ring)]
    [(8.0, 1)]
    """
    return polygons_of(np.asarray(mask, bool).astype(np.uint8), tolerance).get(1, [])


def polygons_of(
    numbers: NDArray[np.uint8] | NDArray[np.int32], tolerance: float = 0.0
) -> dict[int, list[Polygon]]:
    """Return the polygons of each number in (H, W), in one pass; 0 is no area."""
    outlines, values = [], []
    for geometry, value in shapes(numbers, mask=numbers > 0, connectivity=4):
        outlines.append(_polygon(geometry["coordinates"]))
        values.append(int(value))
    if tolerance:
        outlines = list(shapely.simplify(outlines, tolerance))
    polygons: dict[int, list[Polygon]] = {}
    for polygon, number in zip(outlines, values, strict=True):
        polygons.setdefault(number, []).append(polygon)
    for parts in polygons.values():
        parts.sort(key=lambda p: -p.area)
    return polygons


def _polygon(rings: Any) -> Polygon:
    """Return the polygon of GeoJSON rings; arrays take a quarter of the time of single points."""
    exterior, *holes = (shapely.linearrings(np.array(ring)) for ring in rings)
    return shapely.polygons(exterior, holes=holes or None)


def to_mask(polygons: Sequence[Polygon], height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels (H, W) whose centres are in one of the polygons."""
    if not polygons:
        return np.zeros((height, width), bool)
    pixels = rasterize(polygons, (height, width), transform=IDENTITY, dtype="uint8")
    return np.asarray(pixels, bool)


def to_rings(polygon: Polygon) -> dict[str, Any]:
    """Return a polygon as data: exterior and holes, closed rings of [x, y] in pixels."""
    return {"exterior": _ring(polygon.exterior), "holes": [_ring(r) for r in polygon.interiors]}


def from_rings(data: dict[str, Any]) -> Polygon:
    """Return the polygon of data from `to_rings`."""
    return Polygon(data["exterior"], data["holes"])


def one_path(polygon: Polygon) -> Ring:
    """Return a polygon as one ring, for formats without holes; seams of no width lead to its holes.

    With the even-odd and the non-zero rule it covers the same pixels.
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
