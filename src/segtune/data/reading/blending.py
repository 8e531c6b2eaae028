"""Tell masks that were resized, turned or smoothed with interpolation from masks of thin classes.

Interpolation gives border pixels values between those of both sides: they look like ids of other
classes. Lines, outlines and noise lie between areas as well. Four shares tell them apart; all are
counted along rows and columns, where a line passes from one area to the next (`passages`).

- `order`: of the passages between areas whose values differ by two or more, those through values
  that rise or fall from one side to the other. Interpolation leaves few areas that touch; in masks
  that were never interpolated it is 0.13 at most, unless a class is a line.
- `beyond_chance`: how much more often the value in the middle lies between both sides than a value
  drawn from all such middles does, as Cohen's kappa: 1 is always, 0 as by chance. An outline has
  one value, whatever the sides are, and so 0; noise too. Layers of ascending ids have 1. It is not
  known where nearly all values lie between both sides, as between 0 and 255.
- `specks`: of the connected pieces of one value on such borders, those of four pixels at most. A
  class of lines has long pieces; interpolated values change along a border.
- `full`: of the passages in order, those through every whole number in between, as between 0 and 2:
  these may be layers of classes as well.
"""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segtune.data.reading.borders import Borders, Passage, unpacked
from segtune.data.reading.passages import Kind
from segtune.runtime.percent import percent

_LEAST_ORDER = 0.06  # below, too few pixels are wrong to matter
_MOST_BORDERS = 0.4  # share in order from which a value lies along most borders
_BEYOND_CHANCE = 0.18  # masks that were not interpolated have 0.02 at most, but for layers
_KNOWN_CHANCE = 0.9  # above it, chance explains everything
_RAGGED = 0.5  # share of specks
_RAGGED_LITTLE = 0.25  # the same, around upright boxes; single outlines have none
_SORTED = 0.8  # of the passages through other values, that are in order
_SKIPPED = 0.2  # of the passages in order, that leave out a whole number
_FEWEST_PASSAGES, _FEWEST_PIECES = 20, 8
_MANY_STRAYS, _MANY_PER_LEVEL = 8, 4  # values that no area holds, as JPEG and Lanczos leave
_BORDER_SHARE = 0.5  # of the pixels of such values, that must lie at borders
_MOST_PAIRS, _MOST_MIDDLES = 300, 3000  # that are compared
_ASIDE = 0.15  # of the distance of two colours, by which one in between may lie aside
_SHOWN = 6
RESIZE_AGAIN = "Export the masks again, and resize them with nearest neighbour alone."


@dataclass(frozen=True)
class Interpolation:
    """What shows that masks were, or may have been, interpolated.

    Attributes:
        is_certain: whether no other explanation is about as likely; else thin classes are.
        levels: values of areas, ascending.
        strays: values of no area, ascending.
        pixels: how many hold a stray value.
        share: of the passages between areas, 0..1, that lead through values in between.
        between: values that lie so, the most frequent first.
    """

    is_certain: bool
    levels: tuple[int, ...]
    strays: tuple[int, ...]
    pixels: int
    share: float
    between: tuple[int, ...]


