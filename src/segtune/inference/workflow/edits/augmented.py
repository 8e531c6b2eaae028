"""Augmented reality: a virtual object on the ground, behind whatever stands nearer."""

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
    area,
    chosen,
    over,
    soft_alpha,
)

_FACES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))  # sides and lid


class Place(Settings):
    """Stands a box, or a picture of something, on the ground; regions whose foot is nearer hide it.

    Attributes:
        ground: what it may stand on.
        at: metres to the right and ahead of its middle.
        size: metres wide, tall and deep; a picture takes the first two.
        color: of the box.
        sprite: path of an RGBA picture instead of the box.
        camera: that looks.
    """

    do: Literal["place"]
    ground: Names = ["road"]
    at: tuple[float, Positive] = (0.0, 10.0)
    size: tuple[Positive, Positive, Positive] = (1.6, 1.6, 1.6)
    color: tuple[Byte, Byte, Byte] = (235, 120, 30)
    sprite: str | None = None
    camera: Camera = Camera()

    def names(self) -> list[str]:
        """All names that must be known."""
        return self.ground

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture with the object, whose shadow falls on ground alone; untouched where there is no ground."""
        size = found.mask.shape[0], found.mask.shape[1]
        front = self.at[1] - (0 if self.sprite else self.size[2] / 2)
        u, v = (int(np.rint(c)) for c in self.camera.pixel(self.at[0], 0.0, self.at[1], size))
        ground = area(chosen(regions, self.ground), size)
        nearer = self._nearer(regions, front, size)
        hiding = np.any([m for _, m in nearer], axis=0) if nearer else np.zeros(size, bool)
        stands = 0 <= v < size[0] and 0 <= u < size[1] and bool(ground[v, u] or hiding[v, u])
        facts: Facts = {"placed": stands, "foot": [u, v], "hidden_by": []}
        if not stands:
            return picture, facts
        colours, alpha = self._sprite(size) if self.sprite else self._box(size)
        rows, columns = np.nonzero(alpha)
        hidden = [r for r, mask in nearer if (mask & (alpha > 0)).any()]
        cover = np.zeros(size)
        if hidden:  # edges matter where the object is seen
            around = np.s_[
                max(0, rows.min() - 8) : rows.max() + 9,
                max(0, columns.min() - 8) : columns.max() + 9,
            ]
            cover[around] = soft_alpha(found.image[around], hiding[around], 2)
        shadow = self._shadow(size) * ground
        shaded = np.rint(picture[..., :3] * (1 - 0.45 * shadow[..., None])).astype(np.uint8)
        shaded = np.concatenate([shaded, picture[..., 3:]], 2)
        shown = alpha * (1 - cover)
        total = float(alpha.sum())
        facts |= {
            "hidden_by": [r.id for r in hidden],
            "visible_share": float(shown.sum() / total) if total else 0.0,
        }
        return over(colours, shown, shaded), facts

    def _nearer(
        self, regions: list[Region], z: float, size: tuple[int, int]
    ) -> list[tuple[Region, NDArray[np.bool_]]]:
        """Regions that stand nearer than z metres, each with those of its pixels (H, W) that do.

        Column by column, as the lowest pixel says, for several things may share a region; a column that ends above the
        horizon, as of a crown, goes by the region's foot.
        """
        found = []
        rows = np.arange(size[0])[:, None]
        horizon = self.camera.horizon * size[0]
        for region in (r for r in regions if r not in chosen(regions, self.ground)):
            mask = region.mask()
            feet = np.where(mask, rows, -1).max(0)
            feet = np.where(feet > horizon, feet, region.box[1] + region.box[3] - 1)
            away = np.where(feet > horizon, self.camera.ground(0, feet, size)[1], np.inf)
            if (here := mask & (away < z)[None]).any():
                found.append((region, here))
        return found

    def _corners(self, size: tuple[int, int]) -> NDArray[np.int32]:
        """Pixels (8, 2) of the box's corners: the lower four, then the upper four, counter-clockwise from near left."""
        (x, z), (wide, tall, deep) = self.at, self.size
        turns = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)] * 2)
        across, ahead = x + turns[:, 0] * wide / 2, np.maximum(0.5, z + turns[:, 1] * deep / 2)
        u, v = self.camera.pixel(across, np.repeat([0.0, tall], 4), ahead, size)
        return np.asarray(np.rint(np.stack([u, v], 1)).clip(-20000, 20000), np.int32)

    def _box(self, size: tuple[int, int]) -> tuple[Picture, NDArray[np.float64]]:
        """Colours and alpha of the box, its faces from far to near and each in its own light."""
        corners = self._corners(size)
        near = self.at[1] - self.size[2] / 2
        depth = {
            0: near,
            1: self.at[1],
            2: self.at[1] + self.size[2] / 2,
            3: self.at[1],
            4: self.at[1],
        }
        flank = 3 if self.at[0] > 0 else 1  # the one that the camera sees
        order = [2, 4 - flank, 4, flank, 0]
        colours, alpha = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
        for face in sorted(order, key=lambda f: -depth[f]) if near > 0.5 else order:
            light = {0: 1.0, 2: 0.5, 4: 1.25}.get(face, 0.7)
            shade = tuple(int(min(255, c * light)) for c in self.color)
            cv2.fillPoly(colours, [corners[list(_FACES[face])]], shade, cv2.LINE_AA)
            cv2.fillPoly(alpha, [corners[list(_FACES[face])]], 255, cv2.LINE_AA)
        solid = alpha > 0
        colours[~solid] = 0
        return colours, alpha / 255.0

    def _sprite(self, size: tuple[int, int]) -> tuple[Picture, NDArray[np.float64]]:
        if not Path(str(self.sprite)).is_file():
            raise ConfigError(f"place.sprite={self.sprite}: no such file.")
        with Image.open(str(self.sprite)) as opened:
            pixels = np.asarray(opened.convert("RGBA"), np.uint8)
        (x, z), (wide, tall, _) = self.at, self.size
        left, top = (float(c) for c in self.camera.pixel(x - wide / 2, tall, z, size))
        right, foot = (float(c) for c in self.camera.pixel(x + wide / 2, 0.0, z, size))
        matrix = np.array(
            [[(right - left) / pixels.shape[1], 0, left], [0, (foot - top) / pixels.shape[0], top]]
        )
        laid = cv2.warpAffine(pixels, matrix, size[::-1], flags=cv2.INTER_AREA)
        return np.asarray(laid[..., :3], np.uint8), np.asarray(laid[..., 3] / 255.0, np.float64)

    def _shadow(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """A soft ellipse on the ground under the object, (H, W) in [0, 1]."""
        turn = np.linspace(0, 2 * np.pi, 32)
        x = self.at[0] + 0.75 * self.size[0] * np.cos(turn)
        z = np.maximum(0.5, self.at[1] + 0.75 * self.size[2] * np.sin(turn))
        u, v = self.camera.pixel(x, 0.0, z, size)
        dark = np.zeros(size, np.float64)
        cv2.fillPoly(dark, [np.rint(np.stack([u, v], 1)).clip(-20000, 20000).astype(np.int32)], 1.0)
        spread = max(1.0, float(u.max() - u.min()) / 16)
        return np.asarray(cv2.GaussianBlur(dark, (0, 0), spread))
