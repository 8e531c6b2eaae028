"""The physical size of pixels: on the ground for maps, in the specimen for micrographs."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from segtune.data.reading.images import stored_size
from segtune.inference.media.georeference import Georeference, read_georeference

_TOLERANCE = 0.02  # pixel sizes whose ratio is within it count as equal
_SAMPLED = 64  # train images whose pixel size is read, at most
_UNITS = {"nm": 1e-9, "um": 1e-6, "micron": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "inch": 0.0254}
_DEFAULT_OME_UNIT = "um"  # OME schema 2016-06: the default of PhysicalSizeXUnit


def pixel_metres(path: Path, georeference: Georeference | None = None) -> float | None:
    """Metres of a pixel's side: the geometric mean of its width and height.

    A georeference counts first. Without one, a TIFF may state the size in OME-XML
    (`PhysicalSizeX`, `PhysicalSizeY`) or in ImageJ's description (`unit=` with the resolution
    tags). The plain resolution of a TIFF, PNG or JPEG is a print size and does not count.

    Args:
        georeference: the georeference of the file, where the caller has read it already.

    Returns:
        None where the file states no physical size.
    """
    georeference = georeference or read_georeference(path)
    if georeference is not None:
        return georeference.metres
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with rasterio.open(path) as image:
            tags = image.tags()
    except (RasterioError, OSError):
        return None
    description = tags.get("TIFFTAG_IMAGEDESCRIPTION", "").strip()
    size = _imagej_size(description, tags) if "ImageJ=" in description else _ome_size(description)
    if size is None or not all(math.isfinite(side) and side > 0 for side in size):
        return None
    return math.sqrt(size[0] * size[1])


def common_metres(paths: Sequence[Path], image_size: Sequence[int]) -> float | None:
    """Metres of a pixel of images that are brought to one shorter side.

    Args:
        paths: images, of which up to 64 are read, evenly spaced.
        image_size: one value is the shorter side; with two, no common size exists.

    Returns:
        None where an image states no physical size, or where sizes differ by more than 2 %.
    """
    if len(image_size) != 1 or not paths:
        return None
    sizes = []
    for path in paths[:: -(-len(paths) // _SAMPLED)]:
        metres = pixel_metres(path)
        if metres is None:
            return None
        height, width, _ = stored_size(path, str(path))
        sizes.append(metres * min(height, width) / image_size[0])
    median = float(np.median(sizes))
    return median if max(sizes) - min(sizes) <= _TOLERANCE * median else None


def length_text(metres: float) -> str:
    """A length with a unit that suits it.

    >>> length_text(0.5), length_text(6.5e-7)
    ('0.5 m', '0.65 µm')
    """
    return f"{metres:g} m" if metres >= 1e-3 else f"{metres * 1e6:g} µm"


def _ome_size(description: str) -> tuple[float, float] | None:
    """(width, height) of a pixel in metres, from OME-XML."""
    if "<OME" not in description:
        return None
    try:
        root = ElementTree.fromstring(description)
        pixels = root.find(".//{*}Pixels")
        if pixels is None:
            return None
        width, height = (_ome_length(pixels.attrib, f"PhysicalSize{axis}") for axis in "XY")
    except (ElementTree.ParseError, ValueError, KeyError):
        return None
    return width, height


def _ome_length(attributes: Mapping[str, str], name: str) -> float:
    """One side of a pixel in metres.

    Raises:
        KeyError: no such attribute, or an unknown unit (`pixel`, `reference frame`).
        ValueError: not a number.
    """
    unit = attributes.get(f"{name}Unit", _DEFAULT_OME_UNIT)
    return float(attributes[name]) * _UNITS[_plain_unit(unit)]


def _imagej_size(description: str, tags: Mapping[str, str]) -> tuple[float, float] | None:
    """(width, height) of a pixel in metres, from ImageJ's unit and the resolution tags."""
    lines = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
    unit = _UNITS.get(_plain_unit(lines.get("unit", "")))
    if unit is None:
        return None
    try:
        across, down = (float(tags[f"TIFFTAG_{axis}RESOLUTION"]) for axis in "XY")
        return unit / across, unit / down
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def _plain_unit(unit: str) -> str:
    """A unit in ASCII: micrometres are written with either of two Greek letters, or escaped."""
    plain = unit.strip().replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u")
    return {"microns": "micron", "inches": "inch"}.get(plain, plain)