@dataclass(frozen=True)
class Shares:
    """The shares of the module's text, each 0..1; `beyond_chance` may be negative, or unknown.

    Attributes:
        passages: in order, from area to area.
        pieces: of one value, on the way.
        sorted: of the passages through other values, those in order.
    """

    passages: int
    pieces: int
    order: float
    beyond_chance: float | None
    specks: float
    full: float
    sorted: float

    @property
    def is_interpolated(self) -> bool:
        """Whether nothing but interpolation explains them."""
        if min(self.passages - _FEWEST_PASSAGES, self.pieces - _FEWEST_PIECES) < 0:
            return False
        if self.beyond_chance is None:
            is_ragged = self.specks >= _RAGGED_LITTLE and 1 - self.full >= _SKIPPED
            return is_ragged and self.order >= _MOST_BORDERS and self.sorted >= _SORTED
        if self.specks < _RAGGED:
            return False
        skipping = self.order * (1 - self.full)
        has_order = skipping >= _LEAST_ORDER or self.order >= _MOST_BORDERS
        return has_order and self._is_beyond_chance(self.beyond_chance)

    @property
    def may_be_interpolated(self) -> bool:
        """Whether interpolation explains them about as well as classes of lines or layers."""
        if self.passages < _FEWEST_PASSAGES or self.order < _MOST_BORDERS:
            return False
        if self.beyond_chance is not None:
            return self._is_beyond_chance(self.beyond_chance)
        return self.full >= 0.5 and self.sorted >= _SORTED

    def _is_beyond_chance(self, kappa: float) -> bool:
        """Whether kappa is high, also given that few passages make it uncertain."""
        return kappa >= _BEYOND_CHANCE + 1 / math.sqrt(self.passages)


def find_interpolation(
    borders: Borders, known: Collection[int] = (), harmless: Collection[int] = ()
) -> Interpolation | None:
    """Tell whether masks were interpolated; None where nothing speaks for it.

    Args:
        borders: of one mask, or of all together.
        known: values that may be ids of classes, though no area holds them.
        harmless: values that are ignored, or are classes of thin lines.

    >>> from segtune.data.reading.borders import borders_of
    >>> disc = 90 * (np.hypot(*np.mgrid[-30:30, -30:30]) < 20)
    >>> find_interpolation(borders_of(disc)) is None
    True
    >>> mixed = (disc + np.roll(disc, 1, 0) + np.roll(disc, 1, 1)) // 3
    >>> find_interpolation(borders_of(mixed)).between
    (30, 60)
    """
    levels = borders.levels()
    strays = sorted(v for v in borders.pixels if v not in set(levels) and v not in set(harmless))
    shares = shares_of(borders, harmless)
    is_certain = shares.is_interpolated or _are_scattered(borders, levels, strays, known)
    if len(levels) < 2 or not (is_certain or shares.may_be_interpolated):
        return None
    middles = Counter[int]()
    for (_, _, middle, kind), count in _without(borders, harmless).items():
        if kind in (Kind.LINE, Kind.RAMP, Kind.FULL):
            middles[middle] += count
    return Interpolation(
        is_certain,
        tuple(levels),
        tuple(strays),
        sum(borders.pixels[value] for value in strays),
        shares.order,
        tuple(value for value, _ in middles.most_common()),
    )


def shares_of(borders: Borders, harmless: Collection[int] = ()) -> Shares:
    """What the borders of masks show, without passages through harmless values."""
    passages = _without(borders, harmless)
    count = Counter[int]()
    for (*_, kind), number in passages.items():
        count[kind] += number
    ordered = count[Kind.LINE] + count[Kind.RAMP] + count[Kind.FULL]
    total = ordered + count[Kind.DIRECT] + count[Kind.OTHER] + count[Kind.WIDE]
    hidden = set(harmless)
    pieces = sum(number for value, number in borders.rim_pieces.items() if value not in hidden)
    specks = sum(number for value, number in borders.rim_specks.items() if value not in hidden)
    return Shares(
        ordered,
        pieces,
        ordered / max(1, total),
        _beyond_chance(passages, borders.is_colored),
        specks / max(1, pieces),
        count[Kind.FULL] / max(1, ordered),
        ordered / max(1, ordered + count[Kind.OTHER]),
    )


def _without(borders: Borders, harmless: Collection[int]) -> dict[Passage, int]:
    """The passages whose middle is not harmless."""
    hidden = set(harmless)
    return {
        passage: count
        for passage, count in borders.passages.items()
        if passage[3] == Kind.DIRECT or passage[2] not in hidden
    }


