"""The cache of decoded splits: one copy for all processes, checked, and bounded in size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.config.dataset_schema import CacheConfig, DatasetConfig, SamplingConfig
from segtune.config.schema import AugmentConfig
from segtune.data.batches import cache
from segtune.data.batches.cache import duplicates_in_train, load_split
from segtune.data.batches.datamodule import EpochSampler, TrainViews
from segtune.data.batches.decoded import Packed, Streamed, batches_of_one_size
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.transforms import Augment
from segtune.data.source import files
from segtune.data.source.files import digests
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import DataError
from tests.conftest import write_pairs


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pairs(
    count: int, sizes: tuple[tuple[int, int], ...] = ((20, 30), (16, 40))
) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        h, w = sizes[i % len(sizes)]
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        rows.append((image, rng.integers(0, 3, (h, w), dtype=np.uint8)))
    return rows


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "set", "train", pairs(6))
    write_pairs(tmp_path / "set", "val", pairs(6)[:2])
    return tmp_path / "set"


def opened(root: Path, **options) -> Source:
    return open_source(
        DatasetConfig(name="s", source="folder", root=str(root), classes=["a", "b", "c"], **options)
    )


def folders(cache: Path) -> list[Path]:
    return sorted(p.parent for p in (cache / "decoded").glob("*/index.json"))


def test_mapped_arrays_equal_decoded_ones(root):
    split = load_split(opened(root), "train", [16], stored_masks=True)
    assert isinstance(split.images, Packed)
    for pair, image, mask in zip(pairs(6), split.images, split.masks, strict=True):
        np.testing.assert_array_equal(mask, pair[1])
        assert image.shape[0] == 16
        if pair[0].shape[0] == 16:
            np.testing.assert_array_equal(image, pair[0])
    assert split.pixel_counts(3).sum() == sum(m.size for _, m in pairs(6))


def test_a_second_call_decodes_nothing(root, own_cache, monkeypatch):
    first = load_split(opened(root), "train", [16])
    monkeypatch.setattr(
        "segtune.data.batches.cache.read_image", lambda *a, **k: pytest.fail("decoded again")
    )
    second = load_split(opened(root), "train", [16])
    assert second.fingerprint == first.fingerprint and len(folders(own_cache)) == 1


def test_a_changed_file_is_seen_though_its_size_is_the_same(root):
    first = load_split(opened(root), "train", [16], stored_masks=True)
    path = root / "masks" / "train" / "0.png"
    changed = np.zeros((20, 30), np.uint8)
    Image.fromarray(changed).save(path)
    second = load_split(opened(root), "train", [16], stored_masks=True)
    assert second.fingerprint != first.fingerprint
    np.testing.assert_array_equal(second.masks[0], changed)


def test_other_sizes_and_mappings_have_entries_of_their_own(root, own_cache):
    for options in ({}, {"label_map": {2: 255}}):
        for size in ([16], [8]):
            load_split(opened(root, **options), "train", size)
    assert len(folders(own_cache)) == 4


def test_a_split_that_does_not_fit_is_decoded_as_it_is_read(root, own_cache):
    lines: list[str] = []
    small = CacheConfig(max_gb=1e-6)
    split = load_split(opened(root), "train", [16], True, small, lines.append)
    fitting = load_split(opened(root), "val", [16], True, CacheConfig(), lines.append)
    assert isinstance(split.images, Streamed) and isinstance(fitting.images, Packed)
    assert any("does not fit into the cache" in line for line in lines)
    assert {path.parent for path in own_cache.rglob("*.bin")} == {fitting.images._path.parent}
    for (_, expected), mask in zip(pairs(6), split.masks, strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert [len(b) for b in batches_of_one_size(split, 2)] == [2, 1, 2, 1]


@pytest.mark.parametrize("file", ["images.bin", "masks.bin", "index.json", "counts.npy"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_split_with_a_missing_or_cut_file_is_decoded_again(root, own_cache, file, is_cut):
    load_split(opened(root), "train", [8])
    path = folders(own_cache)[0] / file
    content = path.read_bytes()
    path.unlink()
    if is_cut:
        path.write_bytes(content[:-1])
    split = load_split(opened(root), "train", [8])
    assert isinstance(split.images, Packed) and len(split) == 6
    assert path.stat().st_size == len(content)


def test_a_streamed_pair_is_decoded_once_and_a_larger_cache_takes_the_split(root, monkeypatch):
    split = load_split(opened(root), "train", [16], cache=CacheConfig(max_gb=1e-6))
    decoded, read = [], cache.read_image
    monkeypatch.setattr(cache, "read_image", lambda *a, **k: decoded.append(1) or read(*a, **k))
    images, masks = split.read_pairs([0, 2, 0, 1])
    assert len(decoded) == 4 and len(images) == len(masks) == 4
    np.testing.assert_array_equal(split.masks[1], masks[3])
    larger = load_split(opened(root), "train", [16], cache=CacheConfig(max_gb=1.0))
    assert isinstance(larger.images, Packed)
    for index in range(6):
        np.testing.assert_array_equal(larger.images[index], split.images[index])
        np.testing.assert_array_equal(larger.masks[index], split.masks[index])


def test_the_least_recently_used_go_first(root, own_cache):
    room = CacheConfig(max_gb=1.35e-5)  # 13.5 KB: room for the last two, of 5 and 8 KB, only
    load_split(opened(root), "train", [8], cache=room)
    first = folders(own_cache)[0]
    os.utime(first / ".contents.json", (1, 1))
    load_split(opened(root), "train", [9], cache=room)
    load_split(opened(root), "train", [12], cache=room)
    left = folders(own_cache)
    assert first not in left and len(left) == 2


def test_an_interrupted_build_is_not_used(root, own_cache, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(
            "segtune.data.batches.cache._write",
            lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()),
        )
        with pytest.raises(KeyboardInterrupt):
            load_split(opened(root), "train", [16])
    assert folders(own_cache) == []
    assert len(load_split(opened(root), "train", [16])) == 6


def test_two_processes_decode_once(root, own_cache):
    code = f"""
