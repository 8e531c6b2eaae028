"""Patterns of files: layouts that folders alone cannot state."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.config.compose import compose
from segtune.data.source.layout import Source
from segtune.data.source.patterns import fitting_files, splits_in
from segtune.data.sources import open_source


def touch(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)


def open_folder(root: Path, images: str, masks: str) -> Source:
    words = [f"dataset.root={root}", f"dataset.images={images}", f"dataset.masks={masks}"]
    return open_source(compose(["dataset=folder", "dataset.classes=[a]", *words]).config.dataset)


@pytest.mark.parametrize(
    ("image", "mask", "images", "masks", "name"),
    [
        ("train/a.jpg", "train/a.png", "{split}/{name}.jpg", "{split}/{name}.png", "a"),
        ("train/a.jpg", "train/a_m.jpg", "{split}/{name}.jpg", "{split}/{name}_m.jpg", "a"),
        ("train/s_a.png", "train/a.png", "{split}/s_{name}.png", "{split}/{name}.png", "a"),
        ("train/x/i/0.png", "train/x/m/0.png", "{split}/{folder}/i", "{split}/{folder}/m", "x/0"),
        ("x/train/i/0.png", "x/train/m/0.png", "{folder}/{split}/i", "{folder}/{split}/m", "x/0"),
        ("train/a/im.png", "train/a/gt.png", "{split}/{name}/im.png", "{split}/{name}/gt.png", "a"),
        ("i/train/d/a.PNG", "m/train/d/a.png", "i/{split}", "m/{split}", "d/a"),
        ("train/train_i/a.png", "train/m/a.png", "{split}/{split}_i", "{split}/m", "a"),
    ],
)
def test_a_pattern_pairs_each_image_with_its_mask(image, mask, images, masks, name, tmp_path):
    touch(tmp_path, image, mask)
    source = open_folder(tmp_path, images, masks)
    assert source.splits() == ["train"]
    (pair,) = source.pairs("train")
    assert (pair.name, pair.image, pair.mask) == (name, tmp_path / image, tmp_path / mask)


def test_a_name_that_a_pattern_repeats_is_the_same_in_both_places(tmp_path):
    touch(tmp_path, "a/a.png", "b/c.png")
    files = fitting_files(tmp_path, "{name}/{name}.png", (".png",))
    assert files == [("a", tmp_path / "a/a.png")]


def test_a_file_is_no_split(tmp_path):
    touch(tmp_path, "train/a_sat.jpg", "readme_sat.jpg")
    assert splits_in(tmp_path, "{split}/{name}_sat.jpg") == ["train"]
