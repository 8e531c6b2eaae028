"""Classes of unequal frequency: the images of an epoch, and the places of crops."""

import numpy as np
import pytest

from segtune.config.dataset_schema import SamplingConfig
from segtune.config.schema import AugmentConfig
from segtune.data.batches.datamodule import EpochSampler, TrainViews
from segtune.data.batches.decoded import Decoded
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.transforms import Augment
from segtune.training.feature_cache import FeatureViews


def test_shuffling_shows_each_image_once_and_depends_on_seed_and_epoch_alone():
    plain = Sampling(SamplingConfig(), np.ones((50, 2), np.int64))
    first = plain.order(3, 1)
    assert sorted(first.tolist()) == list(range(50))
    assert first.tolist() == plain.order(3, 1).tolist() != plain.order(3, 2).tolist()


def test_class_balanced_draws_the_only_image_of_a_class_as_often_as_all_others_together():
    """One image of a hundred shows class 1: half of the draws choose class 1, and so that image."""
    counts = np.zeros((100, 2), np.int64)
    counts[:, 0] = 10
    counts[7, 1] = 1
    balanced = Sampling(SamplingConfig(images="class_balanced"), counts)
    drawn = np.concatenate([balanced.order(0, e) for e in range(40)])
    assert 0.46 < np.mean(drawn == 7) < 0.55
    assert len(balanced.order(0, 0)) == 100


def test_a_class_that_no_mask_shows_is_never_drawn():
    counts = np.zeros((10, 3), np.int64)
    counts[:, 0] = 1
    balanced = Sampling(SamplingConfig(images="class_balanced"), counts)
    assert set(balanced.order(0, 0)) <= set(range(10))


def scene() -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((200, 300), np.uint8)
    mask[150:154, 220:224] = 1  # 16 of 60,000 pixels
    return np.repeat(mask[..., None] * 200, 3, axis=2), mask


def crops(sampling: Sampling | None, count: int = 200) -> list[np.ndarray]:
    image, mask = scene()
    augment = Augment(
        AugmentConfig(scale=(0.8, 1.25), hflip=0.5, crop_size=64), (200, 300), 1, sampling
    )
    return [augment(image, mask, 0, 0, np.random.default_rng(s))[1] for s in range(count)]


def test_crops_around_rare_classes_show_them():
    _, mask = scene()
    counts = np.array([np.bincount(mask.ravel(), minlength=2)])
    rare = crops(Sampling(SamplingConfig(rare_crops=1.0), counts))
    half = crops(Sampling(SamplingConfig(rare_crops=0.5), counts))
    plain = crops(None)
    shows = {"rare": rare, "half": half, "plain": plain}
    share = {name: np.mean([(c == 1).any() for c in masks]) for name, masks in shows.items()}
    assert share["rare"] > 0.97  # drawn by inverse share: 3,749 times of 3,750
    assert share["plain"] < 0.15 < 0.4 < share["half"] < 0.7
    assert all(set(np.unique(c)) <= {0, 1, 255} for c in rare)


def test_the_rare_pixel_lies_anywhere_in_its_crop():
    sampling = Sampling(SamplingConfig(rare_crops=1.0), np.array([[0, 16]]))
    rows = [np.argwhere(c == 1).mean(0) for c in crops(sampling) if (c == 1).any()]
    assert np.std(rows, axis=0).min() > 10  # of 64 pixels: uniform would be 18


def test_crops_that_are_mostly_ignored_are_drawn_again():
    image, mask = scene()
    mask[:, 60:] = 255
    augment = Augment(AugmentConfig(crop_size=64), (200, 300), 1)
    sampling = Sampling(SamplingConfig(max_ignored=0.5), np.array([[1, 0]]))
    careful = Augment(AugmentConfig(crop_size=64), (200, 300), 1, sampling)

    def ignored(draw: Augment) -> float:
        masks = [draw(image, mask, 0, 0, np.random.default_rng(s))[1] for s in range(100)]
        return float(np.mean([np.mean(m == 255) > 0.5 for m in masks]))

    assert ignored(augment) > 0.8 and ignored(careful) < ignored(augment) / 2


def draws_of_one_image(world_size: int = 1) -> list[tuple[int, int, int]]:
    """Draws of image 7 in an epoch of 48 by `class_balanced`; only this image shows class 1."""
    counts = np.ones((48, 2), np.int64)
    counts[:, 1] = np.arange(48) == 7
    sampling = Sampling(SamplingConfig(images="class_balanced"), counts)
    samplers = [EpochSampler(sampling, 3, rank, world_size) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(2)
    assert list(samplers[0]) == list(samplers[0])  # a resumed run draws the same
    return [draw for sampler in samplers for draw in sampler if draw[1] == 7]


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_image_that_an_epoch_draws_often_is_another_view_each_time(world_size):
    draws = draws_of_one_image(world_size)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    split = Decoded(("a",) * 48, (image,) * 48, (mask,) * 48, "")
    config = AugmentConfig(scale=(0.5, 2.0), hflip=0.5, color_jitter=0.2, crop_size=32)
    views = TrainViews(split, Augment(config, (40, 60), 4), 3)
    batch, again = (views.__getitems__(draws)["image"].numpy() for _ in range(2))
    assert len(draws) > 15 and len({view.tobytes() for view in batch}) == len(draws)
    assert np.array_equal(batch, again)


def test_an_image_that_an_epoch_draws_often_shows_all_its_encoded_views():
    views = FeatureViews([], np.zeros((48 * 4, 1, 1), np.uint8), (1, 1), 4, seed=3)
    rows = [views._row(*draw) for draw in draws_of_one_image()]
    assert {row // 4 for row in rows} == {7} and len(set(rows[:4])) == 4
