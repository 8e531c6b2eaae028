"""How sure a figure or a difference is, from the confusion matrices of single images.

The estimator is the dataset-level mIoU: the matrices of all images are summed, then scored; of several seeds the mean.
Its interval comes from a paired bootstrap (Efron & Tibshirani, 1993, ch. 13): each resample draws images with
replacement, the same ones for every segmenter and seed. Where images belong to groups (frames of a video, slices of a
patient), whole groups are drawn. It tells what other images would change, and nothing of what other seeds would.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CHUNK = 1000  # resamples at a time: bounds the memory, and fits the caches


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        value: on the images as they are.
        low: of the percentile interval.
        high: of the percentile interval.
        p_value: two-sided, of the figure being zero; of use for differences alone.
        resamples: that it rests on.
        units: images, or groups where they were given.
    """

    value: float
    low: float
    high: float
    p_value: float
    resamples: int
    units: int

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Draws:
    """The mIoU of K segmenters on the images as they are, and on resamples of them that all share.

    Attributes:
        values: (K,), each the mean over its seeds, in [0, 1].
        resampled: (R, K).
        units: images, or groups where they were given.
    """

    values: NDArray[np.float64]
    resampled: NDArray[np.float64]
    units: int

    def interval(self, index: int, level: float = 0.95) -> Interval:
        """Of one segmenter's mIoU."""
        return _interval(self.values[index], self.resampled[:, index], level, self.units)

    def difference(self, index: int, other: int, level: float = 0.95) -> Interval:
        """Of a segmenter's mIoU minus another's, in [-1, 1]."""
        draws = self.resampled[:, index] - self.resampled[:, other]
        return _interval(self.values[index] - self.values[other], draws, level, self.units)


def bootstrap(
    segmenters: Sequence[Sequence[NDArray[np.int64]]],
    groups: Sequence[object] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """Measures segmenters on resamples of the images that they were all scored on.

    Args:
        segmenters: of each, the confusion matrices (N, C, C) of its seeds; rows are targets, images in one order.
        groups: of each image; whole groups are drawn.

    Raises:
        ValueError: no images, not one group per image, or matrices of other images or other truths.
    """
    first = segmenters[0][0]
    for matrices in (m for seeds in segmenters for m in seeds):
        if matrices.shape != first.shape or not np.array_equal(matrices.sum(2), first.sum(2)):
            raise ValueError(
                "all segmenters must have been measured on the same images with the same truth"
            )
    parts = [_parts(m, groups) for seeds in segmenters for m in seeds]
    units, width = parts[0].shape
    stacked = np.concatenate(parts, axis=1)
    ends = np.cumsum([len(seeds) for seeds in segmenters])[:-1]

    def measure(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        single = _miou(sums.reshape(-1, width)).reshape(len(sums), len(parts))
        return np.stack([s.mean(1) for s in np.split(single, ends, axis=1)], axis=1)

    draws = np.concatenate([measure(w @ stacked) for w in _weights(units, resamples, seed)])
    return Draws(measure(stacked.sum(0, keepdims=True))[0], draws, units)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979): each below 0.05 bounds the chance of any false claim by 0.05.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in corrected]


def _parts(matrices: NDArray[np.int64], groups: Sequence[object] | None) -> NDArray[np.float64]:
    """(units, 2 C): hits and unions' summands (target + predicted) of each unit that is drawn as a whole."""
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
    """(R,) mIoU of (R, 2 C) summed parts; classes that occur in neither do not count."""
    hits, both = np.split(sums, 2, axis=1)
    union = both - hits
    present = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=present)
    return np.asarray(iou.sum(1) / np.maximum(present.sum(1), 1))


def _weights(units: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each unit was drawn, (resamples, units) in pieces; the same seed draws the same."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        yield (
            np.bincount(drawn.ravel(), minlength=rows * units)
            .reshape(rows, units)
            .astype(np.float64)
        )


def _interval(value: float, draws: NDArray[np.float64], level: float, units: int) -> Interval:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    extreme = min((draws <= 0).mean(), (draws >= 0).mean())
    p_value = min(1.0, 2 * max(float(extreme), 1 / (len(draws) + 1)))
    return Interval(value, float(low), float(high), p_value, len(draws), units)
