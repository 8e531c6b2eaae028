"""Augmentation keeps masks exact: image and mask share one map, and no new ids appear."""

import numpy as np
import pytest

from segtune.config.dataset_schema import SamplingConfig
from segtune.config.schema import AugmentConfig
from segtune.data.batches import view
from segtune.data.batches.photometric import jitter_color, jitter_sharpness
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.transforms import Augment
from segtune.data.batches.view import FILL, View

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


def test_zooms_and_crops_add_no_id():
    augment = Augment(AugmentConfig(scale=(0.4, 2.5), hflip=0.5, crop_size=64), (60, 80), 1)
    for seed in range(40):
        _, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(seed))
        assert mask.shape == (64, 64) and set(np.unique(mask)) <= {*range(11), 255}


def test_image_and_mask_move_together():
    """The image encodes its mask in blocks of 8 pixels: away from borders both agree in a view."""
    blocks = np.kron(RNG.integers(0, 11, (12, 16)), np.ones((8, 8))).astype(np.uint8)
    coded = np.repeat(blocks[..., None] * 20, 3, axis=2)
    augment = Augment(AugmentConfig(scale=(0.8, 1.6), hflip=0.5, crop_size=64), (96, 128), 1)
    for seed in range(20):
        image, mask = augment(coded, blocks, 0, 0, np.random.default_rng(seed))
        inside = mask != 255
        agree = np.abs(image[..., 0].astype(int) - mask.astype(int) * 20) <= 4
        assert agree[inside].mean() > 0.7
        exact = inside & (image[..., 0] % 20 == 0)  # not interpolated: must agree everywhere
        assert (image[..., 0][exact] // 20 == mask[exact]).mean() > 0.97


ROWS, COLUMNS = np.mgrid[:60, :80]
PLACES = np.stack([3 * ROWS, 3 * COLUMNS, 0 * ROWS], axis=2).astype(np.uint8)
"""An image whose pixels hold their own row and column, times 3."""


def sampled(**options: float) -> Sampling:
    counts = np.bincount(MASK.ravel(), minlength=11)[None]
    return Sampling(SamplingConfig(**options), counts)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(
    ("config", "sampling"),
    [
        ({"crop_size": 32}, None),
        ({"crop_size": 64}, None),  # higher than the image
        ({"crop_size": 96}, None),  # larger than the image
        ({"crop_size": 32}, sampled(rare_crops=1.0)),
        ({}, None),  # views of images of several sizes
    ],
)
def test_views_without_zoom_hold_the_images_own_pixels(config, sampling, flip):
    """The pixels hold their place: the whole view has one corner, in whole pixels."""
    augment = Augment(AugmentConfig(hflip=flip, **config), (50, 50), 1, sampling)
    corners = set()
    for seed in range(50):
        image, mask = augment(PLACES, MASK, 0, 0, np.random.default_rng(seed))
        if flip:
            image, mask = image[:, ::-1], mask[:, ::-1]
        inside = mask != 255
        side = len(mask)
        assert inside.sum() == min(side, 60) * min(side, 80)  # no pixel of the image is lost
        assert (image[~inside] == FILL).all()
        y, x = image[..., 0][inside] // 3, image[..., 1][inside] // 3
        assert (image[..., :2][inside] % 3 == 0).all()
        row, column = np.nonzero(inside)
        assert np.ptp(y - row) == np.ptp(x - column) == 0
        np.testing.assert_array_equal(mask[inside], MASK[y, x])
        corners.add((int(y[0] - row[0]), int(x[0] - column[0])))
    assert len(corners) > 20


@pytest.mark.parametrize("scale", [(0.5, 0.9), (1.0, 2.5)])
def test_a_zoomed_mask_takes_the_pixel_nearest_to_the_place_of_the_image(scale):
    augment = Augment(AugmentConfig(scale=scale, hflip=0.5, crop_size=64), (60, 80), 1)
    compared = 0
    for seed in range(30):
        image, mask = augment(PLACES, MASK, 0, 0, np.random.default_rng(seed))
        # bilinear interpolation of a ramp is exact but for rounding
        y, x = image[..., 0] / 3, image[..., 1] / 3
        clear = (mask != 255) & (abs(y % 1 - 0.5) > 0.2) & (abs(x % 1 - 0.5) > 0.2)
        compared += clear.sum()
        nearest = np.rint(y[clear]).astype(int), np.rint(x[clear]).astype(int)
        np.testing.assert_array_equal(mask[clear], MASK[nearest])
    assert compared > 5_000


@pytest.mark.parametrize("scale", [(0.5, 0.9), (1.0, 2.5), (0.3, 3.0)])
def test_no_labelled_pixel_is_mixed_with_the_colour_of_the_outside(scale):
    augment = Augment(AugmentConfig(scale=scale, hflip=0.5, crop_size=64), (60, 80), 1)
    white, lost = np.full_like(IMAGE, 255), []
    for seed in range(100):
        image, mask = augment(white, MASK, 0, 0, np.random.default_rng(seed))
        assert (image[mask != 255] == 255).all()
        lost.append(np.mean((mask == 255) & (image == 255).all(2)))
    assert np.mean(lost) < 0.001  # where it adds less than half a grey level


def test_no_image_is_warped_for_a_rejected_view(monkeypatch):
    warped, plain = [], view.cv2.warpAffine
    monkeypatch.setattr(
        view.cv2,
        "warpAffine",
        lambda array, *a, **k: warped.append(array.ndim) or plain(array, *a, **k),
    )
    hidden = MASK.copy()
    hidden[:, 20:] = 255
    augment = Augment(
        AugmentConfig(scale=(0.9, 1.1), crop_size=32), (60, 80), 1, sampled(max_ignored=0.5)
    )
    for seed in range(20):
        image, mask = augment(PLACES, hidden, 0, 0, np.random.default_rng(seed))
        x = image[..., 1][mask != 255] / 3
        assert (x < 20.5).all()  # image and mask are of the same view
    assert warped.count(3) == 20 and warped.count(2) > 60


def test_outside_of_the_image_is_ignored():
    augment = Augment(AugmentConfig(scale=(0.25, 0.25), crop_size=64), (60, 80), 1)
    _, mask = augment(IMAGE, MASK, 0, 0, np.random.default_rng(1))
    assert (mask == 255).mean() > 0.8


def test_the_same_seed_draws_the_same_view():
    augment = Augment(
        AugmentConfig(scale=(0.5, 2), hflip=0.5, color_jitter=0.4, crop_size=64), (60, 80), 1
    )
    views = [augment(IMAGE, MASK, 0, 0, np.random.default_rng([1, 2, 3])) for _ in range(2)]
    np.testing.assert_array_equal(views[0][0], views[1][0])


def test_the_view_of_a_mirrored_image_is_the_mirrored_view():
    """The window keeps its distance to the other side, also zoomed or outside of the image."""
    for zoom, x in ((1.0, 5.0), (1.7, 3.25), (0.6, -20.0)):
        plain = View((48, 64), zoom, 2.0, x, False)
        other = View((48, 64), zoom, 2.0, 80 - x - 64 / zoom, False)
        turned = View((48, 64), zoom, 2.0, x, True)
        image, mask = plain.warp_image(PLACES), plain.warp_mask(MASK)
        mirrored = other.warp_image(np.ascontiguousarray(PLACES[:, ::-1]))[:, ::-1]
        assert np.abs(mirrored.astype(int) - image).max() <= 1
        np.testing.assert_array_equal(
            other.warp_mask(np.ascontiguousarray(MASK[:, ::-1]))[:, ::-1], mask
        )
        assert np.abs(turned.warp_image(PLACES)[:, ::-1].astype(int) - image).max() <= 1
        np.testing.assert_array_equal(turned.warp_mask(MASK)[:, ::-1], mask)


def test_a_view_of_a_part_is_the_part_of_the_view():
    """A crop of a crop, in whole pixels and zoomed."""
    for zoom in (1.0, 2.0):
        whole = View((60, 80), zoom, 4.0, 8.0, False)
        part = View((20, 30), zoom, 4 + 10 / zoom, 8 + 6 / zoom, False)
        crop = whole.warp_image(PLACES)[10:30, 6:36].astype(int)
        assert np.abs(crop - part.warp_image(PLACES)).max() <= 1
        np.testing.assert_array_equal(whole.warp_mask(MASK)[10:30, 6:36], part.warp_mask(MASK))


def test_crops_grow_to_their_size_and_stay():
    augment = Augment(
        AugmentConfig(crop_size=256, crop_start=128, crop_growth=0.6), (360, 480), 100
    )
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


def test_sharpness_changes_only_detail():
    rng = np.random.default_rng(4)
    flat = np.full((8, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(jitter_sharpness(flat, 2.0, rng), flat)
    detail = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
    spreads = [jitter_sharpness(detail, 1.0, rng).std() / detail.std() for _ in range(50)]
    assert min(spreads) < 0.6 and max(spreads) > 1.5
    means = [jitter_sharpness(detail, 1.0, rng).mean() for _ in range(5)]
    assert np.allclose(means, detail.mean(), atol=0.5)


OPTIONS_IN_PLACE = [{"blur": 3.0}, {"noise": 20.0}, {"cutout": 0.5, "cutout_labels": "keep"}]


def view_of(config: dict, seed: int = 0, size=(60, 80)) -> tuple[np.ndarray, np.ndarray]:
    augment = Augment(AugmentConfig(**config), size, 10)
    return augment(PLACES, MASK, 0, 0, np.random.default_rng(seed))


def test_two_flips_top_to_bottom_are_none():
    image, mask = view_of({"vflip": 1.0})
    np.testing.assert_array_equal(image, PLACES[::-1])
    np.testing.assert_array_equal(mask, MASK[::-1])
    augment = Augment(AugmentConfig(vflip=1.0), (60, 80), 10)
    again, mask_again = augment(image, mask, 0, 0, np.random.default_rng(1))
    np.testing.assert_array_equal(again, PLACES)
    np.testing.assert_array_equal(mask_again, MASK)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_is_exact(turns):
    """Counter-clockwise, as of NumPy; every pixel of the square has a place."""
    square, ids = PLACES[:60, :60], MASK[:60, :60]
    turned = View((60, 60), 1.0, 0.0, 0.0, False, degrees=90.0 * turns)
    np.testing.assert_array_equal(turned.warp_mask(np.ascontiguousarray(ids)), np.rot90(ids, turns))
    np.testing.assert_array_equal(
        turned.warp_image(np.ascontiguousarray(square)), np.rot90(square, turns)
    )


@pytest.mark.parametrize(
    "config", [{"rotate": 40.0}, {"rotate": 180.0, "vflip": 0.5, "hflip": 0.5}]
)
def test_a_turned_mask_agrees_with_its_image_and_ignores_what_it_uncovers(config):
    white, ignored = np.full_like(IMAGE, 255), []
    augment = Augment(AugmentConfig(scale=(0.7, 1.5), crop_size=64, **config), (60, 80), 1)
    compared = 0
    for seed in range(30):
        image, mask = augment(PLACES, MASK, 0, 0, np.random.default_rng(seed))
        y, x = image[..., 0] / 3, image[..., 1] / 3
        clear = (mask != 255) & (abs(y % 1 - 0.5) > 0.2) & (abs(x % 1 - 0.5) > 0.2)
        compared += clear.sum()
        nearest = np.rint(y[clear]).astype(int), np.rint(x[clear]).astype(int)
        np.testing.assert_array_equal(mask[clear], MASK[nearest])
        plain, mask = augment(white, MASK, 0, 0, np.random.default_rng(seed))
        assert (plain[mask != 255] == 255).all()  # no labelled pixel mixes with the outside
        ignored.append((mask == 255).mean())
    assert compared > 5_000 and max(ignored) > 0.1


@pytest.mark.parametrize("config", OPTIONS_IN_PLACE)
def test_changes_in_place_keep_the_mask_and_the_cached_image(config):
    before = PLACES.copy()
    image, mask = view_of(config, seed=3)
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(PLACES, before)
    assert image.dtype == np.uint8 and (image != PLACES).any()
    np.testing.assert_array_equal(image, view_of(config, seed=3)[0])


def test_noise_has_the_deviation_that_was_asked_for():
    grey = np.full((200, 200, 3), 128, np.uint8)
    augment = Augment(AugmentConfig(noise=30.0), (200, 200), 1)
    no_mask = np.zeros((200, 200), np.uint8)
    deviations = [
        augment(grey, no_mask, 0, 0, np.random.default_rng(s))[0].std() for s in range(40)
    ]
    assert max(deviations) < 31.0 and 10.0 < np.mean(deviations) < 20.0  # uniform over 0..30


@pytest.mark.parametrize("labels", ["ignore", "keep"])
def test_a_cut_out_is_one_grey_rectangle_of_the_asked_size(labels):
    shares = []
    for seed in range(40):
        image, mask = view_of({"cutout": 0.3, "cutout_labels": labels}, seed)
        covered = (image != PLACES).any(2)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        if len(rows):
            box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (box == FILL).all()
        np.testing.assert_array_equal(mask[~covered], MASK[~covered])
        expected = 255 if labels == "ignore" else MASK[covered]
        assert (mask[covered] == expected).all()
        shares.append(covered.mean())
    assert max(shares) < 0.32 and np.mean(shares) > 0.08


@pytest.mark.parametrize("name", [*OPTIONS_IN_PLACE, {"vflip": 0.5}, {"rotate": 30.0}])
def test_what_is_off_draws_nothing_from_the_generator(name):
    """A run that was recorded before these options existed resumes with the same views."""
    off = {key: 0.0 for key in name if key != "cutout_labels"}
    config = {"scale": (0.5, 2.0), "hflip": 0.5, "color_jitter": 0.4, "crop_size": 64}
    for mine, other in zip(view_of(config, 5), view_of({**config, **off}, 5), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert (view_of({**config, **name}, 5)[0] != view_of(config, 5)[0]).any()
