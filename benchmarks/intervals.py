"""Do intervals over seeds and images hold, and is the planned number of seeds what it takes?

    python benchmarks/intervals.py --root intervals --experiments 2000

1. Trains six and eight epochs with many seeds each on the built-in scenes and keeps the confusion
   matrix of each val image. A second call reuses the runs of `--root`.
2. These runs and images are the population. An experiment draws some seeds of each configuration
   and some images from it, with replacement, and compares. The truth is the population's
   difference, taken from all of its runs and images.
3. Counts how often the interval holds the truth, how often a configuration is told apart from
   itself, and the planned number of seeds against the number that the population needs.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import segtune
from segtune.config.schema import TrackingConfig
from segtune.measure.power import POWER
from segtune.measure.power import needed as seeds_and_images
from segtune.measure.statistics import Difference, bootstrap
from segtune.tracking.evidence import load_evidence
from segtune.tracking.runs import search_runs
from segtune.tracking.store import open_store

CONFIGURATIONS = {"six": "hp.num_epochs=6", "eight": "hp.num_epochs=8"}
COMMON = (
    "dataset=street",
    "dataset.street={width:96,height:64,train:48,val:150,test:1,clips:1,clip_frames:2,seed:3}",
    "template=swift",
    "hp.width=16",
    "hp.image_size=[64]",
    "trainer=cpu",
    "trainer.threads=1",
)
Pool = NDArray[np.int64]  # (seeds, images, C, C) confusion matrices


def trained(root: Path, word: str, seeds: int) -> Pool:
    """Train one configuration with each seed, unless that is done."""
    store = open_store(TrackingConfig(root=str(root)))
    done = {
        run.params["seed"]: run
        for run in search_runs(store, {"segtune.kind": "run"})
        if run.miou is not None
    }
    for seed in range(seeds):
        if str(seed) not in done:
            tracking = f"tracking.root='{root}'"
            segtune.train(*COMMON, word, f"seed={seed}", tracking, say=lambda _: None)
            print(f"{word} seed {seed}", flush=True)
    matrices = []
    for run in search_runs(store, {"segtune.kind": "run"}):
        evidence = load_evidence(store, run, "val")
        if evidence is not None:
            matrices.append(evidence.matrices)
    return np.stack(matrices[:seeds])


def population_difference(one: Pool, two: Pool) -> float:
    """Return the difference of the mean mIoU of all runs on all images."""
    values = bootstrap([list(one), list(two)], resamples=1).values
    return float(values[0] - values[1])


def experiment(
    rng: np.random.Generator, one: Pool, two: Pool, seeds: int, images: int
) -> Difference:
    """Compare some seeds of each configuration on some images."""
    chosen = rng.integers(0, one.shape[1], images)
    runs = []
    for pool in (one, two):
        drawn = rng.integers(0, len(pool), seeds)
        runs.append([pool[seed][chosen] for seed in drawn])
    return bootstrap(runs, resamples=1000, seed=int(rng.integers(2**31))).difference(0, 1)


def coverage(one: Pool, two: Pool, seeds: int, images: int, experiments: int) -> float:
    """Return the share of the experiments whose interval holds the population's difference."""
    rng, truth, covered = np.random.default_rng(0), population_difference(one, two), 0
    for _ in range(experiments):
        found = experiment(rng, one, two, seeds, images)
        covered += found.low <= truth <= found.high
    return covered / experiments


def claims(one: Pool, two: Pool, seeds: int, images: int, experiments: int) -> float:
    """Return the share of the experiments that tell two configurations apart."""
    rng = np.random.default_rng(1)
    found = [experiment(rng, one, two, seeds, images) for _ in range(experiments)]
    return float(np.mean([one_found.p_value < 0.05 for one_found in found]))


def planned_seeds(one: Pool, two: Pool, seeds: int, images: int, experiments: int) -> list[int]:
    """Return the number of seeds that each experiment plans for the population's difference."""
    rng, truth = np.random.default_rng(2), population_difference(one, two)
    plans = []
    for _ in range(experiments):
        parts = experiment(rng, one, two, seeds, images).parts
        plans.append(seeds_and_images(parts, truth).seeds or 10**6)
    return plans


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("intervals"))
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--pool", type=int, default=24, help="seeds of each configuration")
    options = parser.parse_args()
    pools = {
        name: trained(options.root.absolute() / name, word, options.pool)
        for name, word in CONFIGURATIONS.items()
    }
    one, two = pools.values()
    mious = [bootstrap([[run] for run in pool], resamples=1).values for pool in (one, two)]
    for name, values in zip(pools, mious, strict=True):
        print(f"{name}: {100 * values.mean():.2f}, SD between seeds {100 * values.std():.2f}")
    print(f"{one.shape[1]} images; difference {100 * population_difference(one, two):+.2f} points")
    print("| seeds | images | interval holds the truth | false claims of A against A |")
    print("| --- | --- | --- | --- |")
    for seeds, images in ((3, 50), (3, 150), (5, 50), (10, 150)):
        held = coverage(one, two, seeds, images, options.experiments)
        false = claims(one, one, seeds, images, options.experiments)
        print(f"| {seeds} | {images} | {100 * held:.1f} % | {100 * false:.1f} % |", flush=True)
    _print_plans(one, two, options.experiments)


def _print_plans(one: Pool, two: Pool, experiments: int) -> None:
    """Print the planned number of seeds, and the share of claims around it."""
    images = one.shape[1]
    print("| planned from | median of the plans | quartiles |")
    print("| --- | --- | --- |")
    median = 0
    for seeds in (3, 5, 10):
        plans = planned_seeds(one, two, seeds, images, experiments)
        low, middle, high = np.percentile(plans, [25, 50, 75])
        median = int(middle)
        print(f"| {seeds} seeds | {middle:.0f} | {low:.0f} to {high:.0f} |", flush=True)
    for seeds in sorted({max(2, round(0.75 * median)), median, round(1.25 * median)}):
        share = claims(one, two, seeds, images, experiments)
        print(f"{seeds} seeds tell them apart in {100 * share:.1f} % (sought: {100 * POWER:.0f} %)")


if __name__ == "__main__":
    main()
