"""Masks as people draw them, and the same after interpolation, each under 200 x 200 pixels."""

import io

import cv2
import numpy as np
from PIL import Image

_SQUARE = np.ones((3, 3), np.uint8)
_ROWS, _COLUMNS = np.mgrid[:128, :160]
RESAMPLING = {
    "bilinear x0.7": (Image.Resampling.BILINEAR, 0.7),
    "bicubic x1.5": (Image.Resampling.BICUBIC, 1.5),
    "box x0.5": (Image.Resampling.BOX, 0.5),
    "bilinear x2": (Image.Resampling.BILINEAR, 2),
}


def areas(number: int, smooth: float = 7.0) -> np.ndarray:
    """Random areas of the ids 0..number - 1; little smoothing gives noise."""
    rng = np.random.default_rng(number)
    fields = rng.standard_normal((number, 128, 160))
    return np.stack([cv2.GaussianBlur(f, (0, 0), smooth) for f in fields]).argmax(0)


def discs(number: int) -> np.ndarray:
    """Discs of the ids 1..number - 1 on 0, which cover each other."""
    rng = np.random.default_rng(number)
    grid = np.zeros((128, 160), np.int64)
    for place in range(14):
        row, column, radius = rng.integers(0, 128), rng.integers(0, 160), rng.integers(9, 18)
        grid[np.hypot(_ROWS - row, _COLUMNS - column) < radius] = 1 + place % (number - 1)
    return grid


def boxes(number: int) -> np.ndarray:
    """Upright rectangles of the ids 0..number - 1."""
    rng = np.random.default_rng(number)
    grid = np.zeros((128, 160), np.int64)
    for place in range(14):
        row, column, height, width = rng.integers((0, 0, 12, 12), (100, 130, 45, 45))
        grid[row : row + height, column : column + width] = place % number
    return grid


def outlined(ids: np.ndarray, value: int) -> np.ndarray:
    """Areas with a line of two pixels between them."""
    grid = ids.astype(np.float32)
    return np.where(cv2.dilate(grid, _SQUARE) != cv2.erode(grid, _SQUARE), value, ids)


def circled(body: int, lines: tuple[int, ...]) -> np.ndarray:
    """Discs of one value, each with a line of another around it."""
    grid = np.zeros((128, 160), np.int64)
    for place in range(6):
        distance = np.hypot(_ROWS - 34 - 62 * (place // 3), _COLUMNS - 28 - 52 * (place % 3))
        grid[distance < 20] = lines[place % len(lines)]
        grid[distance < 18] = body
    return grid


def rings(width: int, ids: tuple[int, ...]) -> np.ndarray:
    """Nested discs that are not concentric, as a cup in a disc."""
    grid = np.full((128, 160), ids[0])
    for place, value in enumerate(ids[1:]):
        shift = place * width * 0.6
        grid[np.hypot(_ROWS - 64 - shift, _COLUMNS - 80) < 55 - place * width] = value
    return grid


def layers(widths: tuple[int, ...]) -> np.ndarray:
    """Layers of the ids 0, 1, … below each other, as in retina scans."""
    depth = _ROWS - 30 - np.rint(8 * np.sin(_COLUMNS / 20)).astype(int)
    return np.searchsorted(np.cumsum([0, *widths]), depth, side="right")


def depth(levels: int, smooth: float) -> np.ndarray:
    """Levels of a smooth surface."""
    surface = cv2.GaussianBlur(
        np.random.default_rng(levels).standard_normal((128, 160)), (0, 0), smooth
    )
    return ((surface - surface.min()) / np.ptp(surface) * (levels - 0.01)).astype(np.int64)


def stored(ids: np.ndarray, values: list[int] | None = None, kind: type = np.uint8) -> np.ndarray:
    """A mask of values in the places of the ids 0, 1, …"""
    return (ids if values is None else np.array(values)[ids]).astype(kind)


def resized(mask: np.ndarray, resampling: str) -> np.ndarray:
    """A mask of any type after resizing."""
    method, factor = RESAMPLING[resampling]
    size = round(mask.shape[1] * factor), round(mask.shape[0] * factor)
    if mask.dtype == np.uint8:
        return np.array(Image.fromarray(mask).resize(size, method))
    floats = np.array(Image.fromarray(mask.astype(np.float32)).resize(size, method))
    return np.rint(floats).clip(0).astype(mask.dtype)


def blurred(mask: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)).astype(mask.dtype)


def through_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))
