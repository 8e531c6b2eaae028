"""Variances of seeds and images equal a mixed model; intervals over both cover what they claim."""

import warnings

import numpy as np
import pytest
from scipy import stats

from segtune.measure.components import Components, SeedVariance, components
from segtune.measure.power import needed, power
from segtune.measure.statistics import bootstrap
from tests.measure.simulated import Experiments


def scores(rng, seeds, images, seed_spread=0.03):
    """Scores (seeds, images) with effects of seeds, of images and of both together."""
    return (
        0.7
        + rng.normal(0, seed_spread, (seeds, 1))
        + rng.normal(0, 0.1, (1, images))
        + rng.normal(0, 0.02, (seeds, images))
    )


def mean_components(*segmenters, resamples=20_000):
    """The components of the mean of scores, or of the difference of two means."""
    images = segmenters[0].shape[1]
    weights = (
        np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), resamples)
        / images
    )
    runs = [(s.mean(1), weights @ s.T) for s in segmenters]
    contrast = runs[0][1].mean(1) - (runs[1][1].mean(1) if len(runs) > 1 else 0)
    return components(contrast, runs, images)


def test_variances_equal_those_of_a_mixed_model():
    import pandas as pd
    from statsmodels.regression.mixed_linear_model import MixedLM

    seeds, images = 4, 12
    found = scores(np.random.default_rng(3), seeds, images)
    table = pd.DataFrame(
        {
            "score": found.ravel(),
            "seed": np.repeat(range(seeds), images),
            "image": np.tile(range(images), seeds),
        }
    )
    formulas = {"image": "0 + C(image)", "seed": "0 + C(seed)"}
    model = MixedLM.from_formula(
        "score ~ 1", groups=np.ones(seeds * images), vc_formula=formulas, data=table
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls a good fit a boundary
        fitted = model.fit(reml=True)
    image_variance, seed_variance = fitted.vcomp
    ours = mean_components(found)
    assert ours.seeds[0].pure == pytest.approx(seed_variance, rel=0.05)
    assert ours.seeds[0].interaction == pytest.approx(fitted.scale / images, rel=0.05)
    assert ours.images == pytest.approx(
        image_variance / images + fitted.scale / images / seeds, rel=0.05
    )
    assert ours.variance == pytest.approx(fitted.bse["Intercept"] ** 2, rel=0.05)


def test_the_interval_of_single_runs_equals_scipys_paired_bootstrap():
    pool = Experiments(np.random.default_rng(0), seeds=1, images=30)
    one, two = pool.one, pool.two
    ours = bootstrap([[one[0]], [two[0]]]).difference(0, 1)
    expanded = 2 * stats.norm.cdf(np.sqrt(30 / 29) * stats.t.ppf(0.975, 29)) - 1

    def difference(drawn, axis=-1):
        return np.apply_along_axis(
            lambda chosen: pool.miou(one[0][chosen]) - pool.miou(two[0][chosen]), axis, drawn
        )

    theirs = stats.bootstrap(
        (np.arange(30),),
        difference,
        n_resamples=4000,
        confidence_level=expanded,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.covers == "images"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_with_equal_seeds_the_variance_is_that_of_the_images():
    one = scores(np.random.default_rng(0), 1, 40)
    equal = mean_components(np.repeat(one, 3, axis=0))
    assert equal.variance == pytest.approx(one.var(ddof=1) / 40, rel=0.03)
    assert equal.new_runs == 0 and equal.degrees == pytest.approx(39)


def test_a_single_seed_of_either_segmenter_leaves_an_interval_over_images():
    pool = Experiments(np.random.default_rng(0), seeds=3, images=20)
    draws = bootstrap([list(pool.one), [pool.two[0]]], resamples=100)
    assert draws.difference(0, 1).covers == "images" == draws.interval(1).covers
    assert draws.interval(0).covers == "seeds and images"


@pytest.mark.parametrize("scale", [1, 10])
def test_an_interval_over_seeds_follows_their_spread(scale):
    rng = np.random.default_rng(0)
    pool = Experiments(rng, seeds=3, images=40, seed_spread=0.004 * scale)
    draws = bootstrap([list(pool.one), list(pool.two)], resamples=500)
    found = draws.difference(0, 1)
    single = bootstrap([[pool.one[0]], [pool.two[0]]], resamples=500).difference(0, 1)
    assert 0 < found.probability < 1 and 0 < found.p_value <= 1
    assert (found.high - found.low > 2 * (single.high - single.low)) == (scale == 10)


def test_intervals_cover_the_truth_and_equal_segmenters_are_told_apart_in_one_of_twenty():
    pool = Experiments(np.random.default_rng(1), seeds=40, images=400, seed_spread=0.02)
    covered = pool.coverage(np.random.default_rng(2), experiments=100, seeds=3, images=50)
    assert 89 <= covered <= 100  # of 100: the benchmark has 2,000
    false = pool.false_claims(np.random.default_rng(3), experiments=100, seeds=3, images=50)
    assert false <= 11


@pytest.mark.parametrize("image_variance", [0.0, 1e-5])
@pytest.mark.parametrize("difference", [0.01, 0.02])
def test_the_planned_number_of_seeds_is_what_a_simulated_t_test_needs(difference, image_variance):
    rng = np.random.default_rng(0)
    spread, images = 0.015, 50
    seed = SeedVariance(5, spread**2, 0.0)
    need = needed(Components(image_variance, images, (seed, seed)), difference)
    assert need.seeds is not None

    def share_shown(seeds):
        one, two = rng.normal(0, spread, (2, 1000, seeds))
        shift = difference + rng.normal(0, np.sqrt(image_variance), 1000)
        shown = 0
        for value, pair in zip(
            shift + one.mean(1) - two.mean(1), np.stack([one, two], 1), strict=True
        ):
            parts = tuple(SeedVariance(seeds, float(v), 0.0) for v in pair.var(1, ddof=1))
            found = Components(image_variance, images, parts)
            shown += abs(value) > np.sqrt(found.variance) * stats.t.ppf(0.975, found.degrees)
        return shown / 1000

    assert share_shown(round(1.25 * need.seeds)) > 0.8 > share_shown(int(need.seeds / 1.25))


def test_more_images_help_where_images_vary_and_never_where_only_seeds_do():
    of_images = Components(1e-4, 50, ())
    need = needed(of_images, 0.01)
    assert need.seeds is None and need.images is not None
    assert power(of_images, 0.01, 0, need.images, 0.05) >= 0.8
    assert power(of_images, 0.01, 0, need.images - 1, 0.05) < 0.8
    seed = SeedVariance(3, 1e-4, 0.0)
    assert needed(Components(0.0, 50, (seed, seed)), 0.01).images is None
    assert needed(Components(1e-4, 50, (seed, seed)), 0.0).seeds is None
