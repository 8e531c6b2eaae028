"""What edits share: which regions they are about, soft alpha, and the ground seen through a camera."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from segtune.config.dataset_schema import Count, Settings
from segtune.config.schema import Positive
from segtune.errors import ConfigError
from segtune.inference.regions.regions import Region

Picture = NDArray[np.uint8]
Byte = Annotated[int, Field(ge=0, le=255)]
Band = Annotated[Count, Field(le=64)]
Facts = dict[str, Any]
Names = Annotated[list[str], Field(min_length=1)]
"""Concepts or finer labels."""


class Chosen(Settings):
    """An edit of chosen regions.

    Attributes:
        of: names of concepts or finer labels.
    """

    of: Names

    def names(self) -> list[str]:
        """All names that must be known."""
        return self.of


def chosen(regions: Iterable[Region], names: Sequence[str]) -> list[Region]:
    """Regions whose concept or finer label is among the names."""
    return [r for r in regions if r.concept in names or r.label in names]


def area(regions: Iterable[Region], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels (H, W) of regions."""
    whole = np.zeros(shape[:2], bool)
    for region in regions:
        whole |= region.mask()
    return whole


def soft_alpha(image: Picture, inside: NDArray[np.bool_], band: int) -> NDArray[np.float64]:
    """Alpha (H, W) in [0, 1]: closed-form matting (Levin et al., 2008) within `band` pixels of the mask's edge.

    Raises:
        ConfigError: pymatting is not installed.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    mask = inside.astype(np.uint8)
    sure, maybe = cv2.erode(mask, kernel, borderValue=1), cv2.dilate(mask, kernel)
    if not sure.any() or maybe.all():
        return inside.astype(np.float64)  # nothing to be sure of: the mask itself
    trimap = np.where(sure == 1, 1.0, np.where(maybe == 1, 0.5, 0.0))
    rows, columns = np.nonzero(maybe)
    around = np.s_[
        max(0, rows.min() - band) : rows.max() + band + 1,
        max(0, columns.min() - band) : columns.max() + band + 1,
    ]
    alpha = np.zeros(mask.shape)
    alpha[around] = matting().estimate_alpha_cf(image[around] / 255.0, trimap[around])
    return alpha


def foreground(image: Picture, alpha: NDArray[np.float64]) -> Picture:
    """The colours (H, W, 3) of what alpha shows, without the background that shines through (Germer et al., 2020)."""
    found = matting().estimate_foreground_ml(image / 255.0, alpha)
    return np.asarray(np.rint(found * 255).clip(0, 255), np.uint8)


def matting() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pymatting
    except ImportError:
        raise ConfigError("soft edges need pymatting: pip install 'segtune[uses]'.") from None
    return pymatting


def fill_behind(image: Picture, hole: NDArray[np.bool_]) -> Picture:
    """The image with a hole painted over from its edges (Telea, 2004)."""
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(
        cv2.inpaint(np.ascontiguousarray(image), grown, 4, cv2.INPAINT_TELEA), np.uint8
    )


def over(front: Picture, alpha: NDArray[np.floating[Any]], back: Picture) -> Picture:
    """The front (H, W, 3) laid over the back by alpha (H, W); a back with an alpha channel keeps the larger one."""
    share = alpha[..., None]
    mixed: Picture = np.rint(front[..., :3] * share + back[..., :3] * (1 - share)).astype(np.uint8)
    if back.shape[2] == 3:
        return mixed
    opaque = np.maximum(back[..., 3], np.rint(alpha * 255)).astype(np.uint8)
    return np.asarray(np.dstack([mixed, opaque]), np.uint8)


class Camera(Settings):
    """A level camera over flat ground.

    Attributes:
        height: metres above the ground.
        focal: focal length as a share of the image's width.
        horizon: row of the horizon as a share of the image's height.
    """

    height: Positive = 1.8
    focal: Positive = 0.9
    horizon: Annotated[float, Field(ge=0, lt=1)] = 0.43

    def ground(self, u: Any, v: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Metres to the right and ahead of the ground that pixels (u, v) of an image (height, width) show."""
        below = np.maximum(np.asarray(v) + 0.5 - self.horizon * size[0], 1e-6)
        z = self.focal * size[1] * self.height / below
        return (np.asarray(u) + 0.5 - size[1] / 2) * z / (self.focal * size[1]), z

    def pixel(self, x: Any, y: Any, z: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Columns and rows at which a point x to the right, y above the ground and z ahead, in metres, is seen."""
        focal, ahead = self.focal * size[1], np.maximum(z, 1e-3)
        u = size[1] / 2 + focal * np.asarray(x) / ahead
        return u - 0.5, self.horizon * size[0] + focal * (self.height - np.asarray(y)) / ahead - 0.5
