"""Splits: by list, by share, in folds; groups stay whole, classes are spread."""

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
def test_no_group_stands_in_two_splits_and_no_image_is_lost(groups, seed, val, test, by_class):
    names = [f"{i:03d}" for i in range(len(groups))]
    config = SplitsConfig(val=val, test=test, seed=seed)
    presence = np.random.default_rng(seed).random((len(groups), 4)) < 0.3 if by_class else None
    if len(set(groups)) < 3:
        return
    found = divide(names, [str(g) for g in groups], config, presence)
    assert flat(found) == names and all(found.values())
    where = {n: s for s, part in found.items() for n in part}
    for group in set(groups):
        assert len({where[n] for n, g in zip(names, groups, strict=True) if g == group}) == 1


def test_shares_are_kept_and_the_seed_decides():
    names = [str(i) for i in range(200)]
    first, again, other = (
        divide(names, names, SplitsConfig(val=0.25, test=0.1, seed=s)) for s in (1, 1, 2)
    )
    assert {s: len(n) for s, n in first.items()} == {"train": 130, "val": 50, "test": 20}
    assert first == again != other


def test_folds_are_disjoint_and_make_up_the_whole():
    names = [str(i) for i in range(50)]
    folds = [divide(names, names, SplitsConfig(folds=5, fold=f, seed=3)) for f in range(5)]
    assert sorted(n for f in folds for n in f["val"]) == sorted(names)
    for fold in folds:
        assert flat(fold) == sorted(names) and len(fold["val"]) == 10


def test_a_class_of_three_images_reaches_every_split_when_stratified():
    """By chance alone, three images of 60 all fall into train in about half of the seeds."""
    names = [f"{i:02d}" for i in range(60)]
    presence = np.zeros((60, 2), bool)
    presence[:, 0] = True
    presence[[7, 23, 41], 1] = True
    for seed in range(20):
        found = divide(names, names, SplitsConfig(val=0.2, test=0.2, seed=seed), presence)
        assert all({"07", "23", "41"} & set(part) for part in found.values())
        assert [len(found[s]) for s in ("train", "val", "test")] == [36, 12, 12]


def test_too_few_groups_are_told():
    with pytest.raises(DataError, match="4 images in 1 groups .* make no 2 splits"):
        divide(list("abcd"), ["x"] * 4, SplitsConfig())


@pytest.mark.parametrize("values", [{"val": 0.6, "test": 0.4}, {"folds": 3, "fold": 3}])
def test_shares_that_leave_nothing_and_folds_that_are_none_are_refused(values):
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
    return {s: {p.name for p in source.pairs(s)} for s in source.splits()}


def test_folders_are_poured_together_and_a_test_folder_is_kept(tmp_path):
    numbered(tmp_path, "train", 8)
    numbered(tmp_path, "val", 2, first=8)
    numbered(tmp_path, "test", 3)
    source = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.4)))
    found = names_of(source)
    assert {s: len(n) for s, n in found.items()} == {"train": 6, "val": 4, "test": 3}
    pools = {f"train/{i}" for i in range(8)} | {"val/8", "val/9"}
    assert found["train"] | found["val"] == pools and found["test"] == {"0", "1", "2"}


def test_images_of_one_name_in_two_folders_stay_two_when_poured_together(tmp_path):
    """As the built-in scenes have them; groups are told by the name below the folder."""
    for split, value in (("train", 0), ("val", 1)):
        write_pairs(tmp_path, split, [(IMAGE, np.full((4, 6), value, np.uint8))] * 4)
    source = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.5, stratify=True)))
    for split in ("train", "val"):
        masks = load_split(source, split, [4]).masks
        assert len(masks) == 4 and sorted(int(m[0, 0]) for m in masks) == [0, 0, 1, 1]
    grouped = open_source(dataset(tmp_path, splits=SplitsConfig(val=0.5), groups="^."))
    for part in names_of(grouped).values():
        assert {n.replace("train", "val") for n in part} <= part  # both 0s on one side


def test_lists_name_images_with_or_without_suffix_and_folder(tmp_path):
    numbered(tmp_path, ".", 4)
    (tmp_path / "train.txt").write_text("0\n1.png\n")
    (tmp_path / "val.txt").write_text("images/2.png\n\n3\n")
    source = open_source(
        dataset(tmp_path, images="images", masks="masks", splits=SplitsConfig(lists="{split}.txt"))
    )
    assert names_of(source) == {"train": {"0", "1"}, "val": {"2", "3"}}


@pytest.mark.parametrize(
    ("line", "words"),
    [("9.png", "no image of 4"), ("/home/me/0.png", "absolute path that does not exist here")],
)
def test_a_line_that_is_no_images_is_told_with_its_list(tmp_path, line, words):
    numbered(tmp_path, ".", 4)
    (tmp_path / "train.txt").write_text(f"0\n{line}\n")
    source = open_source(
        dataset(tmp_path, images="images", masks="masks", splits=SplitsConfig(lists="{split}.txt"))
    )
    with pytest.raises(DataError, match=f"train.txt' names '{line}'.*{words}"):
        source.pairs("train")


def test_images_of_no_split_ask_for_splits(tmp_path):
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
    found = names_of(source)
    assert sorted(len(n) for n in found.values()) == [3, 6] and found["val"] == {
        f"{min(found['val'])[0]}/{i}" for i in range(3)
    }


def test_two_images_for_one_mask_are_refused(tmp_path):
    numbered(tmp_path, "train", 2)
    (tmp_path / "images" / "train" / "0.jpg").write_bytes(
        (tmp_path / "images" / "train" / "0.png").read_bytes()
    )
    with pytest.raises(DataError, match=r"two images for one mask: .*0\.jpg.* and .*0\.png"):
        open_source(dataset(tmp_path)).pairs("train")


def test_a_dataset_without_classes_says_where_they_may_stand(tmp_path):
    numbered(tmp_path, "train", 2)
    with pytest.raises(ConfigError, match=r"names no classes: there is no '.*classes\.yaml'"):
        open_source(DatasetConfig(name="x", source="folder", root=str(tmp_path)))
    (tmp_path / "classes.yaml").write_text("classes: [road, car]\nignore: [9]\n")
    assert open_source(
        DatasetConfig(name="x", source="folder", root=str(tmp_path))
    ).classes.ignore == (9,)
    (tmp_path / "classes.yaml").write_text("klasses: [road]\n")
    with pytest.raises(DataError, match=r"classes\.yaml' holds \['klasses'\]"):
        open_source(DatasetConfig(name="x", source="folder", root=str(tmp_path)))
