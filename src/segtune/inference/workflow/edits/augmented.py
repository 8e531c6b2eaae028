"""Augmented reality: a virtual object on the ground, hidden by regions that are nearer."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.config.dataset_schema import Settings
from segtune.config.schema import Positive
from segtune.errors import ConfigError
from segtune.inference.regions.regions import Region
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits.common import (
    Byte,
    Camera,
    Facts,
    Names,
    Picture,
    over,
    select,
    soft_alpha,
    union_mask,
    window_around,
)

_FACES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))  # sides and lid


class Place(Settings):
    """Place a box, or a picture, on the ground; nearer regions hide it.

    Attributes:
        ground: names of concepts on which it may stand.
        at: position of its middle, in metres to the right and ahead.
        size: metres wide, tall and deep; a picture has no depth.
        color: RGB of the box.
        sprite: path of an RGBA picture that replaces the box.
        camera: converts metres to pixels.
    """

    do: Literal["place"]
    ground: Names = ["road"]
    at: tuple[float, Positive] = (0.0, 10.0)
    size: tuple[Positive, Positive, Positive] = (1.6, 1.6, 1.6)
    color: tuple[Byte, Byte, Byte] = (235, 120, 30)
    sprite: str | None = None
    camera: Camera = Camera()

    def names(self) -> list[str]:
        """Return all names that must be known."""
        return self.ground

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with the object and its shadow on the ground.

        The picture stays unchanged if the object does not stand on ground.
        """
        size = segmentation.mask.shape[0], segmentation.mask.shape[1]
        front_z = self.at[1] - (0 if self.sprite else self.size[2] / 2)
        u, v = (int(np.rint(c)) for c in self.camera.pixel(self.at[0], 0.0, self.at[1], size))
        ground = union_mask(select(regions, self.ground), size)
        nearer = self._nearer(regions, front_z, size)
        hiding = np.any([mask for _, mask in nearer], axis=0) if nearer else np.zeros(size, bool)
        is_inside = 0 <= v < size[0] and 0 <= u < size[1]
        is_placed = is_inside and bool(ground[v, u] or hiding[v, u])
        facts: Facts = {"placed": is_placed, "foot": [u, v], "hidden_by": []}
        if not is_placed:
            return picture, facts
        colours, alpha = self._sprite(size) if self.sprite else self._box(size)
        hidden_by = [region.id for region, mask in nearer if (mask & (alpha > 0)).any()]
        cover = np.zeros(size)
        if hidden_by:  # soft edges matter only around the object
            window = window_around(alpha, 8)
            cover[window] = soft_alpha(segmentation.image[window], hiding[window], 2)
        shadow = self._shadow(size) * ground
        shaded = np.rint(picture[..., :3] * (1 - 0.45 * shadow[..., None])).astype(np.uint8)
        shaded = np.concatenate([shaded, picture[..., 3:]], 2)
        visible = alpha * (1 - cover)
        total = float(alpha.sum())
        facts["hidden_by"] = hidden_by
        facts["visible_share"] = float(visible.sum() / total) if total else 0.0
        return over(colours, visible, shaded), facts

    def _nearer(
        self, regions: list[Region], z: float, size: tuple[int, int]
    ) -> list[tuple[Region, NDArray[np.bool_]]]:
        """Return the regions nearer than z metres, with their pixels (H, W) that are nearer.

        The lowest pixel of a column gives its distance, since a region may hold several things. A
        column that ends above the horizon, as of a tree's crown, takes the foot of the region.
        """
        nearer = []
        rows = np.arange(size[0])[:, None]
        horizon = self.camera.horizon * size[0]
        ground = select(regions, self.ground)
        for region in regions:
            if region in ground:
                continue
            mask = region.mask()
            feet = np.where(mask, rows, -1).max(0)
            feet = np.where(feet > horizon, feet, region.box[1] + region.box[3] - 1)
            distance = np.where(feet > horizon, self.camera.ground(0, feet, size)[1], np.inf)
            nearer_pixels = mask & (distance < z)[None]
            if nearer_pixels.any():
                nearer.append((region, nearer_pixels))
        return nearer

    def _corners(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """Return the pixels (8, 2) of the box's corners: the lower four, then the upper four.

        Each four go counter-clockwise from near left.
        """
        (x, z), (width, height, depth) = self.at, self.size
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)] * 2)
        corner_x = x + signs[:, 0] * width / 2
        corner_z = np.maximum(0.5, z + signs[:, 1] * depth / 2)
        u, v = self.camera.pixel(corner_x, np.repeat([0.0, height], 4), corner_z, size)
        return _rounded(u, v)

    def _box(self, size: tuple[int, int]) -> tuple[Picture, NDArray[np.float64]]:
        """Return colours and alpha of the box; its faces are drawn from far to near."""
        corners = self._corners(size)
        middle, half = self.at[1], self.size[2] / 2
        near = middle - half
        distance = {0: near, 1: middle, 2: middle + half, 3: middle, 4: middle}
        visible_side = 3 if self.at[0] > 0 else 1
        faces = [2, 4 - visible_side, 4, visible_side, 0]
        if near > 0.5:
            faces.sort(key=lambda face: -distance[face])
        colours, alpha = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
        for face in faces:
            light = {0: 1.0, 2: 0.5, 4: 1.25}.get(face, 0.7)
            color = tuple(int(min(255, c * light)) for c in self.color)
            polygon = corners[list(_FACES[face])]
            cv2.fillPoly(colours, [polygon], color, cv2.LINE_AA)
            cv2.fillPoly(alpha, [polygon], 255, cv2.LINE_AA)
        colours[alpha == 0] = 0
        return colours, alpha / 255.0

    def _sprite(self, size: tuple[int, int]) -> tuple[Picture, NDArray[np.float64]]:
        if not Path(str(self.sprite)).is_file():
            raise ConfigError(f"place.sprite={self.sprite}: no such file.")
        with Image.open(str(self.sprite)) as opened:
            pixels = np.asarray(opened.convert("RGBA"), np.uint8)
        (x, z), (width, height, _) = self.at, self.size
        left, top = (float(c) for c in self.camera.pixel(x - width / 2, height, z, size))
        right, foot = (float(c) for c in self.camera.pixel(x + width / 2, 0.0, z, size))
        scale_x, scale_y = (right - left) / pixels.shape[1], (foot - top) / pixels.shape[0]
        matrix = np.array([[scale_x, 0, left], [0, scale_y, top]])
        warped = cv2.warpAffine(pixels, matrix, size[::-1], flags=cv2.INTER_AREA)
        alpha = np.asarray(warped[..., 3] / 255.0, np.float64)
        return np.asarray(warped[..., :3], np.uint8), alpha

    def _shadow(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return a soft ellipse on the ground under the object, (H, W) in [0, 1]."""
        angles = np.linspace(0, 2 * np.pi, 32)
        x = self.at[0] + 0.75 * self.size[0] * np.cos(angles)
        z = np.maximum(0.5, self.at[1] + 0.75 * self.size[2] * np.sin(angles))
        u, v = self.camera.pixel(x, 0.0, z, size)
        shadow = np.zeros(size, np.float64)
        cv2.fillPoly(shadow, [_rounded(u, v)], 1.0)
        sigma = max(1.0, float(u.max() - u.min()) / 16)
        return np.asarray(cv2.GaussianBlur(shadow, (0, 0), sigma))


def _rounded(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return points (N, 2) for OpenCV, which overflows far outside the image."""
    return np.asarray(np.rint(np.stack([u, v], 1)).clip(-20000, 20000), np.int32)
