"""Changes of an image's colours and detail that leave every pixel in its place."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.batches.view import FILL

_GREY = np.array([0.299, 0.587, 0.114])
_LEAST_BLUR = 0.2  # pixels; a narrower Gaussian changes nothing
_SHAPES = (0.5, 2.0)  # smallest and largest height of a cut-out for its width


def blur(image: NDArray[np.uint8], largest: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur with a Gaussian whose standard deviation is drawn from 0 to `largest` pixels."""
    sigma = float(rng.uniform(0.0, largest))
    if sigma < _LEAST_BLUR:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def add_noise(
    image: NDArray[np.uint8], largest: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Add Gaussian noise to each value; its deviation is drawn from 0 to `largest` grey levels."""
    sigma = rng.uniform(0.0, largest)
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(sigma)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def cut_out(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    largest: float,
    keeps_labels: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cover a rectangle of the image with grey (DeVries and Taylor, 2017).

    Args:
        largest: its area is drawn from 0 to this share of the image.
        keeps_labels: the mask keeps its labels there, so that they are learned from what is around;
            otherwise these pixels are ignored.
    """
    height, width = mask.shape
    area = rng.uniform(0.0, largest) * height * width
    shape = np.exp(rng.uniform(*np.log(_SHAPES)))
    rows = min(height, round(float(np.sqrt(area * shape))))
    columns = min(width, round(float(np.sqrt(area / shape))))
    top = int(rng.integers(0, height - rows, endpoint=True))
    left = int(rng.integers(0, width - columns, endpoint=True))
    covered = (slice(top, top + rows), slice(left, left + columns))
    image, mask = image.copy(), mask.copy()  # whole images are those in the cache
    image[covered] = FILL
    if not keeps_labels:
        mask[covered] = IGNORE_INDEX
    return image, mask


def jitter_sharpness(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Weaken or strengthen fine detail by a random share of up to `amount`.

    Fine detail is the difference to a Gaussian blur of 0.8 pixels. A zoom interpolates and so blurs
    the views in training, but images are not blurred when they are segmented at their own size.
    Without this jitter a network takes their texture for another class (LOG.md).
    """
    factor = float(rng.uniform(-amount, amount))
    blurred = cv2.GaussianBlur(image, (3, 3), 0.8)
    return np.asarray(cv2.addWeighted(image, 1.0 + factor, blurred, -factor, 0.0), np.uint8)


def jitter_color(
    image: NDArray[np.uint8], amount: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast and saturation by a factor in 1 ± amount each.

    The three changes are one affine map of the colours.
    """
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3)
    mix = saturation * np.eye(3) + (1 - saturation) * _GREY[None, :]
    offset = 127.0 * (1 - contrast) * brightness
    matrix = np.concatenate([mix * brightness * contrast, np.full((3, 1), offset)], axis=1)
    return np.asarray(cv2.transform(image, matrix), np.uint8)
