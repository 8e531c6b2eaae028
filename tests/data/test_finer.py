"""Regions with finer labels, read from masks beside the masks."""

import numpy as np
import pytest
import torch
from PIL import Image

from segtune.config.compose import compose
from segtune.data.batches.finer import finer_classes, load_finer, number_regions, with_regions
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from tests.conftest import SCENES, write_pairs

CLASSES = "dataset.classes=[road,{name:car,finer:[sedan,bus]}]"


def test_areas_of_one_label_are_regions_and_small_ones_are_none():
    mask = np.full((20, 30), 255, np.uint8)
    mask[2:8, 2:8] = 0
    mask[2:8, 8:14] = 1  # touches it, but is another label
    mask[12:18, 20:26] = 0
    mask[0, 29] = 1  # one pixel
    regions = number_regions(mask, 4)
    assert sorted(regions.labels.tolist()) == [0, 0, 1]
    for n, label in enumerate(regions.labels, 1):
        assert (mask[regions.numbers == n] == label).all() and (regions.numbers == n).sum() == 36
    assert (regions.numbers > 0).sum() == 3 * 36


def test_regions_are_numbered_over_the_whole_batch():
    masks = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    masks[0, :4, :4], masks[0, :4, 5:], masks[2, 2:6, 2:6] = 0, 1, 1
    batch = with_regions({"image": torch.zeros(3, 3, 8, 8, dtype=torch.uint8), "mask": masks}, 4)
    assert batch["labels"].tolist() == [0, 1, 1]
    assert [sorted(np.unique(r)) for r in batch["regions"].numpy()] == [[0, 1, 2], [0], [0, 3]]


def test_the_street_scenes_carry_finer_labels_that_agree_with_their_masks():
    source = open_source(compose(SCENES).config.dataset)
    assert finer_classes(source, "car").names == ("sedan", "truck", "bus")
    loaded = load_finer(source, "train", "building", [64], 16, stored_masks=True)
    assert 0 < len(loaded) <= 6
    assert all(set(np.unique(m)) <= {0, 1, 255} and (m != 255).any() for m in loaded.masks)
    other = load_finer(source, "train", "car", [64], 16, stored_masks=True)
    assert loaded.fingerprint != other.fingerprint


def pairs_with_finer(root, finer: np.ndarray) -> list[str]:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 1
    image = np.full((32, 32, 3), 90, np.uint8)
    for split in ("train", "val"):
        write_pairs(root, split, [(image, mask)])
        (root / "finer" / split).mkdir(parents=True)
        Image.fromarray(finer).save(root / "finer" / split / "0.png")
    return [
        "dataset=folder",
        f"dataset.root='{root}'",
        "dataset.name=mine",
        CLASSES,
        "dataset.finer='finer/{split}'",
    ]


def test_finer_ids_of_other_classes_are_ignored(tmp_path):
    overrides = pairs_with_finer(tmp_path, np.ones((32, 32), np.uint8))
    source = open_source(compose(overrides).config.dataset)
    (mask,) = load_finer(source, "val", "car", [32], 16).masks
    assert (mask == 1).sum() == 256 and (mask == 255).sum() == 32 * 32 - 256


@pytest.mark.parametrize(
    ("finer", "words"),
    [
        (np.full((32, 32), 7, np.uint8), r"holds \[7\] at pixels of 'car'.*0..1 \(sedan, bus\)"),
        (np.full((32, 32), 255, np.uint8), "no image of split 'val' shows a region of 'car'"),
        (np.zeros((16, 16), np.uint8), "both must agree"),
    ],
)
def test_faulty_finer_masks_are_named(tmp_path, finer, words):
    source = open_source(compose(pairs_with_finer(tmp_path, finer)).config.dataset)
    with pytest.raises(DataError, match=words):
        load_finer(source, "val", "car", [32], 16)


def test_a_class_without_finer_labels_and_a_dataset_without_finer_masks_are_refused(tmp_path):
    overrides = pairs_with_finer(tmp_path, np.ones((32, 32), np.uint8))
    source = open_source(compose(overrides).config.dataset)
    with pytest.raises(ConfigError, match="those of 'mine' with finer labels: car"):
        load_finer(source, "val", "road", [32], 16)
    bare = open_source(compose(overrides[:-1]).config.dataset)
    with pytest.raises(DataError, match="dataset.finer"):
        load_finer(bare, "val", "car", [32], 16)
