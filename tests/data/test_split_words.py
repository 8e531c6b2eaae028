"""The split of an image: as annotations or folders name it, never as its own name looks."""

import json
from pathlib import Path

import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.config.compose import compose
from segtune.data import formats
from segtune.data.formats.finding import folder_split, split_called
from segtune.data.formats.manifest import find_files
from segtune.data.source.files import walk
from segtune.errors import DataError
from tests.data.published_sets import write_mask, write_photo


def splits_of(root: Path, name: str) -> dict[str, str | None]:
    words = ["dataset=coco", f"dataset.root={root}", f"dataset.annotations.format={name}"]
    annotations = formats.read(root, compose(words).config.dataset)
    return {image.name: image.split for image in annotations.images}


def save(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)
    return path.name


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("test_drive.jpg", None),
        ("images/train_000.jpg", None),
        ("test_drive/a.jpg", None),
        ("train_station/a.jpg", None),
        ("train/a.jpg", "train"),
        ("Train/test_a.jpg", "train"),
        ("valid/images/a.jpg", "val"),
        ("images/validation/city/a.jpg", "val"),
        ("train2017/a.jpg", "train"),
        ("trainImages/a.jpg", "train"),
        ("test-set/a.jpg", "test"),
        ("roads_testing\\a.jpg", "test"),
        ("dev/a.jpg", "val"),
        ("device_images/a.jpg", None),
        ("train_val/a.jpg", None),
        ("trainval/a.jpg", None),
    ],
)
def test_folders_name_a_split_and_file_names_do_not(path, split):
    assert folder_split(path) == split


@pytest.mark.parametrize("word", ["train", "test", "val"])
def test_no_format_takes_a_split_from_an_images_own_name(word, tmp_path):
    name = f"{word}_0"
    save(tmp_path / "labelme" / f"{name}.png")
    shape = {"label": "car", "points": [[1, 1], [6, 1], [6, 6]]}
    content = {"imagePath": f"{name}.png", "shapes": [shape]}
    (tmp_path / "labelme" / f"{name}.json").write_text(json.dumps(content))
    save(tmp_path / "cvat" / "images" / f"{name}.png")
    node = '<polygon label="car" points="1,1;6,1;6,6"/>'
    node = f'<image name="{name}.png" width="8" height="8">{node}</image>'
    (tmp_path / "cvat" / "annotations.xml").write_text(f"<annotations>{node}</annotations>")
    save(tmp_path / "coco" / f"{name}.png")
    rows = [{"id": 1, "file_name": f"{name}.png"}]
    area = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    coco = {"images": rows, "annotations": [area], "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "coco" / "a.json").write_text(json.dumps(coco))
    save(tmp_path / "instances" / name / "images" / f"{name}.png")
    save(tmp_path / "instances" / name / "masks" / "1.png")
    for kind in ("labelme", "cvat", "coco", "instances"):
        assert list(splits_of(tmp_path / kind, kind).values()) == [None], kind


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("Train", "train"),
        (" validation ", "val"),
        ("VALID", "val"),
        ("dev", "val"),
        ("Eval", "Eval"),
        ("testing", "test"),
        ("fold1", "fold1"),
        ("", None),
    ],
)
def test_a_table_states_splits_in_any_usual_word(text, split):
    assert split_called(text, "row 1") == split


@pytest.mark.parametrize("text", ["../x", "a/b", "a\\b", ".hidden", "c:"])
def test_a_split_that_leads_out_of_its_folder_is_refused(text):
    with pytest.raises(DataError, match="row 1 is"):
        split_called(text, "row 1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "header",
    [
        "image mask split",
        "Image Mask Split",
        "img_path label_path subset",
        "filename mask_file set",
    ],
)
def test_a_table_is_read_with_any_separator_header_and_encoding(
    header, separator, encoding, tmp_path
):
    rows = [header.split()]
    for index, split in enumerate(["Train", "train", "validation"]):
        save(tmp_path / "img" / f"{index}.png")
        save(tmp_path / "msk" / f"{index}.png")
        rows.append([f"img/{index}.png", f"msk\\{index}.png", split])
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "pairs.csv").write_bytes(text.encode(encoding))
    (tmp_path / "classes.yaml").write_text("classes: [background, car]")
    expected = {"img/0": "train", "img/1": "train", "img/2": "val"}
    found = splits_of(tmp_path, "manifest")
    assert {f"img/{name.rpartition('/')[2]}": split for name, split in found.items()} == expected


@pytest.mark.parametrize("splits", [("train", "fold1"), ("fold1", "fold2"), ("val", "test")])
def test_an_import_without_train_or_val_says_so(splits, tmp_path):
    rows = ["image,mask,split"]
    for split in splits:
        save(tmp_path / "set" / f"{split}.png")
        save(tmp_path / "set" / f"{split}_m.png")
        rows.append(f"{split}.png,{split}_m.png,{split}")
    (tmp_path / "set" / "pairs.csv").write_text("\n".join(rows))
    notes: list[str] = []
    words = "dataset.classes=[road,car]"
    import_dataset(tmp_path / "set", tmp_path / "out", words, say=notes.append)
    (note,) = [note for note in notes if "which training needs" in note]
    missing = [split for split in ("train", "val") if split not in splits]
    assert f"no image is in {' or '.join(missing)}," in note
    assert f"1 {splits[0]}" in note


def test_labelme_takes_the_split_of_the_images_folder_where_its_own_names_none(tmp_path):
    shape = {"label": "car", "points": [[1, 1], [6, 1], [6, 6]]}
    for index, split in enumerate(["train", "val"]):
        save(tmp_path / "images" / split / f"{index}.png")
        content = {"imagePath": f"../images/{split}/{index}.png", "shapes": [shape]}
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{index}.json").write_text(json.dumps(content))
    assert list(splits_of(tmp_path, "labelme").values()) == ["train", "val"]


@pytest.mark.parametrize("name", ["valid", "test"])
def test_a_list_without_a_list_of_train_is_named(name, tmp_path):
    for index in range(4):
        write_photo(tmp_path / f"set/images/{index}.jpg")
        write_mask(tmp_path / f"set/masks/{index}.png", [0, 1])
    (tmp_path / "set" / f"{name}.txt").write_text("0\n1\n")
    notes: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", say=notes.append)
    assert any(
        f"'{name}.txt' names 2 of 4 images, but there is no list of train" in n for n in notes
    )


def test_a_classifiers_table_is_no_table_of_pairs(tmp_path):
    (tmp_path / "labels.csv").write_text("filename,label\na.jpg,cat\n")
    assert find_files(tmp_path) == []


LOOPS = {"up": "..", "self": ".", "beside": "../images", "far up": "../.."}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_link_to_a_folder_above_adds_no_file(loop, tmp_path):
    save(tmp_path / "images" / "train" / "a.png")
    save(tmp_path / "images" / "val" / "b.png")
    (tmp_path / "images" / "train" / "link").symlink_to(LOOPS[loop])
    assert list(walk(tmp_path / "images" / "train", (".png",))) == ["a.png"]
    assert list(walk(tmp_path, (".png",))) == ["images/train/a.png", "images/val/b.png"]


def test_links_that_lead_to_each_other_end(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "root" / name / f"{name}.png")
    (tmp_path / "root" / "a" / "other").symlink_to("../b")
    (tmp_path / "root" / "b" / "other").symlink_to("../a")
    assert sorted(Path(f).name for f in walk(tmp_path / "root", (".png",))) == ["a.png", "b.png"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    save(tmp_path / "store" / "a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "store")
    assert list(walk(tmp_path / "set", (".png",))) == ["train/a.png"]
