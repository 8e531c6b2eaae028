"""Colours stay apart for every kind of colour vision, computed by published models."""

import numpy as np
import pytest

from segtune.classes import distinct_color
from segtune.pages.colors import SERIES

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
VISION = {
    "trichromat": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Ottosson (2020): linear RGB -> LMS -> OKLab
LMS = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]
CLASSES = [distinct_color(index) for index in range(32)]
LINES = [tuple(bytes.fromhex(color[1:])) for color in SERIES]


def linear(colors):
    values = np.array(colors) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def smallest_distance(colors, vision):
    """Return the smallest OKLab distance, 0..100, between two colours as this vision sees them."""
    seen = np.clip(linear(colors) @ np.transpose(VISION[vision]), 0, 1)
    lab = np.cbrt(seen @ np.transpose(LMS)) @ np.transpose(LAB)
    distances = 100 * np.linalg.norm(lab[:, None] - lab, axis=2)
    return distances[np.triu_indices(len(colors), 1)].min()


def contrast(colors, background):
    weights = [0.2126, 0.7152, 0.0722]
    one, other = linear(colors) @ weights + 0.05, linear(background) @ weights + 0.05
    return np.maximum(one / other, other / one)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    ("colors", "least"),
    [(CLASSES[:4], 27), (CLASSES[:8], 14.8), (CLASSES[:16], 8.5), (CLASSES, 5.5), (LINES, 10)],
    ids=["4 classes", "8 classes", "16 classes", "32 classes", "lines"],
)
def test_any_two_colors_can_be_told_apart(colors, least, vision):
    assert smallest_distance(colors, vision) >= least


def test_an_ignored_pixel_is_told_from_every_class_and_lines_from_the_page():
    for vision in VISION:
        for color in CLASSES:
            assert smallest_distance([(0, 0, 0), color], vision) > 20
    for background in [(255, 255, 255), (20, 23, 27)]:
        assert contrast(LINES, background).min() >= 3


def test_colors_beyond_the_first_stay_distinct():
    assert len({distinct_color(index) for index in range(180)}) == 180
