"""TIFFs of any size, read window by window; their colour interpretation names the RGB bands."""

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from segtune.data.reading.values import Reading, check_bands, on_white, padded_bands, to_bytes
from segtune.errors import DataError
from segtune.runtime.regular import check_regular

# most images have no place on a map; at import, since catch_warnings is not safe in threads
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STRIP = 2**23  # values that are read at a time
_CACHE_MB = 96
_SUBFILE, _WIDTH, _HEIGHT, _REDUCED = 254, 256, 257, 1
_MOST_PAGES = 10_000  # more are not counted
_EXTRA_SAMPLES, _ORIENTATION, _ASSOCIATED = 338, 274, 1
_COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""EXIF orientation -> (swap rows and columns, then mirror left-right, then mirror top-bottom)."""


class Raster:
    """An open TIFF.

    Attributes:
        size: (height, width) as shown.
        orientation: EXIF's, 1..8, of the stored pixels.
    """

    def __init__(
        self,
        file: Any,
        tags: dict[int, Any],
        name: str,
        upright: bool,
        reading: Reading,
    ) -> None:
        self._file, self._name, self._value_range = file, name, reading.value_range
        self.orientation = _orientation(tags)
        self._turn = TURNS[self.orientation if upright else 1]
        self._premultiplied = _ASSOCIATED in np.atleast_1d(tags.get(_EXTRA_SAMPLES, 0))
        if reading.bands is None:
            self._bands, self._opacity = _bands_of(file.colorinterp, name)
        else:
            check_bands(reading.bands, int(file.count), name)
            self._bands, self._opacity = list(reading.bands), None
        structure = file.tags(ns="IMAGE_STRUCTURE")
        has_palette = file.colorinterp[0] == ColorInterp.palette
        self._palette = _palette(file) if has_palette else None
        self._inverted = structure.get("MINISWHITE") == "YES" and not has_palette
        bits = file.tags(self._bands[0], ns="IMAGE_STRUCTURE").get("NBITS")
        self._bits = int(bits) if bits else None
        height, width = int(file.height), int(file.width)
        self.size = (width, height) if self._turn[0] else (height, width)

    def read(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Read a window of the image as shown, (h, w, 3) RGB.

        Raises:
            DataError: values whose range is unknown, or a damaged file.
        """
        exchanged, mirrored, flipped = self._turn
        height, width = self.size
        if mirrored:
            left, right = width - right, width - left
        if flipped:
            top, bottom = height - bottom, height - top
        if exchanged:
            top, left, bottom, right = left, top, right, bottom
        pixels = self._read_stored(top, left, bottom, right)
        if exchanged:
            pixels = pixels.transpose(1, 0, 2)
        if mirrored:
            pixels = pixels[:, ::-1]
        if flipped:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)

    def read_all(self) -> NDArray[np.uint8]:
        """Read the whole image, (H, W, 3) RGB."""
        return self.read(0, 0, *self.size)

    @property
    def bits(self) -> int:
        """Bits of a value, used ones where the file says how many these are."""
        return self._bits or 8 * np.dtype(self._file.dtypes[self._bands[0] - 1]).itemsize

    @property
    def unread_bands(self) -> str:
        """The number of bands and those that are read; empty where all are."""
        read = [*self._bands, *([self._opacity] if self._opacity else [])]
        if self._file.count == len(read) or self._palette is not None:
            return ""
        shown = ", ".join(str(band) for band in self._bands)
        return f"{self._file.count} bands, of which {shown} are read"

    def opacity(self) -> NDArray[Any] | None:
        """The opacity band, (H, W) as stored; None without one."""
        return None if self._opacity is None else np.asarray(self._file.read(self._opacity))

    def _read_stored(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Read a window as stored, strip by strip: only one strip of raw values is in memory."""
        pixels = np.empty((bottom - top, right - left, 3), np.uint8)
        block = int(self._file.block_shapes[0][0])
        rows = max(1, _STRIP // (self._file.count * (right - left)))
        rows = max(block, rows // block * block)
        start = top
        while start < bottom:
            end = min(bottom, (start // block) * block + rows)  # decodes no block twice
            window = Window(left, start, right - left, end - start)
            pixels[start - top : end - top] = self._rgb(window)
            start = end
        return pixels

    def _rgb(self, window: Any) -> NDArray[np.uint8]:
        bands = [*self._bands, self._opacity] if self._opacity else self._bands
        try:
            values = self._file.read(bands, window=window)
        except RasterioError as error:
            raise DataError(f"'{self._name}' did not decode whole: {_reason(error)}") from None
        if self._palette is not None:
            return np.asarray(self._palette.take(values[0], axis=0, mode="clip"), np.uint8)
        number, name = len(self._bands), f"'{self._name}'"
        levels = to_bytes(values[:number], name, self._value_range, self._bits)
        if self._inverted:
            levels = 255 - levels
        rgb = np.ascontiguousarray(np.moveaxis(padded_bands(levels, axis=0), 0, 2))
        if number == 1:
            rgb = np.repeat(rgb, 3, axis=2)
        if not self._opacity:
            return rgb
        opacity = to_bytes(values[number], name, None, self._bits)
        return on_white(rgb, opacity, self._premultiplied)


@contextmanager
def opened_raster(
    source: str | Path | bytes | bytearray,
    name: str = "",
    upright: bool = True,
    reading: Reading | None = None,
) -> Iterator[Raster | None]:
    """Open a TIFF; None for other files, and for colours that Pillow converts.

    Pillow converts CMYK, L*a*b* and YCbCr without JPEG.

    Raises:
        DataError: the file does not say what its bands show.
    """
    name = name or str(source)
    reading = reading or Reading()
    tags = _tags(source)
    if tags is None:
        yield None
        return
    with ExitStack() as stack:
        # GDAL ignores files beside the image: bytes of an archive or a request have none
        environment = rasterio.Env(
            GDAL_CACHEMAX=_CACHE_MB,
            GDAL_PAM_ENABLED="NO",
            GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        )
        stack.enter_context(environment)
        try:
            file = stack.enter_context(_open(source, stack, reading.page))
        except RasterioError:
            file = None  # Pillow's message says what is wrong
        if file is None or _is_for_pillow(file):
            yield None
        else:
            yield Raster(file, tags, name, upright, reading)


def page_count(source: str | Path | bytes | bytearray) -> int:
    """Pages of a TIFF that have the first page's size, without overviews; 1 for other files."""
    count, first = 0, None
    try:
        with _opened(source) as file:
            for directory in islice(_directories(file), _MOST_PAGES):
                size = directory.get(_WIDTH), directory.get(_HEIGHT)
                first = first or size
                is_page = not int(directory.get(_SUBFILE, 0)) & _REDUCED
                count += is_page and size == first
    except Exception:  # a broken file raises errors of any type; its decoder explains them
        return max(1, count)
    return max(1, count)


def _directories(file: BinaryIO) -> Iterator[TiffImagePlugin.ImageFileDirectory_v2]:
    """The tags of each page of an open TIFF; none of another file."""
    if file.read(4) not in _MAGIC:
        return
    file.seek(0)
    header = file.read(8)
    header += file.read(8) if header[2:3] == b"+" or header[3:4] == b"+" else b""
    offset = TiffImagePlugin.ImageFileDirectory_v2(header).next
    while offset:
        file.seek(offset)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        directory.load(file)
        yield directory
        offset = directory.next


def _open(source: str | Path | bytes | bytearray, stack: ExitStack, page: int | None) -> Any:
    page = page if page and page_count(source) > 1 else 1
    if isinstance(source, bytes | bytearray):
        memory = stack.enter_context(MemoryFile(bytes(source)))
        if page == 1:
            return memory.open(driver="GTiff")
        return rasterio.open(f"GTIFF_DIR:{page}:{memory.name}", driver="GTiff")
    if page == 1:
        return rasterio.open(source, driver="GTiff")
    return rasterio.open(f"GTIFF_DIR:{page}:{source}", driver="GTiff")


def _is_for_pillow(file: Any) -> bool:
    structure = file.tags(ns="IMAGE_STRUCTURE")
    space = structure.get("SOURCE_COLOR_SPACE", "")
    if space == "YCbCr":
        return "JPEG" not in structure.get("COMPRESSION", "")
    return space in ("CMYK", "CIELAB")


def _tags(source: str | Path | bytes | bytearray) -> dict[int, Any] | None:
    """Orientation and extra samples of a TIFF's first page; None for another file."""
    try:
        with _opened(source) as file:
            directory = next(_directories(file), None)
            if directory is None:
                return None
            return {
                tag: directory[tag] for tag in (_ORIENTATION, _EXTRA_SAMPLES) if tag in directory
            }
    except Exception:  # a broken file raises errors of any type; its decoder explains them
        return None


def _opened(source: str | Path | bytes | bytearray) -> BinaryIO:
    if isinstance(source, bytes | bytearray):
        return io.BytesIO(source)
    check_regular(source)
    return open(source, "rb")


def _orientation(tags: dict[int, Any]) -> int:
    stated = tags.get(_ORIENTATION, 1)
    return stated if stated in TURNS else 1


def _bands_of(interpretation: tuple[Any, ...], name: str) -> tuple[list[int], int | None]:
    """Numbers, from 1, of the one or three colour bands, and of the opacity band."""
    opacity = None
    if ColorInterp.alpha in interpretation:
        opacity = interpretation.index(ColorInterp.alpha) + 1
    if all(color in interpretation for color in _COLORS):
        return [interpretation.index(color) + 1 for color in _COLORS], opacity
    others = [number for number in range(1, len(interpretation) + 1) if number != opacity]
    if len(others) in (1, 2):
        return others[:1], opacity  # grey; TIFF 6.0: readers skip a sample of unknown meaning
    if len(others) in (3, 4):
        return others[:3], opacity
    raise DataError(
        f"'{name}' has {len(interpretation)} bands, and nothing in it says which are red, green "
        "and blue. Write those three to a file of their own (gdal_translate -b RED -b GREEN "
        "-b BLUE IN OUT), or name them in this one (gdal_edit.py -colorinterp_4 red "
        "-colorinterp_3 green -colorinterp_2 blue FILE). For a dataset: "
        "'dataset.bands=[RED,GREEN,BLUE]', counted from 1."
    )


def _palette(file: Any) -> NDArray[np.uint8]:
    entries = file.colormap(1)
    colors = np.zeros((max(entries) + 1, 3), np.uint8)
    for index, color in entries.items():
        colors[index] = color[:3]
    return colors


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:300]
