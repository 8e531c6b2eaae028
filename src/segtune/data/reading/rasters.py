"""TIFFs of any size, read window by window: the colour interpretation of their bands decides, for all sizes alike."""

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.windows import Window

from segtune.data.reading.values import ValueRange, on_white, to_bytes
from segtune.errors import DataError

# once for all, since catch_warnings is not safe in threads: most images lie nowhere on a map
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_STRIP = 2**23  # values that are read at a time
_CACHE_MB = 96
_EXTRA_SAMPLES, _ORIENTATION, _ASSOCIATED = 338, 274, 1
_COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
TURNS = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True), 4: (False, False, True),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip
"""EXIF's orientation -> rows and columns are exchanged; then mirrored left to right; then top to bottom."""


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
        value_range: ValueRange | None,
    ):
        self._file, self._name, self._value_range = file, name, value_range
        self.orientation = _orientation(tags)
        self._turn = TURNS[self.orientation if upright else 1]
        self._premultiplied = _ASSOCIATED in np.atleast_1d(tags.get(_EXTRA_SAMPLES, 0))
        self._bands, self._opacity = _bands_of(file.colorinterp, name)
        structure = file.tags(ns="IMAGE_STRUCTURE")
        self._inverted = (
            structure.get("MINISWHITE") == "YES" and file.colorinterp[0] != ColorInterp.palette
        )
        bits = file.tags(self._bands[0], ns="IMAGE_STRUCTURE").get("NBITS")
        self._bits = int(bits) if bits else None
        self._palette = _palette(file) if file.colorinterp[0] == ColorInterp.palette else None
        height, width = int(file.height), int(file.width)
        self.size = (width, height) if self._turn[0] else (height, width)

    def read(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the image as shown, (h, w, 3) RGB.

        Raises:
            DataError: values whose range cannot be known, or a damaged file.
        """
        exchanged, mirrored, flipped = self._turn
        height, width = self.size
        if mirrored:
            left, right = width - right, width - left
        if flipped:
            top, bottom = height - bottom, height - top
        if exchanged:
            top, left, bottom, right = left, top, right, bottom
        part = self._stored(top, left, bottom, right)
        part = part.transpose(1, 0, 2) if exchanged else part
        part = part[:, ::-1] if mirrored else part
        return np.ascontiguousarray(part[::-1] if flipped else part)

    def whole(self) -> NDArray[np.uint8]:
        """All of it, (H, W, 3) RGB."""
        return self.read(0, 0, *self.size)

    def _stored(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the image as stored, strip by strip, so that its own values never lie in memory together."""
        found = np.empty((bottom - top, right - left, 3), np.uint8)
        block = int(self._file.block_shapes[0][0])
        rows = max(1, _STRIP // (self._file.count * (right - left)))
        rows = max(block, rows // block * block)
        start = top
        while start < bottom:
            end = min(bottom, (start // block) * block + rows)  # no block is decoded twice
            found[start - top : end - top] = self._rgb(
                Window(left, start, right - left, end - start)
            )
            start = end
        return found

    def _rgb(self, window: Any) -> NDArray[np.uint8]:
        wanted = [*self._bands, *([self._opacity] if self._opacity else [])]
        try:
            values = self._file.read(wanted, window=window)
        except RasterioError as error:
            raise DataError(f"'{self._name}' did not decode whole: {_reason(error)}") from None
        if self._palette is not None:
            return np.asarray(self._palette.take(values[0], axis=0, mode="clip"), np.uint8)
        number = len(self._bands)
        levels = to_bytes(values[:number], f"'{self._name}'", self._value_range, self._bits)
        levels = 255 - levels if self._inverted else levels
        rgb = np.ascontiguousarray(np.moveaxis(levels, 0, 2))
        rgb = np.repeat(rgb, 3, axis=2) if number == 1 else rgb
        if not self._opacity:
            return rgb
        return on_white(
            rgb, to_bytes(values[number], f"'{self._name}'", None, self._bits), self._premultiplied
        )


@contextmanager
def opened_raster(
    source: str | Path | bytes | bytearray,
    name: str = "",
    upright: bool = True,
    value_range: ValueRange | None = None,
) -> Iterator[Raster | None]:
    """A TIFF that is read here; None for other files, and for colours that Pillow converts (CMYK, L*a*b*, YCbCr).

    Raises:
        DataError: bands of which nothing says what they show.
    """
    name = name or str(source)
    tags = _tags(source)
    if tags is None:
        yield None
        return
    with ExitStack() as stack:
        # files beside the image are not looked at: from an archive or over a network it comes without them
        stack.enter_context(
            rasterio.Env(
                GDAL_CACHEMAX=_CACHE_MB,
                GDAL_PAM_ENABLED="NO",
                GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
            )
        )
        try:
            file = stack.enter_context(_open(source, stack))
        except RasterioError:
            file = None  # Pillow says what is wrong with it
        yield (
            None
            if file is None or _is_pillows(file)
            else Raster(file, tags, name, upright, value_range)
        )


def _open(source: str | Path | bytes | bytearray, stack: ExitStack) -> Any:
    if isinstance(source, bytes | bytearray):
        return stack.enter_context(MemoryFile(bytes(source))).open(driver="GTiff")
    return rasterio.open(source, driver="GTiff")


def _is_pillows(file: Any) -> bool:
    structure = file.tags(ns="IMAGE_STRUCTURE")
    space = structure.get("SOURCE_COLOR_SPACE", "")
    return space in ("CMYK", "CIELAB") or (
        space == "YCbCr" and "JPEG" not in structure.get("COMPRESSION", "")
    )


def _tags(source: str | Path | bytes | bytearray) -> dict[int, Any] | None:
    """The tags of a TIFF's first page; None for another file."""
    try:
        with (
            io.BytesIO(source)
            if isinstance(source, bytes | bytearray)
            else open(source, "rb") as file
        ):
            if file.read(4) not in _MAGIC:
                return None
            file.seek(0)
            header = file.read(8)
            header += file.read(8) if header[2:3] == b"+" or header[3:4] == b"+" else b""
            directory = TiffImagePlugin.ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
            return {
                tag: directory[tag] for tag in (_ORIENTATION, _EXTRA_SAMPLES) if tag in directory
            }
    except Exception:  # broken as it may be, whoever decodes it says what is wrong
        return None


def _orientation(tags: dict[int, Any]) -> int:
    stated = tags.get(_ORIENTATION, 1)
    return stated if stated in TURNS else 1


def _bands_of(interpretation: tuple[Any, ...], name: str) -> tuple[list[int], int | None]:
    """Numbers (from 1) of the bands that are shown, one or three, and of the band that is the opacity."""
    opacity = (
        interpretation.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in interpretation else None
    )
    if all(color in interpretation for color in _COLORS):
        return [interpretation.index(color) + 1 for color in _COLORS], opacity
    others = [number for number in range(1, len(interpretation) + 1) if number != opacity]
    if len(others) in (1, 2):
        return others[
            :1
        ], opacity  # grey; TIFF 6.0 has readers pass over a sample of unspecified meaning
    if len(others) in (3, 4):
        return others[:3], opacity
    raise DataError(
        f"'{name}' has {len(interpretation)} bands, and nothing in it says which are red, green and blue. Write those "
        "three to a file of their own (gdal_translate -b RED -b GREEN -b BLUE IN OUT), or name them in this one "
        "(gdal_edit.py -colorinterp_4 red -colorinterp_3 green -colorinterp_2 blue FILE)."
    )


def _palette(file: Any) -> NDArray[np.uint8]:
    entries = file.colormap(1)
    colors = np.zeros((max(entries) + 1, 3), np.uint8)
    for index, color in entries.items():
        colors[index] = color[:3]
    return colors


def _reason(error: Exception) -> str:
    return " ".join(str(error.__cause__ or error).split())[:300]
