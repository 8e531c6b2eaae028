"""Folders and archives as colleagues leave them: read, or refused with what they hold."""

import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.config.compose import compose
from segtune.data.audit import audit
from segtune.data.source.archives import unpack
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import DataError

CLASSES = "dataset.classes=[background,car]"


def save(path: Path, values: int = 2, **options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.as_posix().encode())
    pixels = np.random.default_rng(seed).integers(0, values, (16, 16), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def write_pairs(root: Path, images: str = "images", masks: str = "masks") -> None:
    for split in ("train", "val"):
        for index in range(2):
            save(root / images.format(split) / f"{split}{index}.png", 255)
            save(root / masks.format(split) / f"{split}{index}.png")


def open_folder(root: Path, *words: str) -> Source:
    words = ("dataset=folder", f"dataset.root={root}", CLASSES, *words)
    return open_source(compose(words).config.dataset)


def pack(root: Path, archive: Path, top: str = "", separator: str = "/") -> Path:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    names = {path: top + path.relative_to(root).as_posix() for path in files}
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path, name in names.items():
                member = zipfile.ZipInfo("x")
                member.filename = name.replace("/", separator)
                packed.writestr(member, path.read_bytes())
    else:
        with tarfile.open(archive, "w:gz") as packed:
            for path, name in names.items():
                packed.add(path, name)
    return archive


@pytest.mark.parametrize(
    ("name", "top", "separator"),
    [("a.zip", "", "\\"), ("a.zip", "roads/", "/"), ("a.tar.gz", "v2/set/", "/")],
)
def test_an_archive_is_read_with_a_top_folder_and_with_backslashes(name, top, separator, tmp_path):
    write_pairs(tmp_path / "set", "images/{}", "masks/{}")
    archive = pack(tmp_path / "set", tmp_path / name, top, separator)
    imported = import_dataset(archive, tmp_path / "out", CLASSES)
    assert imported.counts == {"train": 2, "val": 2}


def test_an_archive_in_an_archive_is_named(tmp_path):
    write_pairs(tmp_path / "set", "images/{}", "masks/{}")
    (tmp_path / "outer").mkdir()
    pack(tmp_path / "set", tmp_path / "outer" / "inner.zip")
    archive = pack(tmp_path / "outer", tmp_path / "outer.zip")
    with pytest.raises(DataError, match=r"outer\.zip' .*inner\.zip") as caught:
        import_dataset(archive, tmp_path / "out")
    assert f"segtune-{os.getuid()}" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "a.tar.zst", "a.json.gz"])
def test_another_archive_is_refused_with_the_kinds_that_are_read(name, tmp_path):
    (tmp_path / name).write_bytes(b"Rar!")
    with pytest.raises(DataError, match="zip and tar .* Unpack it"):
        import_dataset(tmp_path / name, tmp_path / "out")


def test_names_in_utf_8_without_the_flag_are_read(tmp_path):
    archive = tmp_path / "a.zip"
    member = zipfile.ZipInfo("straße.txt".encode().decode("cp437"))
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(member, b"")
    data = archive.read_bytes()
    plain = "straße.txt".encode()
    coded = plain.decode("cp437").encode()
    assert coded in data  # zipfile sets the flag; the case has the bytes without it
    data = data.replace(coded, plain + b"x" * (len(coded) - len(plain)))
    data = data.replace(b"\x00\x08\x00\x00", b"\x00\x00\x00\x00")
    archive.write_bytes(data)
    unpack(archive, tmp_path / "out")
    assert next((tmp_path / "out").iterdir()).name.startswith("straße.txt")


def test_images_and_masks_without_folders_of_splits_are_divided(tmp_path):
    write_pairs(tmp_path / "set")
    lines: list[str] = []
    imported = import_dataset(tmp_path / "set", tmp_path / "out", CLASSES, say=lines.append)
    assert set(imported.counts) == {"train", "val"}
    assert any("dataset.images=images dataset.masks=masks" in line for line in lines)


@pytest.mark.parametrize("place", ["Images/{}", "photos", "Train/Urban/images_png"])
def test_a_refusal_names_the_folders_that_are_there(place, tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "set" / place.format(split) / f"{split}.png", 255)
    with pytest.raises(DataError, match=place.format("train")):
        import_dataset(tmp_path / "set", tmp_path / "out", CLASSES)


def test_a_refusal_states_the_columns_of_a_table(tmp_path):
    (tmp_path / "pairs.csv").write_text("photo;polygon\na.jpg;1 2 3\n")
    with pytest.raises(DataError, match=r"'pairs\.csv' has the columns image, polygon"):
        import_dataset(tmp_path, tmp_path.parent / "out")


def test_a_folder_of_masks_is_no_split(tmp_path):
    write_pairs(tmp_path, "{}", "{}_labels")
    (tmp_path / "notes").touch()
    source = open_folder(tmp_path, "dataset.images='{split}'", "dataset.masks='{split}_labels'")
    assert source.splits() == ["train", "val"]


def test_with_folder_names_other_lists_are_no_splits(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "list.txt").write_text("train0 1\ntrain1 1\nval0 1\nval1 1\n")
    (tmp_path / "trainval.txt").write_text("train0 1\ntrain1 1\n")
    (tmp_path / "test.txt").write_text("val0 1\nval1 1\n")
    names = "dataset.folder_names={train: trainval, val: test}"
    lists = "dataset.splits.lists='{split}.txt'"
    source = open_folder(tmp_path, "dataset.images=images", "dataset.masks=masks", lists, names)
    assert source.splits() == ["train", "val"]
    assert [pair.name for pair in source.pairs("train")] == ["train0", "train1"]


@pytest.mark.parametrize("suffix", [".jp2", ".heic", ".avif", ".npy", ".mat", ".webm"])
def test_check_names_files_of_other_suffixes(suffix, tmp_path):
    write_pairs(tmp_path, "images/{}", "masks/{}")
    (tmp_path / "images" / "train" / f"b{suffix}").touch()
    finding = next(f for f in audit(open_folder(tmp_path), [16]).findings if "passed" in f.kind)
    assert finding.files == [f"images/train/b{suffix}"]
    assert f"1 {suffix}" in finding.repair


def test_check_refuses_a_dataset_without_any_image(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "masks" / split).mkdir(parents=True)
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "a.heic").touch()
    with pytest.raises(DataError, match=r"no image .*2 \.heic"):
        audit(open_folder(tmp_path), [16])


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".jfif", ".JPG"])
def test_images_of_these_suffixes_are_read(suffix, tmp_path):
    write_pairs(tmp_path, "images/{}", "masks/{}")
    kind = "PPM" if suffix[1] == "p" else "JPEG"
    save(tmp_path / "images" / "train" / f"b{suffix}", 255, format=kind)
    save(tmp_path / "masks" / "train" / "b.png")
    assert len(open_folder(tmp_path).pairs("train")) == 3


@pytest.mark.parametrize("suffix", ["_mask", ".jpg", "_labelIds"])
def test_check_names_the_suffix_that_pairs_masks_with_images(suffix, tmp_path):
    write_pairs(tmp_path, "images/{}", "masks/{}")
    for path in [*(tmp_path / "masks").rglob("*.png")]:
        path.rename(path.with_name(f"{path.stem}{suffix}.png"))
    result = audit(open_folder(tmp_path), [16])
    missing = next(f for f in result.findings if f.kind == "missing_mask")
    assert f"dataset.mask_suffix={suffix}" in missing.repair
    assert not missing.fixes
    assert len(open_folder(tmp_path, f"dataset.mask_suffix={suffix}").pairs("train")) == 2
