"""Masks as pictures: class colours over the image, and views of a validation image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable

_RED = (214, 39, 40)


def colorize(mask: NDArray[np.uint8], classes: ClassTable) -> NDArray[np.uint8]:
    """Return class ids (H, W) as colours (H, W, 3); ignored pixels are black."""
    palette = np.zeros((256, 1, 3), np.uint8)
    palette[: len(classes), 0] = classes.palette
    # palette[mask], in a tenth of the time
    return np.asarray(cv2.applyColorMap(mask, palette), np.uint8)


def draw_overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], classes: ClassTable, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) with each class in its colour; ignored pixels stay unchanged."""
    blended = np.asarray(
        cv2.addWeighted(image, 1 - opacity, colorize(mask, classes), opacity, 0), np.uint8
    )
    ignored = mask == IGNORE_INDEX
    if ignored.any():
        blended[ignored] = image[ignored]
    return blended


def four_views(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    classes: ClassTable,
) -> NDArray[np.uint8]:
    """Return image, truth, prediction and error side by side, (H, 4 W, 3).

    Errors are red, ignored pixels grey.
    """
    wrong = (truth != prediction) & (truth != IGNORE_INDEX)
    error = np.full_like(image, 245)
    error[truth == IGNORE_INDEX] = 190
    error[wrong] = _RED
    return np.concatenate(
        [image, colorize(truth, classes), colorize(prediction, classes), error], axis=1
    )


def draw_disputed(image: NDArray[np.uint8], disputed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) in pale grey, and its disputed pixels (H, W) in red."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    drawn = np.repeat((128 + grey // 2)[..., None], 3, axis=2)
    drawn[disputed > 0] = _RED
    return np.asarray(drawn, np.uint8)


def on_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3 or 4) without its alpha channel; transparent pixels are white."""
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:] / 255.0
    return np.asarray(np.rint(picture[..., :3] * alpha + 255 * (1 - alpha)), np.uint8)
