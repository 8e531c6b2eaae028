"""Splits by list, by share and in folds: groups stay whole, classes are spread."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segtune.config.dataset_schema import DatasetConfig, SplitsConfig
from segtune.data.batches.cache import load_split
from segtune.data.source.splits import divide
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from tests.conftest import write_pairs


def flat(splits: dict[str, list[str]]) -> list[str]:
    return sorted(n for names in splits.values() for n in names)


@given(
    groups=st.lists(st.integers(0, 12), min_size=20, max_size=60),
    seed=st.integers(0, 99),
    val=st.sampled_from([0.1, 0.2, 0.4]),
    test=st.sampled_from([0.0, 0.2]),
    by_class=st.booleans(),
)
def test_no_group_is_in_two_splits_and_no_image_is_lost(groups, seed, val, test, by_class):
    names = [f"{i:03d}" for i in range(len(groups))]
    config = SplitsConfig(val=val, test=test, seed=seed)
    presence = np.random.default_rng(seed).random((len(groups), 4)) < 0.3 if by_class else None
    if len(set(groups)) < 3:
        return
    splits = divide(names, [str(group) for group in groups], config, presence)
    assert flat(splits) == names
    assert all(splits.values())
    for group in set(groups):
        members = {name for name, g in zip(names, groups, strict=True) if g == group}
        assert sum(bool(members.intersection(part)) for part in splits.values()) == 1


def test_shares_are_kept_and_the_seed_decides():
    names = [str(i) for i in range(200)]
    first, again, other = (
        divide(names, names, SplitsConfig(val=0.25, test=0.1, seed=s)) for s in (1, 1, 2)
    )
    assert {s: len(n) for s, n in first.items()} == {"train": 130, "val": 50, "test": 20}
    assert first == again
    assert first != other


def test_folds_are_disjoint_and_make_up_the_whole():
    names = [str(i) for i in range(50)]
    folds = [divide(names, names, SplitsConfig(folds=5, fold=f, seed=3)) for f in range(5)]
    assert sorted(chain.from_iterable(fold["val"] for fold in folds)) == sorted(names)
    for fold in folds:
        assert flat(fold) == sorted(names)
        assert len(fold["val"]) == 10


def test_a_class_of_three_images_reaches_every_split_when_stratified():
    """By chance alone, three images of 60 all fall into train in about half of the seeds."""
    names = [f"{i:02d}" for i in range(60)]
    presence = np.zeros((60, 2), bool)
    presence[:, 0] = True
    presence[[7, 23, 41], 1] = True
    for seed in range(20):
        splits = divide(names, names, SplitsConfig(val=0.2, test=0.2, seed=seed), presence)
        assert all({"07", "23", "41"} & set(part) for part in splits.values())
        assert [len(splits[s]) for s in ("train", "val", "test")] == [36, 12, 12]


def test_fewer_groups_than_splits_are_refused():
    with pytest.raises(DataError, match="4 images in 1 groups .* make no 2 splits"):
        divide(list("abcd"), ["x"] * 4, SplitsConfig())


@pytest.mark.parametrize("values", [{"val": 0.6, "test": 0.4}, {"folds": 3, "fold": 3}])
def test_shares_that_leave_nothing_and_a_fold_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match="leave nothing to train on|is none of 0..2"):
        SplitsConfig(**values)


IMAGE = np.zeros((4, 6, 3), np.uint8)


def dataset(root, **options) -> DatasetConfig:
    return DatasetConfig(
        name="roads", source="folder", root=str(root), classes=["road", "car"], **options
    )


def numbered(root, split: str, count: int, first: int = 0) -> None:
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    write_pairs(root, split, [(IMAGE, IMAGE[..., 0])] * count)
    if first:
        for kind in ("images", "masks"):
            for path in sorted((root / kind / split).iterdir(), reverse=True):
                path.rename(path.with_name(f"{int(path.stem) + first}{path.suffix}"))


def names_of(source) -> dict[str, set[str]]:
    return {split: {pair.name for pair in source.pairs(split)} for split in source.splits()}


def test_folders_are_divided_together_and_a_test_folder_is_kept(tmp_path):
    numbered(tmp_path, "train", 8)
    numbered(tmp_path, "val", 2, first=8)
    numbered(tmp_path, "test", 3)
    source = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.4)))
    names = names_of(source)
    assert {split: len(part) for split, part in names.items()} == {"train": 6, "val": 4, "test": 3}
    pooled = {f"train/{i}" for i in range(8)} | {"val/8", "val/9"}
    assert names["train"] | names["val"] == pooled
    assert names["test"] == {"0", "1", "2"}


def test_images_of_one_name_in_two_folders_stay_two_when_divided_together(tmp_path):
    """The built-in scenes have such names; groups come from the name below the folder."""
    for split, value in (("train", 0), ("val", 1)):
        write_pairs(tmp_path, split, [(IMAGE, np.full((4, 6), value, np.uint8))] * 4)
    source = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.5, stratify=True)))
    for split in ("train", "val"):
        masks = load_split(source, split, [4]).masks
        assert sorted(int(mask[0, 0]) for mask in masks) == [0, 0, 1, 1]
    grouped = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.5), groups="^."))
    for part in names_of(grouped).values():
        assert {n.replace("train", "val") for n in part} <= part  # both 0s on one side


def test_a_broken_write_of_the_class_presence_leaves_no_cache_file(tmp_path, monkeypatch):
    def break_off(file, array):
        file.write_bytes(b"cut")
        raise OSError("disk full")

    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    numbered(tmp_path, "train", 8)
    config = dataset(tmp_path, splits=SplitsConfig(val=0.25, stratify=True))
    with monkeypatch.context() as patch:
        patch.setattr("segtune.data.source.pairs.np.save", break_off)
        with pytest.raises(OSError, match="disk full"):
            open_source(config).splits()
    assert open_source(config).splits() == ["train", "val"]


def test_lists_name_images_with_or_without_suffix_and_folder(tmp_path):
    numbered(tmp_path, ".", 4)
    (tmp_path / "train.txt").write_text("0\n1.png\n")
    (tmp_path / "val.txt").write_text("images/2.png\n\n3\n")
    source = open_source(
        dataset(tmp_path, images="images", masks="masks", splits=SplitsConfig(lists="{split}.txt"))
    )
    assert names_of(source) == {"train": {"0", "1"}, "val": {"2", "3"}}


@pytest.mark.parametrize(
    ("line", "message"),
    [("9.png", "no image of 4"), ("/home/me/0.png", "absolute path that does not exist here")],
)
def test_a_line_that_names_no_image_is_reported_with_its_list(tmp_path, line, message):
    numbered(tmp_path, ".", 4)
    (tmp_path / "train.txt").write_text(f"0\n{line}\n")
    source = open_source(
        dataset(tmp_path, images="images", masks="masks", splits=SplitsConfig(lists="{split}.txt"))
    )
    with pytest.raises(DataError, match=f"train.txt' names '{line}'.*{message}"):
        source.pairs("train")


def test_images_without_splits_ask_for_splits(tmp_path):
    numbered(tmp_path, ".", 4)
    with pytest.raises(DataError, match=r"names no \{split\}.*dataset\.splits\.val"):
        open_source(dataset(tmp_path, images="images", masks="masks")).pairs("train")


def test_groups_come_from_the_name_with_its_folders(tmp_path):
    for drive in ("a", "b", "c"):
        numbered(tmp_path, f"pool/{drive}", 3)
    source = open_source(
        dataset(
            tmp_path,
            images="images/pool",
            masks="masks/pool",
            groups="^[^/]+",
            splits=SplitsConfig(val=0.3),
        )
    )
    names = names_of(source)
    assert sorted(len(part) for part in names.values()) == [3, 6]
    drive = min(names["val"])[0]
    assert names["val"] == {f"{drive}/{i}" for i in range(3)}


def test_two_images_for_one_mask_are_refused(tmp_path):
    numbered(tmp_path, "train", 2)
    image = tmp_path / "images" / "train" / "0.png"
    image.with_suffix(".jpg").write_bytes(image.read_bytes())
    with pytest.raises(DataError, match=r"two images for one mask: .*0\.jpg.* and .*0\.png"):
        open_source(dataset(tmp_path)).pairs("train")


def test_a_dataset_without_classes_names_the_file_that_may_hold_them(tmp_path):
    numbered(tmp_path, "train", 2)
    config = DatasetConfig(name="x", source="folder", root=str(tmp_path))
    with pytest.raises(ConfigError, match=r"names no classes: there is no '.*classes\.yaml'"):
        open_source(config)
    (tmp_path / "classes.yaml").write_text("classes: [road, car]\nignore: [9]\n")
    assert open_source(config).classes.ignore == (9,)
    (tmp_path / "classes.yaml").write_text("klasses: [road]\n")
    with pytest.raises(DataError, match=r"classes\.yaml' holds \['klasses'\]"):
        open_source(config)
