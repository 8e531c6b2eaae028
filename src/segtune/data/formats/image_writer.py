"""Write one image of annotations with its mask into the canonical layout."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    ClassRow,
    LabelledImage,
    annotation_options,
    draw_areas,
    paint,
)
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.overlaps import Counts, hidden_pixels, no_pixels
from segtune.data.formats.shapes import oriented
from segtune.data.reading.borders import Borders, borders_of
from segtune.data.reading.images import stored_size
from segtune.errors import DataError

UNDIVIDED = ".all"
"""Folder of images without a split, until they are divided."""


@dataclass(frozen=True)
class Written:
    """Facts of an image that was written.

    Attributes:
        shown: which classes it shows, (C,).
        hidden: how many pixels are hidden.
        bad_shapes: the message on each shape that was left out.
        specks: the place of each shape that covers one pixel or none.
        is_one_class: whether a mask file holds the first class and ignored pixels alone.
        borders: how the borders of a mask file's classes run; None for drawn areas.
    """

    shown: NDArray[np.bool_]
    hidden: Counts
    bad_shapes: Sequence[str]
    specks: Sequence[str]
    is_one_class: bool = False
    borders: Borders | None = None


@dataclass(frozen=True)
class ImageWriter:
    """Writes images with their masks into the canonical layout."""

    folder: Path
    classes: Sequence[ClassRow]
    config: DatasetConfig
    link: bool

    @property
    def has_finer(self) -> bool:
        return any(row.get("finer") for row in self.classes)

    def write(self, image: LabelledImage, with_overlaps: bool) -> Written:
        """Write one image; shapes that cannot be drawn are left out.

        Args:
            with_overlaps: count hidden pixels, which takes time.
        """
        left_out = LeftOut()
        data = image.data() if image.data is not None else None
        mask, finer, hidden = self._masks(image, data, with_overlaps, left_out)
        split = image.split or UNDIVIDED
        suffix = image.image.suffix.lower()
        target = self.folder / "images" / split / f"{image.name}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(data)
        else:
            self._place(image.image, target)
        save_mask(self.folder / "masks" / split / f"{image.name}.png", mask)
        if finer is not None and self.has_finer:
            save_mask(self.folder / "finer" / split / f"{image.name}.png", finer)
        counts = np.bincount(mask.ravel(), minlength=256)
        is_one_class = image.mask is not None and bool(counts[IGNORE_INDEX] and counts[0])
        is_one_class &= not counts[1:IGNORE_INDEX].any()
        shown = counts[: len(self.classes)] > 0
        borders = borders_of(mask) if image.mask is not None else None
        return Written(shown, hidden, left_out.bad_shapes, left_out.specks, is_one_class, borders)

    def _masks(
        self, image: LabelledImage, data: bytes | None, with_overlaps: bool, left_out: LeftOut
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, Counts]:
        """Class ids and finer ids of the image as it is shown, upright; and hidden pixels."""
        hidden = no_pixels(len(self.classes))
        height, width, orientation = stored_size(
            image.image if data is None else data, str(image.image)
        )
        stored = (height, width)
        upright = stored[::-1] if orientation >= 5 else stored
        if image.mask is not None:
            mask, finer = image.mask(), None
        else:
            size = image.size or upright
            if size not in (upright, stored):
                raise DataError(
                    f"'{image.image}' is {upright[1]} x {upright[0]} pixels, but its annotations "
                    f"are for {size[1]} x {size[0]}. Export the annotations of this very image."
                )
            options = annotation_options(self.config)
            drawn = draw_areas(image.areas, size, left_out)
            mask, finer = paint(drawn, size, self.classes, options)
            if with_overlaps:
                hidden = hidden_pixels(drawn, mask, self.classes, options)
            if size != upright:  # drawn on the stored pixels, which EXIF turns
                mask, finer = oriented(mask, orientation), oriented(finer, orientation)
        if mask.shape != upright:
            raise DataError(
                f"the mask of '{image.image}' is {mask.shape[1]} x {mask.shape[0]}, the image "
                f"{upright[1]} x {upright[0]} pixels; both must have one size."
            )
        return mask, finer, hidden

    def _place(self, source: Path, target: Path) -> None:
        """Link the file, or copy it where links are not wanted or not possible."""
        if self.link:
            try:
                os.symlink(source.absolute(), target)
                return
            except OSError:
                pass  # a file system without links
        shutil.copyfile(source, target)


def save_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask as PNG, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
