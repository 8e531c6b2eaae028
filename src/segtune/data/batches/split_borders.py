"""Refuse splits whose masks were interpolated, so that borders hold ids of other classes."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.data.reading.blending import (
    RESIZE_AGAIN,
    between_words,
    interpolation_words,
    is_in_order,
)
from segtune.data.reading.borders import Borders, borders_of
from segtune.data.source.layout import Source
from segtune.errors import DataError


@dataclass
class MaskLook:
    """Receives the stored ids of one mask, while it is read."""

    borders: Borders = field(default_factory=Borders)

    def __call__(self, stored: NDArray[Any]) -> None:
        """Keep how the borders of the ids run, (H, W)."""
        self.borders = borders_of(stored)

    def refuse(self, source: Source, name: str) -> None:
        """Refuse the mask if nothing but interpolation explains its borders.

        Raises:
            DataError: it names the mask, and what to do.
        """
        found = source.masks.interpolation_in(self.borders)
        if found is not None and found.is_certain:
            raise DataError(
                f"mask '{name}' holds {interpolation_words(found)}. {RESIZE_AGAIN}"
                f"{source.masks.thin_line(found)} "
                f"To see all: {command('check', dataset=source.config)}"
            )


@dataclass
class SplitBorders:
    """The borders of all masks of a split.

    Attributes:
        in_order: masks whose borders pass through values in between.
    """

    borders: Borders = field(default_factory=Borders)
    masks: int = 0
    in_order: int = 0

    def add(self, borders: Borders) -> None:
        """Count those of one mask."""
        self.borders.add(borders)
        self.masks += 1
        self.in_order += is_in_order(borders)

    def note(self, source: Source, split: str) -> str:
        """A note on masks that may have been interpolated; empty where there is nothing to say.

        Raises:
            DataError: nothing else explains their borders, in more than `dataset.tolerance` of
                the masks.
        """
        found = source.masks.interpolation_in(self.borders)
        if found is None:
            return ""
        where = f"dataset '{source.name}', split '{split}': the masks hold "
        if not found.is_certain:
            return f"{where}{between_words(found)}. {RESIZE_AGAIN}{source.masks.thin_line(found)}"
        if self.in_order <= source.config.tolerance * self.masks:
            return ""
        raise DataError(
            f"{where}{interpolation_words(found)}. {RESIZE_AGAIN}{source.masks.thin_line(found)}"
        )