from pathlib import Path
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.batches import cache
from segtune.data.batches.cache import load_split
from segtune.data.sources import open_source
decoded = []
read = cache.read_image
cache.read_image = lambda *a, **k: decoded.append(1) or read(*a, **k)
config = DatasetConfig(name="s", source="folder", root={str(root)!r}, classes=["a", "b", "c"])
split = load_split(open_source(config), "train", [16])
print(len(decoded), split.fingerprint)
"""
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    rows = [p.communicate()[0].split() for p in both]
    assert sorted(int(r[0]) for r in rows) == [0, 6] and rows[0][1] == rows[1][1]


def test_files_within_tolerance_are_left_out_and_told(tmp_path):
    root = tmp_path / "set"
    write_pairs(root, "train", pairs(40))
    write_pairs(root, "val", pairs(2))
    (root / "images" / "train" / "7.png").write_bytes(b"broken")
    lines: list[str] = []
    split = load_split(opened(root), "train", [16], say=lines.append)
    assert len(split) == 39 and "7" not in split.names
    assert any("left out: 7: " in line for line in lines)
    from_cache = load_split(opened(root), "train", [16], say=lines.append)
    assert len(from_cache) == 39
    for number in (8, 9):
        (root / "images" / "train" / f"{number}.png").write_bytes(b"broken")
    message = r"more than 5 % of the 40 pairs of split 'train' cannot be read"
    with pytest.raises(DataError, match=message):
        load_split(opened(root), "train", [16])


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.bin" for i in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
    first, hashed = digests(paths), []
    hash_file = files._hash
    monkeypatch.setattr(files, "_hash", lambda p: hashed.append(p) or hash_file(p))
    assert digests(paths) == first and hashed == []
    paths[2].write_bytes(b"9.bin")
    assert digests(paths) != first and hashed == [paths[2]]


def test_without_a_writable_cache_files_are_hashed_and_splits_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "file"))  # a file where a folder should be
    assert len(digests([tmp_path / "file"])) == 1
    write_pairs(tmp_path / "set", "train", pairs(2))
    with pytest.raises(DataError, match="Set SEGTUNE_CACHE"):
        load_split(opened(tmp_path / "set"), "train", [16])


def test_images_of_val_that_lie_in_train_are_found_by_their_bytes(root):
    assert duplicates_in_train(opened(root), "val") == ("0", "1")


def test_the_index_lists_the_pairs_that_were_kept(root, own_cache):
    load_split(opened(root), "train", [16])
    index = json.loads((folders(own_cache)[0] / "index.json").read_text())
    assert index["kept"] == list(range(6)) and index["left_out"] == {}


@pytest.mark.parametrize("ranks", [1, 2])
def test_views_are_the_same_from_the_cache_and_decoded_anew_on_one_rank_and_two(
    root, own_cache, monkeypatch, ranks
):
    streamed = load_split(opened(root), "train", [16], cache=CacheConfig(max_gb=1e-6))
    monkeypatch.setenv("SEGTUNE_CACHE", str(own_cache.parent / "other"))
    cached = load_split(opened(root), "train", [16])
    assert isinstance(streamed.images, Streamed) and isinstance(cached.images, Packed)
    assert streamed.fingerprint == cached.fingerprint
    np.testing.assert_array_equal(streamed.pixel_counts(3), cached.pixel_counts(3))
    sampling = Sampling(SamplingConfig(rare_crops=0.5), cached.pixel_counts(3))
    augment = Augment(
        AugmentConfig(scale=(0.5, 2.0), hflip=0.5, crop_size=32), (16, 16), 1, sampling
    )
    draws = [draw for rank in range(ranks) for draw in EpochSampler(sampling, 0, rank, ranks)]
    assert sorted(draws) == sorted(EpochSampler(sampling, 0))
    batches = [
        TrainViews(split, augment, 0).__getitems__(sorted(draws)) for split in (streamed, cached)
    ]
    for part in ("image", "mask"):
        np.testing.assert_array_equal(batches[0][part].numpy(), batches[1][part].numpy())
