"""Images larger than memory: a TIFF is read, segmented and written window by window.

The mask is a tiled GeoTIFF with the image's geotransform. Regions come from run lengths that are gathered strip by
strip, so that nothing of the image's size is ever held.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.features import shapes
from rasterio.windows import Window

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.data.images import read_image, target_size
from segtune.errors import DataError
from segtune.inference.decisions import decide
from segtune.inference.overlay import draw_overlay
from segtune.inference.regions import Region
from segtune.inference.segmenter import Segmenter
from segtune.inference.tiling import MAX_WHOLE, Tiling

_BLOCK = 512
_OVERVIEW = 2048  # pixels of the shorter side of the overlay
_CACHE_MB = 96


@dataclass(frozen=True)
class Georeference:
    """Where an image lies: from pixels to coordinates, and the name of their system."""

    transform: Any
    crs: str | None


def is_large(path: Path) -> bool:
    """Whether the file is a TIFF that is read in windows, because it has more than MAX_WHOLE pixels."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with _quiet(), rasterio.open(path) as image:
            plain = all(c != ColorInterp.palette for c in image.colorinterp) and image.count in (1, 3, 4)
            return bool(plain and image.width * image.height > MAX_WHOLE and image.dtypes[0] in ("uint8", "uint16"))
    except RasterioError:
        return False  # whoever decodes it whole says what is wrong with it


def georeference(path: Path) -> Georeference | None:
    """The place of an image on a map; None where its file names none."""
    try:
        with _quiet(), rasterio.open(path) as image:
            if image.transform.is_identity:
                return None
            return Georeference(image.transform, _crs_name(image.crs))
    except RasterioError:
        return None


def segment_large(
    segmenter: Segmenter, path: Path, mask_file: Path, tiling: Tiling | None = None, tta: str = "none"
) -> tuple[tuple[int, int], list[Region], NDArray[np.uint8]]:
    """Segments a TIFF of any size into a mask beside it.

    Returns:
        (height, width), a region per class, and an overlay whose shorter side is at most 2048 pixels.

    Raises:
        DataError: a window that cannot be read.
    """
    temporary = mask_file.with_name(f".{mask_file.name}.part")
    mask_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _quiet(), rasterio.open(path) as image:
            size = (int(image.height), int(image.width))
            counts = np.zeros((2, 256))
            with rasterio.open(
                temporary, "w", driver="GTiff", height=size[0], width=size[1], count=1, dtype="uint8", tiled=True,
                blockxsize=_BLOCK, blockysize=_BLOCK, compress="deflate", bigtiff="if_safer",
                transform=image.transform, crs=image.crs,
            ) as target:  # fmt: skip

                def read(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
                    values = image.read(window=Window(left, top, right - left, bottom - top))
                    return read_image(np.moveaxis(values, 0, 2))

                for part in segmenter.parts(read, size, tiling or Tiling(), tta):
                    ids, sure = decide(part.logits[None], part.logits.shape[-2:])[0]
                    target.write(ids, 1, window=Window(part.left, part.top, ids.shape[1], ids.shape[0]))
                    counts[0] += np.bincount(ids.ravel(), minlength=256)
                    counts[1] += np.bincount(ids.ravel(), sure.ravel(), minlength=256)
            with rasterio.open(temporary) as mask:
                regions = _regions(mask, counts, segmenter.classes)
                overlay = _overview(image, mask, segmenter.classes)
        temporary.replace(mask_file)
    except RasterioError as error:
        raise DataError(f"'{path}' cannot be read to its end: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return size, regions, overlay


def geojson_of(mask_file: Path, classes: ClassTable) -> Iterator[dict[str, Any]]:
    """GeoJSON features of a mask file, one per connected area, in the mask's coordinates."""
    with _quiet(), rasterio.open(mask_file) as mask:
        for geometry, value in shapes(rasterio.band(mask, 1), connectivity=4, transform=mask.transform):
            if int(value) != IGNORE_INDEX:
                properties = {"concept": classes.names[int(value)], "concept_id": int(value)}
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
    starts = np.flatnonzero(np.append(True, value[1:] != value[:-1]))  # where strips meet, runs go on
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
    present = sorted((c for c in range(len(classes)) if counts[0, c]), key=lambda c: (-counts[0, c], c))
    regions = []
    for number, concept in enumerate(present):
        rle = to_rle(values, lengths, concept, (height, width))
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
        share, sure = counts[0, concept] / (height * width), counts[1, concept] / counts[0, concept]
        name = classes.names[concept]
        regions.append(Region(number, concept, name, float(share), float(sure), (x, y, w, h), rle))
    return regions


def _overview(image: Any, mask: Any, classes: ClassTable) -> NDArray[np.uint8]:
    height, width = target_size(image.height, image.width, [min(_OVERVIEW, image.height, image.width)])
    small = image.read(out_shape=(image.count, height, width), resampling=Resampling.average)
    ids = mask.read(1, out_shape=(height, width), resampling=Resampling.nearest)
    return draw_overlay(read_image(np.moveaxis(small, 0, 2)), ids, classes)


def _crs_name(crs: Any) -> str | None:
    code = crs.to_epsg() if crs else None
    return f"urn:ogc:def:crs:EPSG::{code}" if code else (crs.to_wkt() if crs else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """GDAL with a cache that stays small (by default it takes a twentieth of the memory)."""
    import warnings

    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield
