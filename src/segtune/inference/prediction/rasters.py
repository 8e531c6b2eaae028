"""Images larger than memory: a TIFF is read, segmented and written window by window.

The mask is a tiled GeoTIFF with the image's geotransform. Regions come from run lengths that are gathered strip by
strip, so that nothing of the image's size is ever held.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import shapes
from rasterio.windows import Window
from shapely.geometry import mapping, shape

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.reading.images import target_size
from segtune.data.reading.rasters import opened_raster
from segtune.errors import DataError
from segtune.inference.media.georeference import Georeference
from segtune.inference.regions.overlay import draw_overlay
from segtune.inference.regions.regions import Region
from segtune.inference.scale import resized
from segtune.inference.segmenter import Segmenter
from segtune.inference.tiling import Tiling
from segtune.runtime.atomic import atomic_file

MAX_WHOLE = 32_000_000
"""TIFFs of more pixels are read, segmented and written in windows."""

_BLOCK = 512
_OVERVIEW = 2048  # pixels of the shorter side of the overlay
_CACHE_MB = 96


def large_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a TIFF that is read in windows, because it has more than MAX_WHOLE pixels; else None."""
    try:
        with opened_raster(path) as raster:
            if raster is not None and raster.size[0] * raster.size[1] > MAX_WHOLE:
                return raster.size
    except DataError:
        pass  # whoever decodes it whole says what is wrong with it
    return None


def segment_large(
    segmenter: Segmenter,
    path: Path,
    mask_file: Path,
    tiling: Tiling | None = None,
    tta: str = "none",
    place: Georeference | None = None,
) -> tuple[tuple[int, int], list[Region], NDArray[np.uint8]]:
    """Segments a TIFF of any size into a mask beside it.

    Args:
        place: of the image on a map, which the mask gets.

    Returns:
        (height, width), a region per class, and an overlay whose shorter side is at most 2048 pixels.

    Raises:
        DataError: a window that cannot be read.
    """
    try:
        with opened_raster(path) as raster:
            if raster is None:
                raise DataError(f"'{path}' is no TIFF that can be read in windows.")
            size, counts = raster.size, np.zeros((2, 256))
            with new_mask(mask_file, size, place) as (temporary, target):
                for piece in segmenter.pieces(
                    raster.read, size, tiling, tta, segmenter.pixel_metres(path, place)
                ):
                    height, width = piece.ids.shape
                    target.write(piece.ids, 1, window=Window(piece.left, piece.top, width, height))
                    counts[0] += np.bincount(piece.ids.ravel(), minlength=256)
                    counts[1] += np.bincount(piece.ids.ravel(), piece.sure.ravel(), minlength=256)
                target.close()
                with rasterio.open(temporary) as mask:
                    regions = _regions(mask, counts, segmenter.classes)
                    overlay = _overview(raster, mask, segmenter.classes)
    except RasterioError as error:
        raise DataError(f"'{path}' cannot be read to its end: {error}") from None
    return size, regions, overlay


def write_mask(mask_file: Path, mask: NDArray[np.uint8], place: Georeference) -> None:
    """Writes the mask of an image that lies on a map as a GeoTIFF, whole or not at all."""
    with new_mask(mask_file, mask.shape, place) as (_, target):
        target.write(mask, 1)


@contextmanager
def new_mask(
    mask_file: Path, size: Sequence[int], place: Georeference | None
) -> Iterator[tuple[Path, Any]]:
    """A tiled GeoTIFF to be filled, under a temporary path until the block ends well."""
    layout = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    layout |= {"compress": "deflate", "bigtiff": "if_safer"}
    layout |= {"height": size[0], "width": size[1], "count": 1, "dtype": "uint8"}
    with (
        atomic_file(mask_file) as unfinished,
        rasterio.Env(GDAL_CACHEMAX=_CACHE_MB),
        rasterio.open(unfinished, "w", driver="GTiff", **layout) as target,
    ):
        if place:
            place.mark(target)
        yield unfinished, target


def geojson_of(
    mask_file: Path, classes: ClassTable, place: Georeference | None = None
) -> Iterator[dict[str, Any]]:
    """GeoJSON features of a mask file, one per connected area, in coordinates of the map, or in pixels without one."""
    with rasterio.open(mask_file) as mask:
        for geometry, value in shapes(
            rasterio.band(mask, 1), connectivity=4, transform=mask.transform
        ):
            if int(value) != IGNORE_INDEX:
                properties = {"concept": classes.names[int(value)], "concept_id": int(value)}
                if place and place.points:
                    geometry = mapping(place.onto_map(shape(geometry)))
                yield {"type": "Feature", "geometry": geometry, "properties": properties}


def run_lengths(strips: Iterator[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(value, length) of each run down the columns of an image that comes in strips of whole columns.

    >>> values, lengths = run_lengths(iter([np.array([[1, 1], [1, 2]]), np.array([[2], [3]])]))
    >>> values.tolist(), lengths.tolist()
    ([1, 2, 3], [3, 2, 1])
    """
    values: list[NDArray[np.uint8]] = []
    lengths: list[NDArray[np.int64]] = []
    for strip in strips:
        flat = strip.T.ravel()
        ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
        values.append(flat[ends - 1])
        lengths.append(np.diff(ends, prepend=0))
    value, length = np.concatenate(values), np.concatenate(lengths)
    starts = np.flatnonzero(
        np.append(True, value[1:] != value[:-1])
    )  # where strips meet, runs go on
    return value[starts], np.add.reduceat(length, starts)


def to_rle(
    values: NDArray[np.uint8], lengths: NDArray[np.int64], concept: int, size: tuple[int, int]
) -> dict[str, Any]:
    """COCO's compressed run lengths of one class out of the runs of all."""
    inside = values == concept
    starts = np.flatnonzero(np.append(True, inside[1:] != inside[:-1]))
    counts = np.add.reduceat(lengths, starts).tolist()
    if inside[0]:
        counts.insert(0, 0)  # COCO begins with a run outside
    rle = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def _regions(mask: Any, counts: NDArray[np.float64], classes: ClassTable) -> list[Region]:
    height, width = int(mask.height), int(mask.width)
    lefts = range(0, width, _BLOCK)
    strips = (mask.read(1, window=Window(x, 0, min(_BLOCK, width - x), height)) for x in lefts)
    values, lengths = run_lengths(strips)
    present = sorted(
        (c for c in range(len(classes)) if counts[0, c]), key=lambda c: (-counts[0, c], c)
    )
    regions = []
    for number, concept in enumerate(present):
        rle = to_rle(values, lengths, concept, (height, width))
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        share, sure = counts[0, concept] / (height * width), counts[1, concept] / counts[0, concept]
        name = classes.names[concept]
        regions.append(Region(number, concept, name, float(share), float(sure), (x, y, w, h), rle))
    return regions


def _overview(raster: Any, mask: Any, classes: ClassTable) -> NDArray[np.uint8]:
    height, width = raster.size
    size = target_size(height, width, [min(_OVERVIEW, height, width)])
    image = resized(raster.read, raster.size, size)(0, 0, *size)
    ids = mask.read(1, out_shape=size, resampling=Resampling.nearest)
    return draw_overlay(image, ids, classes)
