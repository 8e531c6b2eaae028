"""Image editing: cut out, blur, replace, remove or move what was segmented, with edges that follow the image."""

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
    Chosen,
    Facts,
    Picture,
    area,
    chosen,
    fill_behind,
    foreground,
    over,
    soft_alpha,
)


class Soft(Chosen):
    """An edit whose edge is soft.

    Attributes:
        rest: take everything but the chosen regions.
        band: pixels on both sides of the mask's edge in which alpha is estimated.
    """

    rest: bool = False
    band: Band = 4

    def alpha(self, found: Segmentation, regions: list[Region]) -> np.ndarray:
        """Alpha (H, W) in [0, 1] of what is meant."""
        inside = soft_alpha(
            found.image, area(chosen(regions, self.of), found.mask.shape), self.band
        )
        return 1 - inside if self.rest else inside


class CutOut(Soft):
    """Removes what is not chosen: an RGBA picture, whose colours hold no background."""

    do: Literal["cut_out"]

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture with an alpha channel."""
        alpha = self.alpha(found, regions)
        colours = foreground(picture[..., :3], alpha) if alpha.any() else picture[..., :3]
        return np.dstack([colours, np.rint(alpha * 255).astype(np.uint8)]), {
            "opaque_share": float(alpha.mean())
        }


class Blur(Soft):
    """Blurs the chosen regions, or with `rest` everything else.

    Attributes:
        sigma: of the Gaussian, in pixels.
    """

    do: Literal["blur"]
    sigma: Positive = 6.0

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture, part of it blurred; what stays sharp does not bleed into the blur."""
        alpha = self.alpha(found, regions)
        weight = cv2.GaussianBlur(alpha, (0, 0), self.sigma)[..., None]
        spread = cv2.GaussianBlur(picture[..., :3] * alpha[..., None], (0, 0), self.sigma)
        blurred = np.where(weight > 1e-3, spread / np.maximum(weight, 1e-3), picture[..., :3])
        return over(np.rint(blurred.clip(0, 255)).astype(np.uint8), alpha, picture), {}


class Replace(Soft):
    """Puts a colour or another image in the place of the chosen regions, or with `rest` of everything else.

    Attributes:
        color: RGB; for `image`, what is seen where that has none.
        image: path of a picture, brought to the image's size.
    """

    do: Literal["replace"]
    color: tuple[Byte, Byte, Byte] = (255, 255, 255)
    image: str | None = None

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture, part of it replaced."""
        alpha = self.alpha(found, regions)
        height, width = picture.shape[:2]
        other = np.full((height, width, 3), self.color, np.uint8)
        if self.image is not None:
            if not Path(self.image).is_file():
                raise ConfigError(f"replace.image={self.image}: no such file.")
            other = np.asarray(
                cv2.resize(read_image(self.image), (width, height), interpolation=cv2.INTER_AREA)
            )
        kept = (
            picture[..., :3]
            if alpha.all() or not alpha.any()
            else foreground(picture[..., :3], 1 - alpha)
        )
        return over(
            other, alpha, np.dstack([kept, picture[..., 3]]) if picture.shape[2] == 4 else kept
        ), {}


class Remove(Chosen):
    """Takes the chosen regions out; what was behind is guessed from around them."""

    do: Literal["remove"]

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture without them."""
        gone = chosen(regions, self.of)
        filled = (
            fill_behind(picture[..., :3], area(gone, found.mask.shape))
            if gone
            else picture[..., :3]
        )
        rest = picture[..., 3:]
        return np.concatenate([filled, rest], 2), {"removed": [r.id for r in gone]}


class Move(Chosen):
    """Moves the largest of the chosen regions.

    Attributes:
        by: pixels to the right and down, as shares of the image's width and height.
        scale: its new size over its old, about the middle of its lower edge.
        keep: leave the original where it is, too.
    """

    do: Literal["move"]
    by: tuple[float, float]
    scale: Positive = 1.0
    keep: bool = False
    band: Band = 4

    def apply(
        self, picture: Picture, found: Segmentation, regions: list[Region]
    ) -> tuple[Picture, Facts]:
        """The picture with the object elsewhere."""
        there = chosen(regions, self.of)
        if not there:
            return picture, {"moved": None}
        one = max(there, key=lambda r: r.area_share)
        alpha = soft_alpha(found.image, one.mask(), self.band)
        front = foreground(picture[..., :3], alpha)
        back = picture[..., :3] if self.keep else fill_behind(picture[..., :3], alpha > 0.02)
        height, width = alpha.shape
        x, y, wide, tall = one.box
        foot, right, down = (x + wide / 2, y + tall), self.by[0] * width, self.by[1] * height
        matrix = np.array(
            [
                [self.scale, 0, foot[0] * (1 - self.scale) + right],
                [0, self.scale, foot[1] * (1 - self.scale) + down],
            ]
        )
        shifted = np.asarray(cv2.warpAffine(front, matrix, (width, height)), np.uint8)
        laid = over(
            shifted, np.asarray(cv2.warpAffine(alpha, matrix, (width, height)), np.float64), back
        )
        return np.concatenate([laid, picture[..., 3:]], 2), {
            "moved": one.id,
            "by": [round(right), round(down)],
        }
