"""Augmentation keeps masks exact: geometry is shared, ids are never invented."""

import numpy as np
import pytest

from segtune.data.transforms import Augment, jitter_color, jitter_sharpness
from segtune.settings import AugmentConfig

RNG = np.random.default_rng(0)
MASK = RNG.integers(0, 11, (60, 80)).astype(np.uint8)
IMAGE = np.repeat(MASK[..., None] * 20, 3, axis=2)


def test_no_augmentation_changes_nothing():
    augment = Augment(AugmentConfig(), (60, 80), 10)
    image, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(mask, MASK)


def test_a_flip_is_exact():
    augment = Augment(AugmentConfig(hflip=1.0), (60, 80), 10)
    image, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(image, IMAGE[:, ::-1])
    np.testing.assert_array_equal(mask, MASK[:, ::-1])


def test_zooms_and_crops_invent_no_id():
    augment = Augment(AugmentConfig(scale=(0.4, 2.5), hflip=0.5, crop_size=64), (60, 80), 1)
    for seed in range(40):
        _, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(seed))
        assert mask.shape == (64, 64) and set(np.unique(mask)) <= {*range(11), 255}


def test_image_and_mask_move_together():
    """The image encodes its mask in blocks of 8 pixels, so that away from borders both must agree after any map."""
    blocks = np.kron(RNG.integers(0, 11, (12, 16)), np.ones((8, 8))).astype(np.uint8)
    coded = np.repeat(blocks[..., None] * 20, 3, axis=2)
    augment = Augment(AugmentConfig(scale=(0.8, 1.6), hflip=0.5, crop_size=64), (96, 128), 1)
    for seed in range(20):
        image, mask = augment(coded, blocks, 0, 0, np.random.default_rng(seed))
        inside = mask != 255
        agree = np.abs(image[..., 0].astype(int) - mask.astype(int) * 20) <= 4
        assert agree[inside].mean() > 0.7
        exact_borders = image[..., 0] % 20 == 0  # not interpolated: must agree everywhere
        assert (image[..., 0][inside & exact_borders] // 20 == mask[inside & exact_borders]).mean() > 0.97


def test_outside_of_the_image_is_ignored():
    augment = Augment(AugmentConfig(scale=(0.25, 0.25), crop_size=64), (60, 80), 1)
    _, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(1))
    assert (mask == 255).mean() > 0.8


def test_the_same_seed_draws_the_same_view():
    augment = Augment(AugmentConfig(scale=(0.5, 2), hflip=0.5, color_jitter=0.4, crop_size=64), (60, 80), 1)
    views = [augment(IMAGE, MASK, 0, 0, np.random.default_rng([1, 2, 3])) for _ in range(2)]
    np.testing.assert_array_equal(views[0][0], views[1][0])


def test_crops_grow_to_their_size_and_stay():
    augment = Augment(AugmentConfig(crop_size=256, crop_start=128, crop_growth=0.6), (360, 480), 100)
    sides = [augment.size(e)[0] for e in range(100)]
    assert sides[0] == 128 and sides == sorted(sides)
    assert set(sides[60:]) == {256} and all(s % 32 == 0 for s in sides)


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_color_jitter_keeps_grey_grey(amount):
    grey = np.full((4, 4, 3), 120, np.uint8)
    out = jitter_color(grey, amount, np.random.default_rng(3)).astype(int)
    assert np.ptp(out, axis=2).max() <= 1
    if amount == 0.0:
        np.testing.assert_array_equal(out, grey)


def test_sharpness_changes_detail_alone():
    rng = np.random.default_rng(4)
    flat = np.full((8, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(jitter_sharpness(flat, 2.0, rng), flat)
    detail = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
    spreads = [jitter_sharpness(detail, 1.0, rng).std() / detail.std() for _ in range(50)]
    assert min(spreads) < 0.6 and max(spreads) > 1.5
    means = [jitter_sharpness(detail, 1.0, rng).mean() for _ in range(5)]
    assert np.allclose(means, detail.mean(), atol=0.5)
