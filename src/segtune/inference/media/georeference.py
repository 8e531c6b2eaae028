"""The georeference of an image: read from the file or its world file, copied to its outputs."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import GCPTransformer
from shapely import transform as transformed
from shapely.geometry.base import BaseGeometry

from segtune.data.reading.images import stored_size
from segtune.data.reading.rasters import TURNS
from segtune.errors import DataError

_METRES_A_DEGREE = 111_320.0  # along a meridian


@dataclass(frozen=True)
class Georeference:
    """The position on a map of the pixels (x, y) of an image, in its EXIF orientation.

    Attributes:
        transform: maps pixels to coordinates; the identity if there are ground control points.
        system: rasterio's CRS; None if the file names none.
        points: ground control points; empty if there is a transform.
    """

    transform: Affine
    system: Any
    points: tuple[GroundControlPoint, ...] = ()

    @property
    def crs(self) -> str | None:
        """The name of the coordinate system, as GeoJSON of 2008 writes it."""
        if not self.system:
            return None
        code = self.system.to_epsg()
        return f"urn:ogc:def:crs:EPSG::{code}" if code else str(self.system.to_wkt())

    @property
    def metres(self) -> float | None:
        """Metres of a pixel on the ground; None without a coordinate system or a transform."""
        if not self.system or self.points:
            return None
        pixel = math.sqrt(abs(self.transform.determinant))
        if not self.system.is_geographic:
            try:
                return pixel * float(self.system.linear_units_factor[1])
            except CRSError:
                return None
        # a degree of longitude shrinks with the cosine of the latitude; the square root averages it
        shrinkage = max(1e-6, math.cos(math.radians(self.transform.f)))
        return pixel * _METRES_A_DEGREE * math.sqrt(shrinkage)

    def onto_map(self, geometry: BaseGeometry) -> BaseGeometry:
        """Convert a geometry from pixels to coordinates of the map."""
        return transformed(geometry, self._coordinates)

    def _coordinates(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.points:
            with GCPTransformer(list(self.points)) as transformer:
                x, y = transformer.xy(pixels[:, 1], pixels[:, 0], offset="ul")
        else:
            columns, rows = pixels[:, 0], pixels[:, 1]
            a, b, c, d, e, f = self.transform[:6]
            x, y = a * columns + b * rows + c, d * columns + e * rows + f
        return np.stack([np.asarray(x), np.asarray(y)], axis=1)

    def mark(self, target: Any) -> None:
        """Write the georeference into a GeoTIFF that is open for writing."""
        if self.points:
            target.gcps = list(self.points), self.system
            return
        target.transform = self.transform
        if self.system:
            target.crs = self.system


def read_georeference(path: Path) -> Georeference | None:
    """Read the georeference in an image file or the world file beside it; None without one."""
    try:
        # GDAL then asks for the names of world files, and does not list a folder of thousands
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as image:
            points, points_system = image.gcps
            transform, system = image.transform, image.crs
    except (RasterioError, OSError):
        return None
    if points and transform.is_identity:
        stored = Georeference(Affine.identity(), points_system, tuple(points))
    elif transform.is_identity and not system:
        return None
    else:
        stored = Georeference(transform, system)
    try:
        return _oriented(stored, *stored_size(path, str(path)))
    except DataError:
        return None  # the decoder reports the error


def _oriented(
    georeference: Georeference, height: int, width: int, orientation: int
) -> Georeference:
    """Convert a georeference from the stored pixels to those in EXIF's orientation."""
    is_transposed, is_mirrored, is_flipped = TURNS[orientation]
    if is_transposed:
        height, width = width, height
    to_stored = Affine(0, 1, 0, 1, 0, 0) if is_transposed else Affine.identity()
    to_stored = to_stored @ Affine(
        -1 if is_mirrored else 1,
        0,
        width * is_mirrored,
        0,
        -1 if is_flipped else 1,
        height * is_flipped,
    )
    if not georeference.points:
        return Georeference(georeference.transform @ to_stored, georeference.system)
    from_stored, points = ~to_stored, []
    for point in georeference.points:
        column, row = from_stored @ (point.col, point.row)
        points.append(
            GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)
        )
    return Georeference(georeference.transform, georeference.system, tuple(points))
