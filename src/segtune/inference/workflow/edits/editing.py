"""Image editing: cut out, blur, replace, remove or move regions, with soft edges."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segtune.config.schema import Positive
from segtune.data.reading.images import read_image
from segtune.errors import ConfigError
from segtune.inference.regions.regions import Region
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits.common import (
    Band,
    Byte,
    Facts,
    Picture,
    RegionEdit,
    fill_behind,
    foreground,
    over,
    soft_alpha,
    union_mask,
)


class SoftEdit(RegionEdit):
    """An edit with a soft edge.

    Attributes:
        rest: edit everything but the selected regions.
        band: pixels on both sides of the mask's edge in which alpha is estimated.
    """

    rest: bool = False
    band: Band = 4

    def alpha(self, segmentation: Segmentation, regions: list[Region]) -> np.ndarray:
        """Return alpha (H, W) in [0, 1] of the edited area."""
        mask = union_mask(self.selected(regions), segmentation.mask.shape)
        alpha = soft_alpha(segmentation.image, mask, self.band)
        return 1 - alpha if self.rest else alpha


class CutOut(SoftEdit):
    """Cut out the selected regions: an RGBA picture whose colours are free of the background."""

    do: Literal["cut_out"]

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with an alpha channel."""
        alpha = self.alpha(segmentation, regions)
        colours = foreground(picture[..., :3], alpha) if alpha.any() else picture[..., :3]
        cut_out = np.dstack([colours, np.rint(alpha * 255).astype(np.uint8)])
        return cut_out, {"opaque_share": float(alpha.mean())}


class Blur(SoftEdit):
    """Blur the selected regions, or with `rest` everything else.

    Attributes:
        sigma: standard deviation of the Gaussian, in pixels.
    """

    do: Literal["blur"]
    sigma: Positive = 6.0

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the blurred picture; sharp parts do not bleed into the blur."""
        alpha = self.alpha(segmentation, regions)
        weight = cv2.GaussianBlur(alpha, (0, 0), self.sigma)[..., None]
        spread = cv2.GaussianBlur(picture[..., :3] * alpha[..., None], (0, 0), self.sigma)
        blurred = np.where(weight > 1e-3, spread / np.maximum(weight, 1e-3), picture[..., :3])
        return over(np.rint(blurred.clip(0, 255)).astype(np.uint8), alpha, picture), {}


class Replace(SoftEdit):
    """Replace the selected regions, or with `rest` everything else, by a colour or an image.

    Attributes:
        color: RGB.
        image: path of a picture; it is resized to the image's size.
    """

    do: Literal["replace"]
    color: tuple[Byte, Byte, Byte] = (255, 255, 255)
    image: str | None = None

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with the replacement."""
        alpha = self.alpha(segmentation, regions)
        back = picture
        if alpha.any() and not alpha.all():
            colours = foreground(picture[..., :3], 1 - alpha)
            back = np.concatenate([colours, picture[..., 3:]], 2)
        return over(self._replacement(*picture.shape[:2]), alpha, back), {}

    def _replacement(self, height: int, width: int) -> Picture:
        if self.image is None:
            return np.full((height, width, 3), self.color, np.uint8)
        if not Path(self.image).is_file():
            raise ConfigError(f"replace.image={self.image}: no such file.")
        image = read_image(self.image)
        return np.asarray(
            cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )


class Remove(RegionEdit):
    """Remove the selected regions; the background is inpainted."""

    do: Literal["remove"]

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture without the regions."""
        removed = self.selected(regions)
        colours = picture[..., :3]
        if removed:
            colours = fill_behind(colours, union_mask(removed, segmentation.mask.shape))
        facts = {"removed": [r.id for r in removed]}
        return np.concatenate([colours, picture[..., 3:]], 2), facts


class Move(RegionEdit):
    """Move the largest of the selected regions.

    Attributes:
        by: pixels to the right and down, as shares of the image's width and height.
        scale: new size over old size, around the middle of its lower edge.
        keep: keep the original, too.
    """

    do: Literal["move"]
    by: tuple[float, float]
    scale: Positive = 1.0
    keep: bool = False
    band: Band = 4

    def apply(
        self, picture: Picture, segmentation: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """Return the picture with the moved region."""
        selected = self.selected(regions)
        if not selected:
            return picture, {"moved": None}
        region = max(selected, key=lambda r: r.area_share)
        alpha = soft_alpha(segmentation.image, region.mask(), self.band)
        colours = picture[..., :3]
        front = foreground(colours, alpha)
        back = colours if self.keep else fill_behind(colours, alpha > 0.02)
        height, width = alpha.shape
        right, down = self.by[0] * width, self.by[1] * height
        matrix = self._matrix(region, right, down)
        moved = np.asarray(cv2.warpAffine(front, matrix, (width, height)), np.uint8)
        moved_alpha = np.asarray(cv2.warpAffine(alpha, matrix, (width, height)), np.float64)
        colours = over(moved, moved_alpha, back)
        facts = {"moved": region.id, "by": [round(right), round(down)]}
        return np.concatenate([colours, picture[..., 3:]], 2), facts

    def _matrix(self, region: Region, right: float, down: float) -> np.ndarray:
        """Return the affine matrix (2, 3) that scales the region around its foot and shifts it."""
        x, y, width, height = region.box
        foot_x, foot_y = x + width / 2, y + height
        return np.array(
            [
                [self.scale, 0, foot_x * (1 - self.scale) + right],
                [0, self.scale, foot_y * (1 - self.scale) + down],
            ]
        )
