"""Bootstrap intervals of an mIoU and of differences, from the confusion matrices of single images.

The estimator is the dataset-level mIoU: the matrices of all images are summed, then scored. With
several seeds it is their mean. Its interval comes from a paired bootstrap (Efron & Tibshirani,
1993, ch. 13): each resample draws images with replacement, the same ones for every segmenter and
seed. Images of one group (frames of a video, slices of a patient) are drawn together. The interval
covers the choice of images; it does not cover the choice of seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CHUNK = 1000  # resamples at a time: bounds the memory, and fits the CPU caches


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        value: on the images as they are.
        low: lower end of the percentile interval.
        high: upper end of the percentile interval.
        p_value: two-sided, of the hypothesis that the figure is zero; meant for differences.
        resamples: number of resamples.
        units: number of images, or of groups if there are any.
    """

    value: float
    low: float
    high: float
    p_value: float
    resamples: int
    units: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Draws:
    """The mIoU of K segmenters on the images, and on R resamples that all segmenters share.

    Attributes:
        values: (K,) on the images as they are, each the mean over its seeds, in [0, 1].
        resampled: (R, K) on the resamples.
        units: number of images, or of groups if there are any.
    """

    values: NDArray[np.float64]
    resampled: NDArray[np.float64]
    units: int

    def interval(self, index: int, level: float = 0.95) -> Interval:
        """The interval of one segmenter's mIoU."""
        return _interval(self.values[index], self.resampled[:, index], level, self.units)

    def difference(self, index: int, other: int, level: float = 0.95) -> Interval:
        """The interval of a segmenter's mIoU minus another's, in [-1, 1]."""
        draws = self.resampled[:, index] - self.resampled[:, other]
        return _interval(self.values[index] - self.values[other], draws, level, self.units)


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
        """(R, K) mIoU, mean over seeds, of (R, runs * 2 C) summed parts."""
        by_run = _miou(sums.reshape(-1, width)).reshape(len(sums), len(parts))
        return np.stack([seeds.mean(1) for seeds in np.split(by_run, ends, axis=1)], axis=1)

    resampled = [mious(weights @ stacked) for weights in _weights(units, resamples, seed)]
    values = mious(stacked.sum(0, keepdims=True))[0]
    return Draws(values, np.concatenate(resampled), units)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, 1979).

    Claims whose corrected p-value is below 0.05 contain any false claim with probability <= 0.05.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
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


def _interval(value: float, draws: NDArray[np.float64], level: float, units: int) -> Interval:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    extreme = min((draws <= 0).mean(), (draws >= 0).mean())
    p_value = min(1.0, 2 * max(float(extreme), 1 / (len(draws) + 1)))
    return Interval(value, float(low), float(high), p_value, len(draws), units)
