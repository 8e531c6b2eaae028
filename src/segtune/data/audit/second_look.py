"""The second look at images that seem nearly equal: whether their fine details agree."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.audit.examine import PairFacts
from segtune.data.reading.images import read_image
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.runtime.processors import available_processors

SAME_DETAILS = 0.6
"""Correlation of details from which on two images show the same photo; see `details`."""

_SIDE = 128  # pixels
_SIGMA = 4.0  # pixels; larger structures are no details
_FLOOR = 4.0  # grey levels; weaker details are noise
_SHIFT = 6  # pixels by which one image may be shifted against the other

Candidate = tuple[PairFacts, PairFacts, bool]
"""An image, another, and whether the first is compared mirrored."""


def with_same_details(
    source: Source, candidates: Sequence[Candidate]
) -> list[tuple[PairFacts, PairFacts]]:
    """The candidates whose details agree; every image is read once more."""
    images: dict[str, PairFacts] = {}
    for pair, other, _ in candidates:
        images |= {str(pair.image): pair, str(other.image): other}
    with ThreadPoolExecutor(available_processors()) as pool:
        read = pool.map(lambda pair: _details_of(source, pair), images.values())
        by_path = dict(zip(images, read, strict=True))
    same = []
    for pair, other, is_mirrored in candidates:
        first, second = by_path[str(pair.image)], by_path[str(other.image)]
        if correlation(first[:, ::-1] if is_mirrored else first, second) >= SAME_DETAILS:
            same.append((pair, other))
    return same


def _details_of(source: Source, pair: PairFacts) -> NDArray[np.float16]:
    upright = source.short(pair.image) not in source.fixes.unrotated
    data = read_bytes(pair.image)
    pixels = read_image(data, name=str(pair.image), upright=upright, reading=source.reading)
    return details(pixels).astype(np.float16)


def details(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The fine structures of an image, all about equally strong, (128, 128).

    They are the grey image less its blurred copy, divided by the local contrast: the frame, the
    round field or the background that all images of a series share does not count.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = small - cv2.GaussianBlur(small, (0, 0), _SIGMA)
    contrast = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), _SIGMA))
    return np.asarray(fine / (contrast + _FLOOR), np.float32)


def correlation(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """The highest correlation, -1..1, of two images' details where one is shifted a little."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    products = np.fft.irfft2(np.fft.rfft2(a) * np.conj(np.fft.rfft2(b)), a.shape)
    shifts = np.arange(-_SHIFT, _SHIFT + 1)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum())) or 1.0
    return float(products[np.ix_(shifts, shifts)].max()) / norm
