"""Values that interpolation leaves on the borders between the areas of a mask.

Resizing or turning a mask with interpolation gives border pixels values between those of both
sides. They look like ids, but no area holds them.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SQUARE = np.ones((3, 3), np.uint8)
_LEAST_INSIDE = 0.25  # of the pixels of a value that fills areas, with 3 x 3 neighbours of it
_NEAR = np.ones((13, 13), np.uint8)  # how far a kernel of Lanczos reaches, at twice the size
_MOST_VALUES = 2**15  # of a mask that is looked at
_FEWEST = 3  # values in between; one or two may be thin classes
_FEWEST_SHARE = 0.75  # of as many values in between as areas have
_MOST_THIN = 4  # times as many thin classes as areas have, such as layers
_BORDER_SHARE = 0.7  # of the pixels of values in between, that must lie at borders
_LEAST_GAP = 3  # between two ids; between 0 and 2 a border may be a class of its own
_SECOND_SHARE = 0.1  # of the pixels between two ids, that must have another value than most
_SHOWN = 6
RESIZE_AGAIN = "Export the masks again, and resize them with nearest neighbour alone."
MIXED = 0.06
"""Share of the borders, see `Crossings.mixed`, above which masks were interpolated."""


@dataclass
class ValuePlaces:
    """Where the values of one or several masks lie; a colour is its number `R << 16 | G << 8 | B`.

    Attributes:
        pixels: value -> pixels.
        inside: value -> pixels whose 3 x 3 neighbours hold it too.
        at_borders: value -> pixels that lie near two values of areas.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    at_borders: Counter[int] = field(default_factory=Counter)

    def add(self, other: "ValuePlaces") -> None:
        """Count the pixels of other masks too."""
        self.pixels.update(other.pixels)
        self.inside.update(other.inside)
        self.at_borders.update(other.at_borders)


@dataclass(frozen=True)
class Interpolation:
    """What shows that masks were resized with interpolation.

    Attributes:
        levels: values of areas, ascending.
        strays: values that lie on borders alone, ascending.
        pixels: how many hold a stray value.
    """

    levels: tuple[int, ...]
    strays: tuple[int, ...]
    pixels: int


def packed(pixels: NDArray[Any]) -> NDArray[Any]:
    """One number for each pixel: its value (H, W), or that of its colour (H, W, 3)."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32))


def value_places(pixels: NDArray[Any]) -> ValuePlaces:
    """Where the values of a mask lie; empty where it holds thousands of them.

    Args:
        pixels: whole numbers, (H, W).
    """
    values, ranks = np.unique(pixels, return_inverse=True)
    places = ValuePlaces()
    if len(values) > _MOST_VALUES:
        return places
    grid = ranks.reshape(pixels.shape).astype(np.float32)
    counts = np.bincount(ranks.ravel(), minlength=len(values))
    is_even = cv2.erode(grid, _SQUARE) == cv2.dilate(grid, _SQUARE)
    inside = np.bincount(ranks.ravel()[is_even.ravel()], minlength=len(values))
    is_level = (inside >= _LEAST_INSIDE * counts)[ranks.reshape(pixels.shape)]
    highest = cv2.dilate(np.where(is_level, grid, -1).astype(np.float32), _NEAR)
    lowest = cv2.erode(np.where(is_level, grid, len(values)).astype(np.float32), _NEAR)
    at_borders = np.bincount(ranks.ravel()[(highest > lowest).ravel()], minlength=len(values))
    for rank, value in enumerate(values.tolist()):
        places.pixels[value] = int(counts[rank])
        places.inside[value] = int(inside[rank])
        places.at_borders[value] = int(at_borders[rank])
    return places


def find_interpolation(places: ValuePlaces, known: Collection[int] = ()) -> Interpolation | None:
    """Tell interpolation by its many values that no area holds; None where there are few.

    Args:
        places: of all masks together.
        known: values that may be ids of classes, though they are thin.

    >>> mask = np.repeat(np.array([[0] * 5 + [25, 50, 75] + [100] * 5]), 5, axis=0)
    >>> find_interpolation(value_places(mask))
    Interpolation(levels=(0, 100), strays=(25, 50, 75), pixels=15)
    """
    shares = {value: places.inside[value] / count for value, count in places.pixels.items()}
    levels = sorted(value for value, share in shares.items() if share >= _LEAST_INSIDE)
    strays = sorted(value for value, share in shares.items() if share < _LEAST_INSIDE)
    unknown = set(strays) - set(known)
    fewest = max(_FEWEST, _FEWEST_SHARE * len(levels))
    is_many = len(unknown) >= fewest or len(strays) > _MOST_THIN * len(levels)
    pixels = sum(places.pixels[value] for value in strays)
    at_borders = sum(places.at_borders[value] for value in strays)
    if len(levels) < 2 or not is_many or at_borders < _BORDER_SHARE * pixels:
        return None
    return Interpolation(tuple(levels), tuple(strays), pixels)


def interpolation_words(found: Interpolation) -> str:
    """What masks hold, for a message that begins with them."""
    shown = ", ".join(map(str, found.strays[:_SHOWN])) + (
        ", …" if len(found.strays) > _SHOWN else ""
    )
    levels = ", ".join(map(str, found.levels[:_SHOWN]))
    levels += ", …" if len(found.levels) > _SHOWN else ""
    return (
        f"{len(found.strays)} values ({shown}; {found.pixels:,} px) that lie on borders between "
        f"areas of {levels} alone: they come from resizing or turning with interpolation, which "
        "mixes class ids"
    )


@dataclass
class Crossings:
    """How the borders of masks pass from one id to another.

    Attributes:
        codes: number of (lower id, higher id, id in between) -> places.
        borders: pixels at a border.
    """

    codes: Counter[int] = field(default_factory=Counter)
    borders: int = 0

    def add(self, other: "Crossings") -> None:
        """Count the borders of other masks too."""
        self.codes.update(other.codes)
        self.borders += other.borders

    @property
    def mixed(self) -> float:
        """Share of the borders, 0..1, that pass through different ids between those of both sides.

        A border between 0 and 5 that passes now through 2 and now through 3 was interpolated,
        though both are classes; thin layers and outlines have one id in between. It is 0.02 at most
        in CamVid's masks, also in small ones, and 0.12 or more after resizing with interpolation.

        >>> mask = np.array([[0, 0, 5, 5], [0, 2, 5, 5], [0, 3, 5, 5]], np.uint8).repeat(4, axis=0)
        >>> crossings(mask).mixed > MIXED, crossings(np.where(mask == 3, 2, mask)).mixed
        (True, 0.0)
        """
        by_pair: dict[int, list[int]] = {}
        for code, count in self.codes.items():
            by_pair.setdefault(code >> 8, []).append(count)
        mixed = sum(sum(counts) for counts in by_pair.values() if _are_several(counts))
        return mixed / max(1, self.borders)


def crossings(ids: NDArray[np.uint8]) -> Crossings:
    """How the borders of a mask, (H, W), pass from one id to another."""
    result = Crossings()
    grid = ids.astype(np.int64)
    for lines in (grid, grid.T):
        first, middle, last = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        low, high = np.minimum(first, last), np.maximum(first, last)
        is_between = (low < middle) & (middle < high) & (high - low >= _LEAST_GAP)
        found = (low << 16 | high << 8 | middle)[is_between]
        values, counts = np.unique(found, return_counts=True)
        result.codes.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        result.borders += int((first != middle).sum())
    return result


def _are_several(counts: Sequence[int]) -> bool:
    """Whether not nearly all places have one id."""
    return sum(counts) - max(counts) >= _SECOND_SHARE * sum(counts)
