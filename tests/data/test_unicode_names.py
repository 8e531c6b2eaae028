"""Names of one text in two Unicode forms, as macOS and archives write them, are one name."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import Imported, import_dataset
from segtune.config.compose import compose
from segtune.data import formats
from segtune.data.sources import open_source
from tests.data.published_sets import write_mask, write_photo

NAMES = ["Straße_é", "Ångström", "한글", "plain"]
FORMS = [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")]


def files(folder: Path, form: str, suffix: str) -> list[Path]:
    return [folder / f"{unicodedata.normalize(form, name)}{suffix}" for name in NAMES]


def write_pairs(root: Path, image_form: str, mask_form: str, end: str = "") -> None:
    for path in files(root / "images", image_form, ".jpg"):
        write_photo(path)
    for path in files(root / "masks", mask_form, f"{end}.png"):
        write_mask(path, [0, 1, 2])


def import_all(root: Path, *words: str) -> Imported:
    imported = import_dataset(root / "set", root / "out", *words)
    assert sum(imported.counts.values()) == len(NAMES)
    assert imported.left_out == ()
    return imported


@pytest.mark.parametrize(("image_form", "mask_form"), FORMS)
@pytest.mark.parametrize("end", ["", "_máscara"])
@pytest.mark.parametrize("is_given", [False, True])
def test_images_and_masks_pair_in_any_form(image_form, mask_form, end, is_given, tmp_path):
    write_pairs(tmp_path / "set", image_form, mask_form, end)
    words = ["dataset.images=images", "dataset.masks=masks", f"dataset.mask_suffix={end}"]
    import_all(tmp_path, "dataset.classes=[a,b,c]", *(words if is_given else ()))


@pytest.mark.parametrize(("image_form", "mask_form"), FORMS)
@pytest.mark.parametrize("folders", ["{split}", ""])
def test_folders_lists_and_finer_masks_name_images_in_any_form(
    folders, image_form, mask_form, tmp_path
):
    split = folders.format(split="train")
    for path in files(tmp_path / "images" / split, image_form, ".jpg"):
        write_photo(path)
    for kind in ("masks", "finer"):
        for path in files(tmp_path / kind / split, mask_form, ".png"):
            write_mask(path, [0, 1, 2])
    (tmp_path / "train.txt").write_text("\n".join(f.stem for f in files(tmp_path, mask_form, ".x")))
    words = [f"dataset.{kind}={kind}/{folders}" for kind in ("images", "masks", "finer")]
    words += ["dataset.classes=[a,b,c]", f"dataset.root={tmp_path}"]
    if not folders:
        words.append("dataset.splits.lists='{split}.txt'")
    source = open_source(compose(["dataset=folder", *words]).config.dataset)
    pairs = source.pairs("train")
    assert {pair.image for pair in pairs} == set(
        files(tmp_path / "images" / split, image_form, ".jpg")
    )
    for pair in pairs:
        assert unicodedata.normalize("NFC", pair.mask.stem) == unicodedata.normalize(
            "NFC", pair.name
        )
        assert source.finer_file("train", pair.name).is_file()


def test_two_images_that_differ_in_their_form_keep_their_own_masks(tmp_path):
    for value, form in enumerate(["NFC", "NFD"]):
        write_photo(files(tmp_path / "images/train", form, ".png")[0])
        mask = files(tmp_path / "masks/train", form, ".png")[0]
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), value, np.uint8)).save(mask)
    words = ["dataset=folder", f"dataset.root={tmp_path}", "dataset.classes=[a,b]"]
    pairs = open_source(compose(words).config.dataset).pairs("train")
    assert [pair.image.stem == pair.mask.stem for pair in pairs] == [True, True]


def _yolo(root: Path, form: str, other: str) -> None:
    for path in files(root / "images/train", form, ".jpg"):
        write_photo(path)
    for path in files(root / "labels/train", other, ".txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (root / "data.yaml").write_text("names: [car]\ntrain: images/train\nval: images/train\n")


def _kaggle(root: Path, form: str, other: str) -> None:
    for path in files(root / "train", form, ".jpg"):
        write_photo(path)
    rows = [f"{path.stem},1 3" for path in files(root, other, ".x")]
    (root / "train.csv").write_text("\n".join(["ImageId,EncodedPixels", *rows]))


def _class_masks(root: Path, form: str, other: str) -> None:
    for path in files(root / "images", form, ".jpg"):
        write_photo(path)
    for label in ("road", "car"):
        for path in files(root / "masks" / label, other, ".png"):
            write_mask(path, [0, 255, 0])


def _instances(root: Path, form: str, other: str) -> None:
    for path in files(root / "images", form, ".jpg"):
        write_photo(path)
    for path in files(root / "masks", other, ""):
        write_mask(path / "1.png", [0, 255, 0])


def _supervisely(root: Path, form: str, other: str) -> None:
    (root / "ds").mkdir(parents=True)
    (root / "meta.json").write_text('{"classes": [{"title": "car"}]}')
    for path in files(root / "ds/img", form, ".jpg"):
        write_photo(path)
    points = {"exterior": [[1, 1], [9, 1], [9, 9]], "interior": []}
    shape = {"geometryType": "polygon", "classTitle": "car", "points": points}
    for path in files(root / "ds/ann", other, ".json"):
        path.parent.mkdir(exist_ok=True)
        with Image.open(next((root / "ds/img").iterdir())) as image:
            size = {"width": image.width, "height": image.height}
        path.write_text(json.dumps({"size": size, "objects": [shape]}))


def _roboflow(root: Path, form: str, other: str) -> None:
    for path in files(root / "train", form, ".jpg"):
        write_photo(path)
    for path in files(root / "train", other, "_mask.png"):
        write_mask(path, [0, 1, 2])
    (root / "train/_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n2, c\n")


def _coco(root: Path, form: str, other: str) -> None:
    for path in files(root / "images", form, ".jpg"):
        write_photo(path)
    rows = [{"id": i, "file_name": p.name} for i, p in enumerate(files(root, other, ".jpg"))]
    shape = {"segmentation": [[1, 1, 9, 1, 9, 9]], "category_id": 1}
    areas = [{**shape, "id": row["id"], "image_id": row["id"]} for row in rows]
    content = {"images": rows, "annotations": areas, "categories": [{"id": 1, "name": "car"}]}
    (root / "a.json").write_text(json.dumps(content))


WRITERS: dict[str, Callable[[Path, str, str], None]] = {
    "yolo": _yolo,
    "kaggle_rle": _kaggle,
    "class_masks": _class_masks,
    "instances": _instances,
    "supervisely": _supervisely,
    "roboflow_masks": _roboflow,
    "coco": _coco,
}


@pytest.mark.parametrize(("form", "other"), FORMS[:2])
@pytest.mark.parametrize("name", WRITERS)
def test_annotations_name_images_in_any_form(name, form, other, tmp_path):
    WRITERS[name](tmp_path, form, other)
    words = ["dataset=coco", f"dataset.root={tmp_path}", f"dataset.annotations.format={name}"]
    annotations = formats.read(tmp_path, compose(words).config.dataset)
    assert len({image.image for image in annotations.images}) == len(NAMES)
    assert all(image.areas or image.mask for image in annotations.images)


def test_images_without_a_mask_are_counted_in_the_result(tmp_path):
    write_pairs(tmp_path / "set", "NFC", "NFD")
    write_photo(tmp_path / "set/images/lonely.jpg")
    words = ["dataset.images=images", "dataset.masks=masks", "dataset.classes=[a,b,c]"]
    imported = import_dataset(tmp_path / "set", tmp_path / "out", *words)
    assert imported.left_out == ("images/lonely.jpg",)
    assert any(
        "! 1 of 5 images have no mask" in line and "lonely" in line for line in imported.lines()
    )
