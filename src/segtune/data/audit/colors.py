"""How far the colours of masks lie from those of the classes."""

import numpy as np
from numpy.typing import NDArray

from segtune.data.audit.examine import PairFacts
from segtune.data.source.layout import Source

_NEAR_COLOR = 25  # distance in RGB
_NEAR_SHARE = 0.8  # share of a mask's pixels that must be near a known colour
_CLASS_SHARE = 0.01  # share of a mask's pixels, of one colour that may be a class of its own


def are_near(distances: NDArray[np.float64], counts: NDArray[np.float64]) -> bool:
    """Whether colours are those of classes, changed by JPEG or resizing: none fills an area.

    Args:
        distances: of each colour to the nearest known one, (N,).
        counts: pixels of each, (N,).
    """
    far = counts[distances >= _NEAR_COLOR]
    total = counts.sum()
    return bool(far.sum() < (1 - _NEAR_SHARE) * total and far.max(initial=0) < _CLASS_SHARE * total)


def color_distances(
    source: Source, pair: PairFacts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each colour in a mask: the distance to the nearest known colour, and the pixels, (N,)."""
    known_colors = source.classes.palette + [tuple(c) for c in source.config.ignore_colors]
    if pair.colors:
        colors, pixels = list(pair.colors), list(pair.colors.values())
    else:
        colors = list(pair.palette.values())
        pixels = [pair.values[value] for value in pair.palette]
    difference = np.array(colors, float).reshape(-1, 1, 3) - np.array(known_colors, float)
    return np.sqrt((difference**2).sum(2)).min(1), np.array(pixels, float)
