"""Tell masks from images by their pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.images import stored_size
from segtune.data.reading.mask_values import mask_values
from segtune.errors import DataError

_FEW = 64  # values or colours of a mask at most
_MAIN = 16  # coarse values that hold nearly all pixels of a mask stored as JPEG
_MAIN_SHARE = 0.97
_CUT_OUT = 0.7  # of a photo, in the opacity
_CLEAR_SHARE = 0.9  # of the pixels of a cut-out that are opaque or transparent
_SAMPLES = 4
_STRIDE_PIXELS = 250_000  # of a large file, about so many pixels are looked at


def mask_likeness(files: Sequence[Path]) -> float:
    """How much files look like masks, 0..1: they hold few values, or nearly so."""
    if not files:
        return 0.0
    step = max(1, len(files) // _SAMPLES)
    looks = [_likeness(path) for path in files[::step][:_SAMPLES]]
    return float(np.mean(looks))


def sizes_agree(pairs: Sequence[tuple[Path, Path]]) -> bool:
    """Whether most pairs of a sample have equal sizes; pairs that cannot be read do not count."""
    step = max(1, len(pairs) // _SAMPLES)
    balance = 0
    for image, mask in pairs[::step][:_SAMPLES]:
        try:
            height, width, _ = stored_size(image, str(image))
            size = mask_values(mask, str(mask)).pixels.shape[:2]
        except DataError:
            continue
        balance += 1 if size in ((height, width), (width, height)) else -1
    return balance >= 0


def _likeness(path: Path) -> float:
    try:
        mask = mask_values(path, str(path))
    except DataError:
        return 0.0
    pixels = mask.pixels
    if mask.opacity is not None and _is_cut_out(mask.opacity):
        return _CUT_OUT
    step = int(max(1, (pixels.shape[0] * pixels.shape[1] / _STRIDE_PIXELS) ** 0.5))
    values = _packed(pixels[::step, ::step])
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= min(_FEW, max(2, values.size // 4)):
        return 1.0 if len(distinct) > 1 else 0.6
    if pixels.dtype != np.uint8:
        return 0.5 if len(distinct) <= 256 else 0.0  # ids of 16 bits
    coarse = np.unique(_packed(pixels[::step, ::step] // 32), return_counts=True)[1]
    main = np.sort(coarse)[::-1][:_MAIN].sum() / coarse.sum()
    # a mask stored as JPEG has few levels with most pixels each; a photo spreads over many
    top = np.sort(counts)[::-1][:_MAIN].sum() / counts.sum()
    return 0.7 if main > _MAIN_SHARE and top > 0.7 else 0.0


def _is_cut_out(opacity: NDArray[np.uint8]) -> bool:
    """Whether an alpha channel holds an object: opaque in one part, transparent in another."""
    is_clear = (opacity == 0) | (opacity == 255)
    return bool(opacity.any() and (opacity == 0).any() and is_clear.mean() >= _CLEAR_SHARE)


def _packed(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    if pixels.ndim == 2:
        return pixels.ravel()
    weights = np.array([65536, 256, 1], np.uint32)
    return (pixels.astype(np.uint32) @ weights).ravel()
