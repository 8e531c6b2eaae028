"""Shapes, colours and noise of the street scenes.

Points are (x to the right, y above the ground, z ahead), in metres.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Points = NDArray[np.float64]


def upright(x: float, z: float, half: float, low: float, high: float) -> Points:
    """A rectangle around x that faces the camera; `half` is half of its width."""
    return across_street(x - half, x + half, z, low, high)


def across_street(left: float, right: float, z: float, low: float, high: float) -> Points:
    """A rectangle that faces the camera at depth z."""
    return np.array(
        [[left, low, z], [left, high, z], [right, high, z], [right, low, z]], np.float64
    )


def along_street(x: float, near: float, far: float, low: float, high: float) -> Points:
    """An upright rectangle along the street, from depth `near` to `far`."""
    return np.array([[x, low, near], [x, high, near], [x, high, far], [x, low, far]], np.float64)


def flat(left: float, right: float, near: float, far: float) -> Points:
    """A rectangle on the ground."""
    return np.array(
        [[left, 0, near], [left, 0, far], [right, 0, far], [right, 0, near]], np.float64
    )


def pick(rng: np.random.Generator, colors: list[Color]) -> Color:
    """Draw one of the colours."""
    return colors[int(rng.integers(len(colors)))]


def vary(rng: np.random.Generator, color: Color, spread: int) -> Color:
    """Change each channel of a colour by up to `spread`."""
    r, g, b = np.clip(np.array(color) + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(r), int(g), int(b)


def noise(rng: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """Smooth noise in [-1, 1], with features of about 2**cells pixels."""
    coarse = rng.uniform(-1, 1, (height // 2**cells + 2, width // 2**cells + 2)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )
