"""Masks in whatever form they are stored become class ids and 255, or one clear error."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig, MaskFormat
from segtune.data.reading.images import read_colors, read_mask
from segtune.errors import DataError


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one dataset.

    Attributes:
        config: says how ids or colours are stored, mapped and ignored.
    """

    config: DatasetConfig
    classes: ClassTable

    def read(self, data: bytes, name: str, form: MaskFormat | None = None) -> NDArray[np.uint8]:
        """Class ids and 255, (H, W).

        Args:
            name: of the file, for messages.
            form: how this mask is stored; None for `dataset.mask_format`.

        Raises:
            DataError: unreadable, or with ids or colours that the class table does not know.
        """
        form = form or self.config.mask_format
        if form == "index":
            stored = read_mask(data, name)
            ids = self.lookup[stored]
            if (ids < 0).any():
                raise DataError(self._unknown_ids(name, stored, ids))
            return np.asarray(ids, np.uint8)
        if form == "binary":
            bright = read_colors(data, name).max(2) >= 128
            return np.asarray(self.lookup[bright.astype(np.uint8)], np.uint8)
        return self._by_color(read_colors(data, name), name, exact=form == "rgb")

    @cached_property
    def lookup(self) -> NDArray[np.int16]:
        """Stored id -> class id, 255 for ignore, -1 for an id that the class table does not know."""
        table = np.full(256, -1, np.int16)
        shift = 1 if self.config.reduce_zero_label else 0
        table[shift : shift + len(self.classes)] = np.arange(len(self.classes))
        table[list(self.classes.ignore)] = IGNORE_INDEX
        if shift:
            table[0] = IGNORE_INDEX
        plain = table.copy()
        for stored, target in self.config.label_map.items():
            table[stored] = IGNORE_INDEX if target == IGNORE_INDEX else plain[target]
        return table

    def _by_color(self, pixels: NDArray[np.uint8], name: str, exact: bool) -> NDArray[np.uint8]:
        """Ids by colour; each distinct colour is looked up once."""
        packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        values, inverse = np.unique(packed, return_inverse=True)
        colors = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.int64)
        table = np.array(
            self.classes.palette + [tuple(c) for c in self.config.ignore_colors], np.int64
        )
        ids = np.array(
            [*range(len(self.classes)), *[IGNORE_INDEX] * len(self.config.ignore_colors)]
        )
        distance = ((colors[:, None] - table[None]) ** 2).sum(2)
        best = distance.argmin(1)
        if exact and distance.min(1).any():
            off = np.flatnonzero(distance.min(1))
            counts = np.bincount(inverse.ravel(), minlength=len(values))[off]
            first = off[counts.argmax()]
            raise DataError(
                f"mask '{name}' holds {len(off)} colours that are no class's, {counts.sum():,} px in all, most often "
                f"{colors[first].tolist()}. Those of dataset.classes and dataset.ignore_colors are allowed. Add it to "
                "one of them, or take the nearest colour with dataset.mask_format=rgb_nearest."
            )
        return np.asarray(ids[best][inverse].reshape(pixels.shape[:2]), np.uint8)

    def _unknown_ids(self, name: str, mask: NDArray[np.uint8], ids: NDArray[np.int16]) -> str:
        values, counts = np.unique(mask[ids < 0], return_counts=True)
        found = ", ".join(f"{v} ({c:,} px)" for v, c in zip(values[:8], counts[:8], strict=True))
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        looks = ""
        if set(np.unique(mask).tolist()) <= {0, 255}:
            looks = " It looks like a 0/255 mask: dataset.mask_format=binary makes 0 class 0 and 255 class 1."
        known = [int(i) for i in np.flatnonzero(self.lookup >= 0) if i not in self.classes.ignore]
        spans = (
            f"{known[0]}..{known[-1]}"
            if known == list(range(known[0], known[-1] + 1))
            else f"{known}"
        )
        ignored = ", ".join(str(i) for i in self.classes.ignore)
        return (
            f"mask '{name}' holds label {found}{more}, but dataset '{self.config.name}' names {spans} and ignores "
            f"{ignored}. Add a class, or map it: dataset.label_map={{{values[0]}: 255}}.{looks} "
            f"To see all of it: {command('check', dataset=self.config)}"
        )
