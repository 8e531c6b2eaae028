"""Read masks of any format as class ids and 255, or raise one clear error."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.commands import command, word
from segtune.config.dataset_schema import DatasetConfig, MaskFormat
from segtune.data.reading.blending import (
    RESIZE_AGAIN,
    Interpolation,
    find_interpolation,
    interpolation_words,
)
from segtune.data.reading.borders import Borders, borders_of
from segtune.data.reading.class_words import is_line
from segtune.data.reading.id_advice import advice
from segtune.data.reading.images import read_colors
from segtune.data.reading.mask_values import (
    FLAT_SHARE,
    flat_pixels,
    mask_values,
    object_pixels,
    opaque,
    refuse_hidden_object,
)
from segtune.errors import ConfigError, DataError, nearest

NEAR_COLOR = 60  # distance in RGB of a colour that JPEG or resizing has changed


def thin_ids(config: DatasetConfig, classes: ClassTable) -> frozenset[int]:
    """Ids of the classes that `dataset.thin_classes` names, or whose own name says a line.

    Raises:
        ConfigError: it names no class.
    """
    names = classes.names
    for name in config.thin_classes:
        if name not in names:
            raise ConfigError(f"dataset.thin_classes names '{name}': {nearest(name, names)}")
    thin = {*config.thin_classes, *filter(is_line, names)}
    return frozenset(names.index(name) for name in thin)


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one dataset.

    Attributes:
        config: how ids or colours are stored, mapped and ignored.
    """

    config: DatasetConfig
    classes: ClassTable

    def read(
        self,
        data: bytes,
        name: str,
        form: MaskFormat | None = None,
        look: Callable[[NDArray[Any]], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Read class ids and 255, (H, W) uint8.

        Args:
            data: bytes of the mask's file.
            name: of the file, for messages.
            form: format of this mask; None for `dataset.mask_format`.
            look: called with the stored ids, (H, W), of a mask of ids.

        Raises:
            DataError: the file cannot be read, or holds ids or colours that the class table does
                not know.
            ConfigError: ids are mapped, but masks hold colours.
        """
        form = form or self.config.mask_format
        if form.startswith("rgb"):
            self._refuse_unused_map()
            colors = read_colors(data, name, self.config.mask_variable)
            return self._by_color(colors, name, exact=form == "rgb")
        mask = mask_values(data, name, self.config.page, self.config.mask_variable)
        if form in ("binary", "alpha"):
            is_object = opaque(mask, name) if form == "alpha" else object_pixels(mask, name)
            return self._of_two_classes(is_object, name)
        refuse_hidden_object(mask, name)
        if mask.pixels.ndim == 3:
            raise DataError(
                f"mask '{name}' holds colours whose channels differ; class ids in one channel are "
                "expected. If its colours are those of dataset.classes: dataset.mask_format=rgb; "
                "else convert it to an index or palette PNG."
            )
        ids = self.ids_of(mask.pixels)
        if (ids < 0).any():
            raise DataError(self._unknown_ids(name, mask.pixels, ids))
        if look is not None:
            look(mask.pixels)
        return np.asarray(ids, np.uint8)

    def ids_of(self, stored: NDArray[Any]) -> NDArray[np.int16]:
        """Class ids of stored ids of any integer type; 255 if ignored, -1 if unknown."""
        if stored.dtype in (np.uint8, np.bool_):
            return np.asarray(self.lookup[stored.astype(np.uint8)])
        values, inverse = np.unique(stored, return_inverse=True)
        ids = np.full(len(values), -1, np.int16)
        for place, value in enumerate(values.tolist()):
            if 0 <= value <= 255:
                ids[place] = self.lookup[value]
            elif value in self.config.label_map:
                ids[place] = self._target(self.config.label_map[value])
        return np.asarray(ids[inverse].reshape(stored.shape))

    def interpolation_in(self, borders: Borders) -> Interpolation | None:
        """What shows that masks of ids were interpolated; borders of ignored ids do not count."""
        values = list(borders.pixels)
        known = self.ids_of(np.array(values, np.int64))
        stored = dict(zip(values, known.tolist(), strict=True))
        return find_interpolation(
            borders,
            known=[value for value, class_id in stored.items() if class_id >= 0],
            harmless=self.harmless(values),
        )

    def harmless(self, stored: Iterable[int]) -> list[int]:
        """Those of some stored ids that are ignored, or become a class of `thin_classes`."""
        values = list(stored)
        ids = self.ids_of(np.array(values, np.int64)).tolist()
        thin = {IGNORE_INDEX, *self.thin}
        return [value for value, class_id in zip(values, ids, strict=True) if class_id in thin]

    def thin_line(self, found: Interpolation) -> str:
        """The end of a message: the words that say that ids in between are classes of lines."""
        ids = self.ids_of(np.array(found.between, np.int64)).tolist()
        places = sorted(i for i in {*ids, *self.thin} if i < len(self.classes))
        if not places or places[0] < 0:
            return ""
        classes = [self.classes.names[place] for place in places]
        words = shlex.quote(word("dataset.thin_classes", classes))
        return f" If these are classes of thin lines or layers: {words}"

    @cached_property
    def thin(self) -> frozenset[int]:
        """Ids of the classes of thin lines; see `thin_ids`."""
        return thin_ids(self.config, self.classes)

    def _of_two_classes(self, is_object: NDArray[np.bool_], name: str) -> NDArray[np.uint8]:
        """Class 1 for the object, class 0 for the rest, as mapped by `label_map`."""
        ids = self.lookup[is_object.astype(np.uint8)]
        if (self.lookup[:2] < 0).any():
            raise DataError(
                f"mask '{name}' is read as an object (id 1) and its background (id 0), but dataset "
                f"'{self.config.name}' has the one class '{self.classes.names[0]}'. Name both: "
                f"'dataset.classes=[background,{self.classes.names[-1]}]'."
            )
        return np.asarray(ids, np.uint8)

    @cached_property
    def lookup(self) -> NDArray[np.int16]:
        """(256,) class id of each stored id; 255 if ignored, -1 if the class table lacks it."""
        table = self._unmapped.copy()
        for stored, target in self.config.label_map.items():
            if 0 <= stored <= 255:
                table[stored] = self._target(target)
        return table

    def _target(self, target: int) -> int:
        """Class id of an id to which `label_map` maps."""
        return IGNORE_INDEX if target == IGNORE_INDEX else int(self._unmapped[target])

    @cached_property
    def _unmapped(self) -> NDArray[np.int16]:
        """The lookup table without `label_map`."""
        table = np.full(256, -1, np.int16)
        shift = 1 if self.config.reduce_zero_label else 0
        table[shift : shift + len(self.classes)] = np.arange(len(self.classes))
        table[list(self.classes.ignore)] = IGNORE_INDEX
        if shift:
            table[0] = IGNORE_INDEX
        return table

    def _refuse_unused_map(self) -> None:
        config = self.config
        keys = [key for key in ("label_map", "reduce_zero_label") if getattr(config, key)]
        if keys and config.mask_format.startswith("rgb"):
            raise ConfigError(
                f"dataset.{keys[0]} has no effect on dataset.mask_format={config.mask_format}, "
                "which finds classes by their colours. Leave it out. To ignore a colour: "
                "'dataset.ignore_colors=[[224,224,192]]'."
            )

    def _by_color(self, pixels: NDArray[np.uint8], name: str, exact: bool) -> NDArray[np.uint8]:
        """Ids by the nearest colour; each distinct colour is looked up once."""
        packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        values, inverse = np.unique(packed, return_inverse=True)
        colors = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.int64)
        ignored = [tuple(c) for c in self.config.ignore_colors]
        table = np.array(self.classes.palette + ignored, np.int64)
        ids = np.array([*range(len(self.classes)), *[IGNORE_INDEX] * len(ignored)])
        distance = ((colors[:, None] - table[None]) ** 2).sum(2)
        unknown = np.flatnonzero(distance.min(1)) if exact else ()
        if len(unknown):
            counts = np.bincount(inverse.ravel(), minlength=len(values))[unknown]
            most_frequent = colors[unknown[counts.argmax()]]
            is_near = distance[unknown].min() <= NEAR_COLOR**2
            nearest = "If JPEG or resizing changed the colours, dataset.mask_format=rgb_nearest"
            more = f" {nearest} takes the nearest one." if is_near else ""
            raise DataError(
                f"mask '{name}' holds {len(unknown)} colours that are no class's, "
                f"{counts.sum():,} px in all, most often {most_frequent.tolist()}. Those of "
                "dataset.classes and dataset.ignore_colors are allowed. Add each to one of "
                f"them.{more}"
            )
        if not exact:
            far = (distance.min(1) > NEAR_COLOR**2)[inverse].reshape(packed.shape)
            self._refuse_areas(packed, far, name)
        return np.asarray(ids[distance.argmin(1)][inverse].reshape(pixels.shape[:2]), np.uint8)

    def _refuse_areas(self, colors: NDArray[Any], is_far: NDArray[np.bool_], name: str) -> None:
        """Refuse areas of a colour that no class is near: it may be a class of its own.

        Args:
            colors: the number of each pixel's colour, (H, W).
            is_far: pixels whose colour is far from all known ones, (H, W).
        """
        if is_far.sum() <= FLAT_SHARE * colors.size:
            return
        ranks = np.unique(colors, return_inverse=True)[1].reshape(colors.shape)
        values, counts = np.unique(colors[is_far & flat_pixels(ranks)], return_counts=True)
        if counts.sum() <= FLAT_SHARE * colors.size:
            return
        number = int(values[counts.argmax()])
        color = [number >> 16, number >> 8 & 255, number & 255]
        ignored = word("dataset.ignore_colors", [*self.config.ignore_colors, color])
        raise DataError(
            f"mask '{name}' holds areas of the colour {color} "
            f"({int((colors == number).sum()):,} px), which is far from those of all classes. "
            f"Add it to dataset.classes, or ignore it: {shlex.quote(ignored)}"
        )

    def _unknown_ids(self, name: str, mask: NDArray[Any], ids: NDArray[np.int16]) -> str:
        values, counts = np.unique(mask[ids < 0], return_counts=True)
        pairs = zip(values[:8], counts[:8], strict=True)
        labels = ", ".join(f"{value} ({count:,} px)" for value, count in pairs)
        if len(values) > 8:
            labels += f" and {len(values) - 8} more"
        stored = np.unique(mask).tolist()
        help_text = advice(values.tolist(), stored, self.config, self.classes)
        blend = find_interpolation(borders_of(mask), [v for v in stored if v not in values])
        if blend is not None and blend.is_certain:
            help_text = f"It holds {interpolation_words(blend)}. {RESIZE_AGAIN}"
        known = [int(i) for i in np.flatnonzero(self.lookup >= 0) if i not in self.classes.ignore]
        is_range = known == list(range(known[0], known[-1] + 1))
        allowed = f"{known[0]}..{known[-1]}" if is_range else f"{known}"
        ignored = ", ".join(str(i) for i in self.classes.ignore)
        return (
            f"mask '{name}' holds label {labels}, but dataset '{self.config.name}' names {allowed} "
            f"and ignores {ignored}. {help_text} "
            f"To see all of it: {command('check', dataset=self.config)}"
        )
