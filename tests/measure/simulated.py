"""Experiments drawn from a pool of confusion matrices: seeds and images with a known truth."""

import numpy as np

from segtune.measure.statistics import bootstrap


def pool_of(rng, seeds, images, seed_spread, classes=5, quality=0.7):
    """Confusion matrices (seeds, images, C, C); all seeds see the same images."""
    truth = np.random.default_rng(5).multinomial(2000, np.full(classes, 1 / classes), images)
    of_images = np.random.default_rng(6).normal(0, 0.1, images)
    rows = np.arange(classes)
    counts = np.zeros((seeds, images, classes, classes), np.int64)
    for matrices, of_seed in zip(counts, rng.normal(0, seed_spread, seeds), strict=True):
        shares = np.clip(quality + of_images + of_seed + rng.normal(0, 0.03, images), 0.02, 0.98)
        hits = rng.binomial(truth, shares[:, None])
        matrices[:, rows, rows] = hits
        matrices[:, rows, (rows + 1) % classes] = truth - hits
    return counts


class Experiments:
    """Two segmenters of one quality, with many seeds and images to draw experiments from."""

    def __init__(self, rng, seeds, images, seed_spread=0.01):
        self.one = pool_of(rng, seeds, images, seed_spread)
        self.two = pool_of(rng, seeds, images, seed_spread)

    @staticmethod
    def miou(matrices):
        total = matrices.sum(0)
        hits = np.diag(total)
        return (hits / (total.sum(0) + total.sum(1) - hits)).mean()

    @property
    def truth(self):
        """The difference of the expected mIoU over all seeds and images of the pool."""
        one, two = (np.mean([self.miou(m) for m in pool]) for pool in (self.one, self.two))
        return one - two

    def drawn(self, rng, seeds, images, first, second):
        """The difference of one experiment with some seeds and images of the pool."""
        chosen = rng.integers(0, first.shape[1], images)
        runs = [
            [pool[s][chosen] for s in rng.integers(0, len(pool), seeds)] for pool in (first, second)
        ]
        return bootstrap(runs, resamples=400).difference(0, 1)

    def coverage(self, rng, experiments, seeds, images):
        """Number of experiments whose interval holds the truth."""
        truth, covered = self.truth, 0
        for _ in range(experiments):
            found = self.drawn(rng, seeds, images, self.one, self.two)
            covered += found.low <= truth <= found.high
        return covered

    def false_claims(self, rng, experiments, seeds, images):
        """Number of experiments that tell a segmenter apart from itself."""
        return sum(
            self.drawn(rng, seeds, images, self.one, self.one).p_value < 0.05
            for _ in range(experiments)
        )
