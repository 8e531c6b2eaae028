"""A window of an image and of its mask: zoomed, mirrored, turned, in one step."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX

FILL = (124, 116, 104)
"""ImageNet's mean colour, outside of the image: normalised, about 0."""

_TOLERANCE = 1e-6  # of a pixel: above floating-point errors, below the effect of one grey level


@dataclass(frozen=True)
class View:
    """A window of an image, resized.

    Attributes:
        size: (height, width) of the view.
        zoom: pixels of the view per pixel of the image.
        y: upper edge of the window, in pixels of the image; negative above the image.
        x: left edge of the window, in pixels of the image; negative left of the image.
        flip: whether the view is mirrored left to right.
        upside_down: whether the view is mirrored top to bottom.
        degrees: angle by which the view is turned about its centre, counter-clockwise.
    """

    size: tuple[int, int]
    zoom: float
    y: float
    x: float
    flip: bool
    upside_down: bool = False
    degrees: float = 0.0

    def warp_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of an image (h, w, 3), bilinear; it is grey outside of the image."""
        return image if self._is_whole(image) else self._warp(image, cv2.INTER_LINEAR, FILL)

    def warp_mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The view of a mask (h, w), by nearest neighbour.

        It is 255 wherever `warp_image` interpolates with pixels outside of the image.
        """
        if self._is_whole(mask):
            return mask
        view = self._warp(mask, cv2.INTER_NEAREST, IGNORE_INDEX)
        if self.degrees:
            view[self._is_outside(mask)] = IGNORE_INDEX
            return view
        for axis in (0, 1):
            positions, last = self._positions(axis), mask.shape[axis] - 1
            is_inside = (positions >= -_TOLERANCE) & (positions <= last + _TOLERANCE)
            inside = np.flatnonzero(is_inside)
            first, end = (inside[0], inside[-1] + 1) if len(inside) else (0, 0)
            along_axis = view if axis == 0 else view.T
            along_axis[:first] = along_axis[end:] = IGNORE_INDEX
        return view

    def _is_whole(self, array: NDArray[np.uint8]) -> bool:
        is_changed = self.flip or self.upside_down or self.degrees
        is_identity = (self.zoom, self.y, self.x) == (1.0, 0, 0) and not is_changed
        return is_identity and array.shape[:2] == self.size

    def _affine(self, axis: int) -> tuple[float, float]:
        """(step, start): pixel t of the view, not turned, lies at step * t + start in the image."""
        step, corner = 1 / self.zoom, self.y if axis == 0 else self.x
        if self.upside_down if axis == 0 else self.flip:
            step, corner = -step, corner + self.size[axis] / self.zoom
        return step, corner + 0.5 * step - 0.5  # pixel centres lie at 0.5

    def _positions(self, axis: int) -> NDArray[np.float64]:
        """Place in the image of each row (axis 0) or column (axis 1) of the view."""
        step, start = self._affine(axis)
        return np.asarray(step * np.arange(self.size[axis]) + start, np.float64)

    def _is_outside(self, array: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which pixels of a turned view are interpolated with pixels outside of the image."""
        to_source = self._to_source()
        rows, columns = np.ogrid[: self.size[0], : self.size[1]]
        is_outside = np.zeros(self.size, bool)
        for row, length in zip(to_source, array.shape[1::-1], strict=True):
            places = row[0] * columns + row[1] * rows + row[2]
            is_outside |= (places < -_TOLERANCE) | (places > length - 1 + _TOLERANCE)
        return is_outside

    def _to_source(self) -> NDArray[np.float64]:
        """The map (2, 3) of a pixel (x, y, 1) of the view to its place (x, y) in the image."""
        row_step, row_start = self._affine(0)
        column_step, column_start = self._affine(1)
        to_source = np.array([[column_step, 0, column_start], [0, row_step, row_start], [0, 0, 1]])
        if self.degrees:
            centre = ((self.size[1] - 1) / 2, (self.size[0] - 1) / 2)
            turn = cv2.getRotationMatrix2D(centre, -self.degrees, 1.0)
            to_source = to_source @ np.vstack([turn, [0, 0, 1]])
        return np.asarray(to_source[:2], np.float64)

    def _warp(
        self, array: NDArray[np.uint8], method: int, outside: int | tuple[int, int, int]
    ) -> NDArray[np.uint8]:
        flags, size = method | cv2.WARP_INVERSE_MAP, self.size[::-1]
        view = cv2.warpAffine(array, self._to_source(), size, flags=flags, borderValue=outside)
        return np.asarray(view, np.uint8)
