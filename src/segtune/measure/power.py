"""How many seeds or images a comparison needs to show a difference of a given size."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats

from segtune.measure.components import Components

POWER, SIGNIFICANCE = 0.8, 0.05
_MOST = 10_000  # seeds more, or times as many images; above it, the answer is "none"


@dataclass(frozen=True)
class Need:
    """The numbers with which a difference is shown with a probability of 80 %.

    Attributes:
        difference: of the two mIoU, in [0, 1].
        seeds: seeds of each segmenter on the same images; None if no number is enough, or if the
            variance between seeds is unknown.
        images: images (or groups) with the same seeds; None if no number is enough.
    """

    difference: float
    seeds: int | None
    images: int | None


def needed(parts: Components, difference: float, significance: float = SIGNIFICANCE) -> Need:
    """Return the smallest numbers of seeds, and of images, that show a difference.

    Args:
        parts: of the difference of two segmenters.
        difference: its size, in mIoU (0 to 1); the sign does not matter.
        significance: largest probability of a false claim.
    """

    def more_seeds_suffice(more: int) -> bool:
        return power(parts, difference, more, parts.units, significance) >= POWER

    def images_suffice(units: int) -> bool:
        return power(parts, difference, 0, units, significance) >= POWER

    seeds = None
    if parts.seeds:
        fewest = min(s.runs for s in parts.seeds)
        more = _smallest(more_seeds_suffice, 2 - fewest, _MOST)
        seeds = None if more is None else fewest + more
    return Need(difference, seeds, _smallest(images_suffice, 2, _MOST * parts.units))


def power(
    parts: Components, difference: float, more_seeds: int, units: int, significance: float
) -> float:
    """Return the probability that a true difference is shown, of a two-sided t-test, in [0, 1]."""
    variance, degrees = parts.planned(more_seeds, units)
    if variance <= 0:
        return 1.0 if difference else 0.0
    limit = stats.t.ppf(1 - significance / 2, degrees)
    shift = abs(difference) / math.sqrt(variance)
    if shift > 30:  # far beyond every limit; SciPy's noncentral t is not exact there
        return 1.0 if shift > 2 * limit else 0.0
    return float(stats.nct.sf(limit, degrees, shift))


def _smallest(suffices: Callable[[int], bool], first: int, last: int) -> int | None:
    """Return the smallest number of a range that suffices, or None; more is never worse."""
    if suffices(first):
        return first
    step = 1
    while not suffices(min(first + step, last)):
        if first + step >= last:
            return None
        step *= 2
    low, high = first + step // 2, min(first + step, last)
    while high - low > 1:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle
    return high