def _beyond_chance(passages: dict[Passage, int], is_colored: bool) -> float | None:
    """How much more often middles lie between both sides than by chance; None where unknown."""
    pairs, middles = Counter[tuple[int, int]](), Counter[int]()
    rims = Counter[tuple[int, int, int]]()
    for (low, high, middle, kind), count in passages.items():
        if kind not in (Kind.DIRECT, Kind.WIDE):
            pairs[low, high] += count
            middles[middle] += count
            rims[low, high, middle] += count
    if not rims:
        return None
    ends = [pair for pair, _ in pairs.most_common(_MOST_PAIRS)]
    values = [value for value, _ in middles.most_common(_MOST_MIDDLES)]
    is_between = _between(np.array(ends, np.int64), np.array(values, np.int64), is_colored)
    is_other = np.array(values) != np.array(ends)[:, :1]
    is_other &= np.array(values) != np.array(ends)[:, 1:]
    weights = np.array([middles[value] for value in values], float)
    chance = (is_between @ weights) / np.maximum(1, is_other @ weights)
    row = {pair: place for place, pair in enumerate(ends)}
    column = {value: place for place, value in enumerate(values)}
    seen = total = expected = 0.0
    for (low, high, middle), count in rims.items():
        if (low, high) in row and middle in column:
            total += count
            expected += count * float(chance[row[low, high]])
            seen += count * float(is_between[row[low, high], column[middle]])
    if expected >= _KNOWN_CHANCE * total:
        return None
    return float((seen - expected) / (total - expected))


def _between(
    ends: NDArray[np.int64], values: NDArray[np.int64], is_colored: bool
) -> NDArray[np.bool_]:
    """Whether each value lies between both ends of each pair, (pairs, values)."""
    origin = unpacked(ends[:, 0], is_colored)[:, None]
    way = unpacked(ends[:, 1], is_colored)[:, None] - origin
    offset = unpacked(values, is_colored)[None] - origin
    place = (offset * way).sum(2) / (way**2).sum(2)
    aside = np.abs(offset - place[..., None] * way).max(2)
    is_near = aside <= np.maximum(1, _ASIDE * np.abs(way).max(2))
    return np.asarray((place > 0) & (place < 1) & is_near)


def _are_scattered(
    borders: Borders, levels: list[int], strays: list[int], known: Collection[int]
) -> bool:
    """Whether many values without an area lie as specks around the borders of a few areas."""
    unknown = [value for value in strays if value not in set(known)]
    if len(unknown) < max(_MANY_STRAYS, _MANY_PER_LEVEL * len(levels)):
        return False
    pixels = sum(borders.pixels[value] for value in strays)
    at_borders = sum(borders.at_borders[value] for value in strays)
    pieces = sum(borders.pieces[value] for value in strays)
    specks = sum(borders.specks[value] for value in strays)
    return at_borders >= _BORDER_SHARE * pixels and specks >= _RAGGED * pieces


def interpolation_words(found: Interpolation) -> str:
    """What masks hold, for a message that begins with them."""
    cause = "they come from resizing or turning with interpolation, which mixes class ids"
    levels = _listed(found.levels)
    if len(set(found.strays) & set(found.between)) > len(found.between) / 2:
        return (
            f"{len(found.strays)} values ({_listed(found.strays)}; {found.pixels:,} px) that lie "
            f"on borders between areas of {levels} alone: {cause}"
        )
    return (
        f"areas of {levels}, and {percent(found.share)} of the borders between them pass through "
        f"ids of other classes ({_listed(found.between)}): {cause}"
    )


def between_words(found: Interpolation) -> str:
    """What masks hold that may be classes of lines, for a message that begins with them."""
    return (
        f"{_listed(found.between)} as thin lines along {percent(found.share)} of the borders "
        "between lower and higher ids, as resizing with interpolation leaves them"
    )


def is_in_order(borders: Borders) -> bool:
    """Whether borders pass through values in between, as in interpolated masks."""
    return shares_of(borders).order >= _LEAST_ORDER


def _listed(values: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, values[:_SHOWN]))
    return f"{shown}, …" if len(values) > _SHOWN else shown
