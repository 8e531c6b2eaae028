"""Images larger than memory: a TIFF is read, segmented and written window by window.

The mask is a tiled GeoTIFF with the image's geotransform. Regions come from run lengths, gathered
strip by strip, so that nothing as large as the image is in memory.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from segtune.data.reading.values import Reading
from segtune.errors import DataError
from segtune.inference.media.georeference import Georeference
from segtune.inference.options import Options
from segtune.inference.regions.regions import Region
from segtune.inference.scale import resized
from segtune.inference.segmenter import Segmenter
from segtune.runtime.atomic import atomic_file

MAX_WHOLE = 32_000_000
"""TIFFs of more pixels are read, segmented and written in windows."""

_BLOCK = 512
_OVERVIEW = 2048  # pixels of the shorter side of the overlay
_CACHE_MB = 96


@dataclass(frozen=True)
class LargeImage:
    """An image that is too large for memory, after it was segmented in windows.

    Attributes:
        mask: a GeoTIFF of its class ids.
        overview: the image with at most 2048 pixels on its shorter side, (H, W, 3).
        overview_mask: class ids of the overview, (H, W).
    """

    mask: Path
    overview: NDArray[np.uint8]
    overview_mask: NDArray[np.uint8]


def large_size(path: Path, reading: Reading | None = None) -> tuple[int, int] | None:
    """Return (height, width) of a TIFF with more than MAX_WHOLE pixels; None for other files."""
    try:
        with opened_raster(path, reading=reading) as raster:
            if raster is not None and raster.size[0] * raster.size[1] > MAX_WHOLE:
                return raster.size
    except DataError:
        pass  # the decoder of whole images reports the error
    return None


def segment_large(
    segmenter: Segmenter,
    path: Path,
    mask_file: Path,
    options: Options,
    georeference: Georeference | None = None,
) -> tuple[tuple[int, int], list[Region], LargeImage]:
    """Segment a TIFF of any size into a mask file.

    Args:
        georeference: the georeference of the image, which the mask gets, too.

    Returns:
        (height, width), a region per class, and the files and pictures for the formats.

    Raises:
        DataError: a window that cannot be read.
    """
    try:
        with opened_raster(path, reading=segmenter.reading) as raster:
            if raster is None:
                raise DataError(f"'{path}' is no TIFF that can be read in windows.")
            pixels, confidence = np.zeros(256), np.zeros(256)  # of each class: number, sum
            metres = segmenter.pixel_metres(path, georeference)
            with new_mask(mask_file, raster.size, georeference) as (unfinished, target):
                for piece in segmenter.pieces(
                    raster.read, raster.size, options.tiling, options.tta, metres
                ):
                    height, width = piece.ids.shape
                    target.write(piece.ids, 1, window=Window(piece.left, piece.top, width, height))
                    ids = piece.ids.ravel()
                    pixels += np.bincount(ids, minlength=256)
                    confidence += np.bincount(ids, piece.confidence.ravel(), minlength=256)
                target.close()
                with rasterio.open(unfinished) as mask:
                    regions = _regions(mask, pixels, confidence, segmenter.classes)
                    overview = _overview(raster, mask)
            return raster.size, regions, LargeImage(mask_file, *overview)
    except RasterioError as error:
        raise DataError(f"'{path}' cannot be read to its end: {error}") from None


def write_mask(mask_file: Path, mask: NDArray[np.uint8], georeference: Georeference) -> None:
    """Write the mask of a map as a GeoTIFF."""
    with new_mask(mask_file, mask.shape, georeference) as (_, target):
        target.write(mask, 1)


@contextmanager
def new_mask(
    mask_file: Path, size: Sequence[int], georeference: Georeference | None
) -> Iterator[tuple[Path, Any]]:
    """Open a tiled GeoTIFF for writing; it gets its name when the block succeeds."""
    layout: dict[str, Any] = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    layout |= {"compress": "deflate", "bigtiff": "if_safer"}
    layout |= {"height": size[0], "width": size[1], "count": 1, "dtype": "uint8"}
    with (
        atomic_file(mask_file) as unfinished,
        rasterio.Env(GDAL_CACHEMAX=_CACHE_MB),
        rasterio.open(unfinished, "w", driver="GTiff", **layout) as target,
    ):
        if georeference:
            georeference.mark(target)
        yield unfinished, target


def geojson_of(
    mask_file: Path, classes: ClassTable, georeference: Georeference | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a GeoJSON feature per connected area of a mask file.

    Coordinates are those of the map, or pixels without a georeference.
    """
    with rasterio.open(mask_file) as mask:
        band = rasterio.band(mask, 1)
        for geometry, value in shapes(band, connectivity=4, transform=mask.transform):
            class_id = int(value)
            if class_id == IGNORE_INDEX:
                continue
            if georeference and georeference.points:
                geometry = mapping(georeference.onto_map(shape(geometry)))
            properties = {"concept": classes.names[class_id], "concept_id": class_id}
            yield {"type": "Feature", "geometry": geometry, "properties": properties}


def run_lengths(strips: Iterator[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return value and length of each run down the columns of an image.

    Args:
        strips: the image from left to right, in strips of whole columns.

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
    # a run may continue in the next strip
    starts = np.flatnonzero(np.append(True, value[1:] != value[:-1]))
    return value[starts], np.add.reduceat(length, starts)


def to_rle(
    values: NDArray[np.uint8], lengths: NDArray[np.int64], concept: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Return COCO's compressed run lengths of one class, from the runs of all classes."""
    inside = values == concept
    starts = np.flatnonzero(np.append(True, inside[1:] != inside[:-1]))
    counts = np.add.reduceat(lengths, starts).tolist()
    if inside[0]:
        counts.insert(0, 0)  # COCO starts with a run outside
    rle = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def _regions(
    mask: Any, pixels: NDArray[np.float64], confidence: NDArray[np.float64], classes: ClassTable
) -> list[Region]:
    """One region per class, the largest first.

    Args:
        pixels: the number of pixels per class, (256,).
        confidence: the sum of their confidences per class, (256,).
    """
    size = height, width = int(mask.height), int(mask.width)
    strips = (
        mask.read(1, window=Window(left, 0, min(_BLOCK, width - left), height))
        for left in range(0, width, _BLOCK)
    )
    values, lengths = run_lengths(strips)
    present = [c for c in range(len(classes)) if pixels[c]]
    regions = []
    for number, concept in enumerate(sorted(present, key=lambda c: (-pixels[c], c))):
        rle = to_rle(values, lengths, concept, size)
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        regions.append(
            Region(
                id=number,
                concept_id=concept,
                concept=classes.names[concept],
                area_share=float(pixels[concept] / (height * width)),
                mean_confidence=float(confidence[concept] / pixels[concept]),
                box=(x, y, w, h),
                rle=rle,
            )
        )
    return regions


def _overview(raster: Any, mask: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a small image and its class ids."""
    height, width = raster.size
    size = target_size(height, width, [min(_OVERVIEW, height, width)])
    image = resized(raster.read, raster.size, size)(0, 0, *size)
    ids = mask.read(1, out_shape=size, resampling=Resampling.nearest)
    return image, ids
