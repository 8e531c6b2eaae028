"""The variance of a mean over training seeds and images, split into its parts.

Seeds and images are crossed: each seed's model is measured on the same images. For one segmenter,
with S seeds and N images, the variance of its mean mIoU is

    images / N  +  seeds / S  +  interaction / (N S)

The bootstrap over images, with the seeds as they are, estimates the first and the last term
together. The sample variance of the seeds' mIoU estimates seeds + interaction / N. The bootstrap
variance of each seed's deviation from the mean estimates interaction / N (the estimators of a
two-way analysis of variance; Searle, Casella & McCulloch, *Variance Components*, 1992, ch. 4).
A difference of two segmenters shares the images and has the seeds of both. Its degrees of freedom
are Satterthwaite's (1946).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeedVariance:
    """The variances of one segmenter's seeds.

    Attributes:
        runs: number of seeds S.
        total: sample variance of the seeds' mIoU, on the images as they are.
        interaction: part of `total` that other images would change: interaction / N.
    """

    runs: int
    total: float
    interaction: float

    @property
    def pure(self) -> float:
        """Variance of a seed's expected mIoU over all possible images."""
        return max(0.0, self.total - self.interaction)


@dataclass(frozen=True)
class Components:
    """The variance of a mean, or of a difference of two means, in squared mIoU.

    Attributes:
        images: of the bootstrap over images with the seeds as they are.
        units: number N of images, or of groups if there are any.
        seeds: of each segmenter in the figure; empty if the figure is about these runs alone.
    """

    images: float
    units: int
    seeds: tuple[SeedVariance, ...]

    @property
    def variance(self) -> float:
        """Variance of the figure over images and, if there are any, seeds."""
        return self.planned(0, self.units)[0]

    @property
    def degrees(self) -> float:
        """Degrees of freedom of `variance`, at least 1."""
        return self.planned(0, self.units)[1]

    @property
    def new_runs(self) -> float:
        """Variance that one new run of each segmenter adds to the figure."""
        return sum(s.pure for s in self.seeds)

    def planned(self, more_seeds: int, units: int) -> tuple[float, float]:
        """Return the variance and its degrees of freedom with other numbers of seeds and images.

        Args:
            more_seeds: number of seeds that each segmenter has in addition.
            units: number of images or groups.
        """
        scale = self.units / units
        inherent = self.images - sum(s.interaction / s.runs for s in self.seeds)
        of_images = max(0.0, inherent) * scale
        terms, of_seeds = 0.0, 0.0
        for seed in self.seeds:
            runs = seed.runs + more_seeds
            of_images += seed.interaction * scale / runs
            of_seeds += (seed.total - seed.interaction) / runs
            terms += ((seed.pure + seed.interaction * scale) / runs) ** 2 / (runs - 1)
        variance = of_images + max(0.0, of_seeds)
        terms += of_images**2 / (units - 1)
        return variance, max(1.0, variance**2 / terms if terms else 1.0)


def components(
    contrast: NDArray[np.float64],
    segmenters: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    units: int,
) -> Components:
    """Estimate the variances of a figure.

    Args:
        contrast: (R,) the figure on R bootstrap resamples of the images.
        segmenters: of each segmenter in the figure, the mIoU of its S runs on the images, (S,),
            and on the resamples, (R, S); S is at least 2. Empty for a figure about these runs
            alone.
        units: number of images, or of groups if there are any.

    Raises:
        ValueError: there is one image or group.
    """
    if units < 2:
        raise ValueError("one image, or one group of images, gives no interval")
    unbiased = units / (units - 1)  # the bootstrap's variance divides by N, not by N - 1
    seeds = []
    for values, resampled in segmenters:
        runs = len(values)
        deviations = resampled - resampled.mean(1, keepdims=True)
        interaction = unbiased * float(deviations.var(0).mean()) * runs / (runs - 1)
        seeds.append(SeedVariance(runs, float(values.var(ddof=1)), interaction))
    return Components(unbiased * float(contrast.var()), units, tuple(seeds))
