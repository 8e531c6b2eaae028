"""Where an image lies on a map: read from the file or the world file beside it, kept with every mask and outline."""

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
    """How pixels (x, y) of an image as it is shown lie on a map.

    Attributes:
        transform: from pixels to coordinates; the identity where ground control points say it.
        system: rasterio's CRS; None where the file names none.
        points: ground control points; empty where there is a transform.
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
        """A pixel on the ground; None where the coordinate system or the transform is not known."""
        if not self.system or self.points:
            return None
        pixel = math.sqrt(abs(self.transform.determinant))
        if not self.system.is_geographic:
            try:
                return pixel * float(self.system.linear_units_factor[1])
            except CRSError:
                return None
        return (
            pixel
            * _METRES_A_DEGREE
            * math.sqrt(max(1e-6, math.cos(math.radians(self.transform.f))))
        )

    def onto_map(self, geometry: BaseGeometry) -> BaseGeometry:
        """A geometry in pixels, in coordinates of the map."""
        return transformed(geometry, self._coordinates)

    def _coordinates(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.points:
            with GCPTransformer(list(self.points)) as transformer:
                x, y = transformer.xy(pixels[:, 1], pixels[:, 0], offset="ul")
        else:
            t, x, y = self.transform, pixels[:, 0], pixels[:, 1]
            x, y = t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f
        return np.stack([np.asarray(x), np.asarray(y)], axis=1)

    def mark(self, target: Any) -> None:
        """Writes the place into a GeoTIFF that is open for writing."""
        if self.points:
            target.gcps = list(self.points), self.system
            return
        target.transform = self.transform
        if self.system:
            target.crs = self.system


def georeference(path: Path) -> Georeference | None:
    """The place of an image on a map; None where neither its file nor one beside it names any."""
    try:
        # asks for the names of files that may lie beside it, rather than list a folder of thousands
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as image:
            points, points_system = image.gcps
            transform, system = image.transform, image.crs
    except (RasterioError, OSError):
        return None
    if points and transform.is_identity:
        found = Georeference(Affine.identity(), points_system, tuple(points))
    elif transform.is_identity and not system:
        return None
    else:
        found = Georeference(transform, system)
    try:
        return _turned(found, *stored_size(path, str(path)))
    except DataError:
        return None  # whoever decodes it says what is wrong with it


def _turned(place: Georeference, height: int, width: int, orientation: int) -> Georeference:
    """The place of the image as EXIF's orientation shows it, of that of the stored pixels."""
    exchanged, mirrored, flipped = TURNS[orientation]
    across, down = (height, width) if exchanged else (width, height)  # as shown
    back = Affine(0, 1, 0, 1, 0, 0) if exchanged else Affine.identity()
    back = back @ Affine(
        -1 if mirrored else 1, 0, across * mirrored, 0, -1 if flipped else 1, down * flipped
    )
    if not place.points:
        return Georeference(place.transform @ back, place.system)
    forth, points = ~back, []
    for point in place.points:
        column, row = forth @ (point.col, point.row)
        points.append(
            GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)
        )
    return Georeference(place.transform, place.system, tuple(points))
