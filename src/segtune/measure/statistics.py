"""Intervals of an mIoU and of differences, from the confusion matrices of single images.

The estimator is the dataset-level mIoU: the matrices of all images are summed, then scored. With
several seeds it is their mean. A paired bootstrap (Efron & Tibshirani, 1993, ch. 13) draws images
with replacement, the same ones for every segmenter and seed. Images of one group (frames of a
video, slices of a patient) are drawn together.

- A segmenter with one seed: the interval covers the choice of images. It is an expanded percentile
  interval (Hesterberg, 2015, sec. 4.3), since plain percentiles are too narrow for few images.
- Segmenters with several seeds each: the interval covers seeds and images. It is Student's, with
  the variance of `segtune.measure.components`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segtune.measure.components import Components, components

RESAMPLES = 10_000
_CHUNK = 1000  # resamples at a time: bounds the memory, and fits the CPU caches


@dataclass(frozen=True)
class Interval:
    """A figure with its interval.

    Attributes:
        value: on the images as they are.
        low: lower end of the interval.
        high: upper end of the interval.
        p_value: two-sided, of the hypothesis that the figure is zero; meant for differences.
        resamples: number of resamples.
        units: number of images, or of groups if there are any.
        covers: the choices that the interval accounts for.
    """

    value: float
    low: float
    high: float
    p_value: float
    resamples: int
    units: int
    covers: Literal["images", "seeds and images"]

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Difference(Interval):
    """The difference of two segmenters' mIoU, the first minus the second, in [-1, 1].

    Attributes:
        probability: that the first has the higher mIoU; of a new run of each if the interval covers
            seeds, otherwise of these runs on other images of the same kind.
        parts: the variances behind the interval.
    """

    probability: float
    parts: Components


@dataclass(frozen=True)
class Draws:
    """The mIoU of K segmenters on the images, and on R resamples that all segmenters share.

    Attributes:
        by_run: of each segmenter, the mIoU (S,) of its S seeds on the images as they are, in
            [0, 1].
        resampled_by_run: of each segmenter, (R, S) on the resamples.
        units: number of images, or of groups if there are any; at least 2 for an interval.
    """

    by_run: tuple[NDArray[np.float64], ...]
    resampled_by_run: tuple[NDArray[np.float64], ...]
    units: int

    @property
    def values(self) -> NDArray[np.float64]:
        """(K,) mIoU on the images as they are, each the mean over its seeds."""
        return np.array([runs.mean() for runs in self.by_run])

    def resampled(self, index: int) -> NDArray[np.float64]:
        """(R,) mIoU of one segmenter on the resamples, the mean over its seeds."""
        return np.asarray(self.resampled_by_run[index].mean(1))

    def interval(self, index: int, level: float = 0.95) -> Interval:
        """Return the interval of one segmenter's mIoU, within [0, 1]."""
        draws = self.resampled(index)
        parts = components(draws, self._seeds(index), self.units)
        found = _interval(float(self.values[index]), draws, level, parts)
        low, high = max(0.0, found.low), min(1.0, found.high)
        return Interval(
            found.value, low, high, found.p_value, found.resamples, found.units, found.covers
        )

    def difference(self, index: int, other: int, level: float = 0.95) -> Difference:
        """Return the interval of a segmenter's mIoU minus another's, in [-1, 1]."""
        draws = self.resampled(index) - self.resampled(other)
        parts = components(draws, self._seeds(index, other), self.units)
        value = float(self.values[index] - self.values[other])
        found = _interval(value, draws, level, parts)
        return Difference(**vars(found), probability=_probability(value, draws, parts), parts=parts)

    def _seeds(self, *segmenters: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return the runs of some segmenters; none if one of them has a single run."""
        if any(len(self.by_run[k]) < 2 for k in segmenters):
            return []
        return [(self.by_run[k], self.resampled_by_run[k]) for k in segmenters]


def bootstrap(
    segmenters: Sequence[Sequence[NDArray[np.int64]]],
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """Score segmenters on resamples of the images that all of them were measured on.

    Args:
        segmenters: for each, the confusion matrices (N, C, C) of its seeds; rows are targets, and
            all list the images in one order.
        groups: of each image; images of one group are drawn together.

    Raises:
        ValueError: no images, a missing group, or matrices of other images or other truths.
    """
    runs = list(chain.from_iterable(segmenters))
    for matrices in runs:
        if matrices.shape != runs[0].shape or not np.array_equal(matrices.sum(2), runs[0].sum(2)):
            raise ValueError(
                "all segmenters must have been measured on the same images with the same truth"
            )
    parts = [_parts(matrices, groups) for matrices in runs]
    units, width = parts[0].shape
    stacked = np.concatenate(parts, axis=1)
    ends = np.cumsum([len(seeds) for seeds in segmenters])[:-1]

    def mious(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R, runs) mIoU of (R, runs * 2 C) summed parts."""
        return _miou(sums.reshape(-1, width)).reshape(len(sums), len(parts))

    resampled = [mious(weights @ stacked) for weights in _weights(units, resamples, seed)]
    values = mious(stacked.sum(0, keepdims=True))[0]
    return Draws(
        tuple(np.split(values, ends)), tuple(np.split(np.concatenate(resampled), ends, 1)), units
    )


def holm(p_values: Sequence[float], tests: int | None = None) -> list[float]:
    """Correct p-values for their number (Holm, 1979).

    Claims whose corrected p-value is below 0.05 contain any false claim with probability <= 0.05.

    Args:
        tests: number of the comparisons among which the data chose these; by default all.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    first = len(order) if tests is None else tests
    scaled = np.asarray(p_values, np.float64)[order] * (first - np.arange(len(order)))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in corrected]


def _parts(matrices: NDArray[np.int64], groups: Sequence[object] | None) -> NDArray[np.float64]:
    """Hits, and the sum of target and predicted pixels, of each image or group, (units, 2 C)."""
    if len(matrices) == 0:
        raise ValueError("there are no images")
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    parts = np.concatenate([hits, matrices.sum(1) + matrices.sum(2)], axis=1).astype(np.float64)
    if groups is None:
        return parts
    if len(groups) != len(matrices):
        raise ValueError(f"{len(groups)} groups for {len(matrices)} images: give one for each")
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    summed = np.zeros((len(names), parts.shape[1]))
    np.add.at(summed, [names[g] for g in groups], parts)
    return summed


def _miou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) mIoU of (R, 2 C) summed parts, over the classes that occur."""
    hits, both = np.split(sums, 2, axis=1)
    union = both - hits
    present = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=present)
    return np.asarray(iou.sum(1) / np.maximum(present.sum(1), 1))


