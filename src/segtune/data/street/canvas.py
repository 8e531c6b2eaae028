"""The canvas of a street scene: image, mask, finer mask and depth from the same polygons."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.street.shapes import Color, Points

CLASSES = ("sky", "building", "road", "pavement", "grass", "tree", "car", "person", "pole", "sign")
CLASS_IDS = {name: index for index, name in enumerate(CLASSES)}
FINER = {
    "building": ("house", "skyscraper"),
    "road": ("asphalt", "cobblestone"),
    "car": ("sedan", "truck", "bus"),
    "person": ("adult", "child"),
}
NO_FINER = 255
"""The value of a finer mask where a class has no finer labels."""

_SKY_DEPTH = 400.0  # metres


@dataclass(frozen=True)
class Frame:
    """One drawn view.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 of class ids.
        finer: (H, W) uint8 of finer ids, 255 for none.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    finer: NDArray[np.uint8]


class Canvas:
    """Image, mask, finer mask and depth; far polygons are painted first.

    Args:
        focal: focal length in pixels.
        horizon: row of the horizon in pixels.
        camera_height: above the ground, in metres.
    """

    def __init__(
        self, height: int, width: int, focal: float, horizon: float, camera_height: float
    ) -> None:
        self.height, self.width = height, width
        self.focal, self.horizon, self.camera_height = focal, horizon, camera_height
        self.image = np.zeros((height, width, 3), np.uint8)
        self.mask = np.zeros((height, width), np.uint8)
        self.finer = np.full((height, width), NO_FINER, np.uint8)
        self.depth = np.full((height, width), _SKY_DEPTH, np.float32)

    def project(self, points: Points) -> NDArray[np.int32]:
        """Pixels (N, 2) of points (N, 3): x, y above the ground, z ahead, in metres."""
        z = np.maximum(points[:, 2], 0.3)
        u = self.width / 2 + self.focal * points[:, 0] / z
        v = self.horizon + self.focal * (self.camera_height - points[:, 1]) / z
        return np.rint(np.stack([u, v], 1)).clip(-20000, 20000).astype(np.int32)

    def fill(self, points: Points, color: Color, label: str, finer: str = "") -> None:
        """Paint a polygon of a class into image, masks and depth."""
        polygon = [self.project(points)]
        cv2.fillPoly(self.image, polygon, color)
        cv2.fillPoly(self.mask, polygon, CLASS_IDS[label])
        cv2.fillPoly(self.finer, polygon, FINER[label].index(finer) if finer else NO_FINER)
        cv2.fillPoly(self.depth, polygon, float(points[:, 2].mean()))

    def shade(self, points: Points, color: Color) -> None:
        """Paint a polygon into the image only: a window, a marking, a shadow."""
        cv2.fillPoly(self.image, [self.project(points)], color)

    def disc(
        self,
        center: tuple[float, float, float],
        radius: float,
        color: Color,
        label: str,
        finer: str = "",
    ) -> None:
        """Paint a disc of a radius in metres that faces the camera."""
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        x, y, z = center
        rim = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle), np.full(14, z)], 1)
        self.fill(rim, color, label, finer)
