"""Helpers of edits: selecting regions, soft alpha, and the ground in front of a camera."""

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


class RegionEdit(Settings):
    """An edit of selected regions.

    Attributes:
        of: names of concepts or finer labels.
    """

    of: Names

    def names(self) -> list[str]:
        """Return all names that must be known."""
        return self.of

    def selected(self, regions: Iterable[Region]) -> list[Region]:
        """Return the regions of this edit."""
        return select(regions, self.of)


def select(regions: Iterable[Region], names: Sequence[str]) -> list[Region]:
    """Return the regions whose concept or finer label is one of the names."""
    return [r for r in regions if r.concept in names or r.label in names]


def union_mask(regions: Iterable[Region], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels (H, W) of all regions."""
    union = np.zeros(shape[:2], bool)
    for region in regions:
        union |= region.mask()
    return union


def soft_alpha(image: Picture, inside: NDArray[np.bool_], band: int) -> NDArray[np.float64]:
    """Return alpha (H, W) in [0, 1], soft within `band` pixels of the mask's edge.

    The method is closed-form matting (Levin et al., 2008).

    Args:
        inside: the mask (H, W).

    Raises:
        ConfigError: pymatting is not installed.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    mask = inside.astype(np.uint8)
    certain, possible = cv2.erode(mask, kernel, borderValue=1), cv2.dilate(mask, kernel)
    if not certain.any() or possible.all():
        return inside.astype(np.float64)  # matting needs certain pixels on both sides
    trimap = np.where(certain == 1, 1.0, np.where(possible == 1, 0.5, 0.0))
    window = window_around(possible, band)
    alpha = np.zeros(mask.shape)
    alpha[window] = matting().estimate_alpha_cf(image[window] / 255.0, trimap[window])
    return alpha


def window_around(mask: NDArray[Any], margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of the nonzero pixels, with a margin."""
    rows, columns = np.nonzero(mask)
    return (
        slice(max(0, rows.min() - margin), rows.max() + margin + 1),
        slice(max(0, columns.min() - margin), columns.max() + margin + 1),
    )


def foreground(image: Picture, alpha: NDArray[np.float64]) -> Picture:
    """Return the colours (H, W, 3) of the foreground without those of the background.

    The method is multi-level foreground estimation (Germer et al., 2020).
    """
    colours = matting().estimate_foreground_ml(image / 255.0, alpha)
    return np.asarray(np.rint(colours * 255).clip(0, 255), np.uint8)


def matting() -> Any:
    """Import pymatting.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pymatting
    except ImportError:
        raise ConfigError("soft edges need pymatting: pip install 'segtune[uses]'.") from None
    return pymatting


def fill_behind(image: Picture, hole: NDArray[np.bool_]) -> Picture:
    """Inpaint a hole of the image from its edges (Telea, 2004)."""
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(
        cv2.inpaint(np.ascontiguousarray(image), grown, 4, cv2.INPAINT_TELEA), np.uint8
    )


def over(front: Picture, alpha: NDArray[np.floating[Any]], back: Picture) -> Picture:
    """Blend the front (H, W, 3) over the back by alpha (H, W).

    If the back has an alpha channel, each pixel keeps the larger alpha.
    """
    weight = alpha[..., None]
    mixed: Picture = np.rint(front[..., :3] * weight + back[..., :3] * (1 - weight)).astype(
        np.uint8
    )
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
        """Return the position on the ground, in metres to the right and ahead, of pixels (u, v).

        Args:
            size: (height, width) of the image.
        """
        below = np.maximum(np.asarray(v) + 0.5 - self.horizon * size[0], 1e-6)
        z = self.focal * size[1] * self.height / below
        return (np.asarray(u) + 0.5 - size[1] / 2) * z / (self.focal * size[1]), z

    def pixel(self, x: Any, y: Any, z: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """Return the column and the row of a point, in pixels.

        Args:
            x: metres to the right.
            y: metres above the ground.
            z: metres ahead.
            size: (height, width) of the image.
        """
        focal, ahead = self.focal * size[1], np.maximum(z, 1e-3)
        u = size[1] / 2 + focal * np.asarray(x) / ahead
        return u - 0.5, self.horizon * size[0] + focal * (self.height - np.asarray(y)) / ahead - 0.5