def _weights(units: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each resample draws each unit, (resamples, units) in chunks of rows."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


def _interval(
    value: float, draws: NDArray[np.float64], level: float, parts: Components
) -> Interval:
    if parts.seeds:
        return _students(value, len(draws), level, parts)
    # expanded: the tails are those of Student's t with units - 1 degrees of freedom
    degrees, expansion = parts.units - 1, np.sqrt(parts.units / (parts.units - 1))
    tail = 100 * stats.norm.cdf(expansion * stats.t.ppf((1 - level) / 2, degrees))
    low, high = np.percentile(draws, [tail, 100 - tail])
    share = min((draws <= 0).mean(), (draws >= 0).mean())
    extreme = max(share, 0.5 / (len(draws) + 1))
    p_value = min(1.0, 2 * stats.t.cdf(stats.norm.ppf(extreme) / expansion, degrees))
    if share == 0:  # beyond what the resamples resolve, the tail is Student's
        p_value = min(p_value, 2 * stats.t.sf(abs(value) / np.sqrt(parts.variance), degrees))
    return Interval(
        value, float(low), float(high), float(p_value), len(draws), parts.units, "images"
    )


def _students(value: float, resamples: int, level: float, parts: Components) -> Interval:
    """Return Student's interval over seeds and images."""
    error, degrees = np.sqrt(parts.variance), parts.degrees
    reach = float(error * stats.t.ppf((1 + level) / 2, degrees))
    p_value = 2 * stats.t.sf(abs(value) / error, degrees) if error else float(value == 0)
    low, high = value - reach, value + reach
    covers: Literal["seeds and images"] = "seeds and images"
    return Interval(value, low, high, float(p_value), resamples, parts.units, covers)


def _probability(value: float, draws: NDArray[np.float64], parts: Components) -> float:
    """Return the probability that a difference is above zero; half of a tie counts."""
    if not parts.seeds:
        return float((draws > 0).mean() + (draws == 0).mean() / 2)
    spread = np.sqrt(parts.variance + parts.new_runs)
    if spread == 0:
        return float(np.sign(value) + 1) / 2
    return float(stats.t.cdf(value / spread, parts.degrees))
