"""The built-in scenes: exact, varied, and the same for the same seed."""

import errno
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from segtune.config.compose import compose
from segtune.config.conf_folders import shipped
from segtune.data.sources import open_source
from segtune.data.street.canvas import CLASSES, FINER, NO_FINER
from segtune.data.street.files import _write_png, scene_seed
from segtune.data.street.scenes import Scene
from segtune.runtime.retry import is_passing
from tests.conftest import SCENES


def test_a_seed_always_draws_the_same_scene():
    first, second = Scene(3).render(96, 128), Scene(3).render(96, 128)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)


def test_every_class_occurs_over_some_scenes():
    masks = [Scene(seed).render(96, 128).mask for seed in range(12)]
    assert set(np.unique(masks)) == set(range(len(CLASSES)))


def test_only_classes_with_finer_labels_have_them_and_everywhere():
    for seed in range(6):
        frame = Scene(seed).render(96, 128)
        for label, name in enumerate(CLASSES):
            finer = frame.finer[frame.mask == label]
            allowed = set(range(len(FINER[name]))) if name in FINER else {NO_FINER}
            assert set(np.unique(finer)) <= allowed, name


def test_driving_changes_the_view_and_keeps_the_street():
    scene = Scene(5)
    now, later = scene.render(96, 128, 0.0), scene.render(96, 128, 1.0)
    road = CLASSES.index("road")
    assert (now.mask != later.mask).mean() > 0.01
    before, after = now.mask == road, later.mask == road
    assert (before & after).sum() / (before | after).sum() > 0.5


def test_no_scene_is_in_two_splits():
    places = product(range(3), ("train", "val", "test", "clips"), range(999))
    seeds = [scene_seed(*place) for place in places]
    assert len(seeds) == len(set(seeds))


def test_the_generator_and_the_class_table_agree():
    table = yaml.safe_load((shipped("conf") / "dataset" / "street.yaml").read_text())["classes"]
    assert tuple(c["name"] for c in table) == CLASSES
    assert {c["name"]: tuple(c["finer"]) for c in table if "finer" in c} == FINER


def test_the_files_are_a_folder_dataset_with_a_clip():
    source = open_source(compose(SCENES).config.dataset)
    assert [len(source.pairs(s)) for s in ("train", "val", "test")] == [6, 3, 2]
    assert (source.root / "clips" / "clip_00.mp4").is_file()
    assert len(list((source.root / "clip_masks" / "clip_00").glob("*.png"))) == 5


def test_a_full_disk_is_named_so_that_the_cache_waits_for_space():
    with pytest.raises(OSError) as full:  # noqa: PT011 - the number of the error is checked
        _write_png(Path("/dev/full"), np.zeros((4, 4, 3), np.uint8))
    assert full.value.errno == errno.ENOSPC and is_passing(full.value)
