"""The split of an image: as annotations or folders name it, never as its own name looks."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.config.compose import compose
from segtune.data import formats
from segtune.data.formats.areas import LabelledImage
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.finding import annotation_split, folder_split, split_called
from segtune.data.formats.manifest import find_files
from segtune.data.formats.split_names import settled
from segtune.data.source.files import walk
from segtune.data.source.split_words import NamedSplit
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
        ("train/a.jpg", "train"),
        ("Train/test_a.jpg", "train"),
        ("valid/images/a.jpg", "val"),
        ("images/validation/city/a.jpg", "val"),
        ("train2017/a.jpg", "train"),
        ("trainImages/a.jpg", "train"),
        ("test-set/a.jpg", "test"),
        ("dev/a.jpg", "val"),
        ("device_images/a.jpg", None),
        ("train_val/a.jpg", None),
        ("trainval/a.jpg", None),
    ],
)
def test_folders_name_a_split_and_file_names_do_not(path, split):
    assert folder_split(path) == split


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["north_dev", "old_town"], [None, None]),
        (["east_test_site", "west"], [None, None]),
        (["test_drive", "train_station"], [None, None]),
        (["roads_testing"], [None]),
        (["roads_val", "roads_testing"], [None, None]),
        (["north_dev", "south_train"], [None, None]),
        (["roads_training", "roads_testing"], ["train", "test"]),
        (["train/north_dev", "test/north_dev", "val"], ["train", "test", "val"]),
        (["stage1_train/x", "stage1_test/x"], ["train", "test"]),
        (["train_2017", "valid_images", "TestSet_v2"], ["train", "val", "test"]),
    ],
)
def test_a_places_name_is_a_split_only_beside_others_of_its_form(folders, splits, tmp_path):
    images = []
    for folder in folders:
        path = tmp_path / folder / "a.jpg"
        images.append(LabelledImage("a", path, folder_split(f"{folder}/a.jpg")))
    left_out = LeftOut()
    assert [image.split for image in settled(images, left_out)] == splits
    unsure = [
        image for image in images if isinstance(image.split, NamedSplit) and not image.split.is_sure
    ]
    assert len(left_out.notes()) == len(unsure)  # each folder is told


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["train", "val", "dev", "dev"], "'val' with 1 images, 'dev' with 2 images"),
        (["train", "valid", "validation"], "'valid' with 1 images, 'validation' with 1 images"),
        (["train", "val", "test"], None),
    ],
)
def test_words_for_one_split_are_joined_with_the_images_of_each(words, note, tmp_path):
    table = "image,mask,split\n"
    for index, word in enumerate(words):
        save(tmp_path / "img" / f"{index}.png")
        save(tmp_path / "msk" / f"{index}.png")
        table += f"img/{index}.png,msk/{index}.png,{word}\n"
    (tmp_path / "pairs.csv").write_text(table)
    (tmp_path / "classes.yaml").write_text("classes: [background, car]")
    words = ["dataset=coco", f"dataset.root={tmp_path}", "dataset.annotations.format=manifest"]
    annotations = formats.read(tmp_path, compose(words).config.dataset)
    assert len(annotations.images) == len(table.split()) - 1
    found = [line for line in annotations.notes if "are joined" in line]
    assert (found == []) if note is None else (note in found[0])


def test_names_of_one_split_in_yolos_table_are_joined(tmp_path):
    for split, count in {"train": 3, "val": 1, "dev": 2}.items():
        for index in range(count):
            save(tmp_path / "images" / split / f"{split}{index}.png")
            label = tmp_path / "labels" / split / f"{split}{index}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
    places = "".join(f"{split}: images/{split}\n" for split in ("train", "val", "dev"))
    (tmp_path / "data.yaml").write_text(f"{places}names: [roof]\n")
    words = ["dataset=coco", f"dataset.root={tmp_path}", "dataset.annotations.format=yolo"]
    annotations = formats.read(tmp_path, compose(words).config.dataset)
    assert sorted(str(image.split) for image in annotations.images) == ["train"] * 3 + ["val"] * 3
    assert any("'val' with 1 images, 'dev' with 2 images" in note for note in annotations.notes)


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


def write_coco(root: Path, folder: str = "images") -> None:
    """Five labelled images in one file that names no split."""
    names = [save(root / folder / f"{index}.png") for index in range(5)]
    rows = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    area = {"category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6]]}
    areas = [{"id": index, "image_id": index, **area} for index in range(5)]
    coco = {"images": rows, "annotations": areas, "categories": [{"id": 1, "name": "car"}]}
    (root / "a.json").write_text(json.dumps(coco))


@pytest.mark.parametrize("line", ["{}", "images/{}.png", "{}.PNG masks/{}.png", "./images\\{}.png"])
@pytest.mark.parametrize(
    ("lists", "counts", "note"),
    [
        ({"train": "012", "val": "34"}, {"train": 3, "val": 2}, "splits by the lists"),
        ({"train_list": "01", "Test": "34"}, {"train": 2, "test": 2, None: 1}, "in no list"),
        ({"train": "01", "val": "2", "dev": "34"}, {"train": 2, "val": 3}, "are joined"),
        ({"train": "0156789", "val": "234"}, {"train": 2, "val": 3}, "lines name no labelled"),
        ({"val": "34"}, {None: 5}, "it is not used"),
        ({"train": "", "val": "xyz"}, {None: 5}, ""),
    ],
)
def test_lists_beside_annotations_name_the_splits(lists, counts, note, line, tmp_path):
    write_coco(tmp_path)
    (tmp_path / "sets").mkdir()
    for name, members in lists.items():
        text = "\n".join(line.replace("{}", member) for member in members)
        (tmp_path / "sets" / f"{name}.txt").write_text(text)
    words = ["dataset=coco", f"dataset.root={tmp_path}"]
    annotations = formats.read(tmp_path, compose(words).config.dataset)
    assert Counter(image.split for image in annotations.images) == counts
    assert any(note in line for line in [*annotations.notes, ""])


def test_a_split_that_annotations_name_comes_before_lists(tmp_path):
    write_coco(tmp_path, "test")
    (tmp_path / "train.txt").write_text("0\n1\n")
    (tmp_path / "val.txt").write_text("2\n")
    assert set(splits_of(tmp_path, "coco").values()) == {"test"}


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
    (note,) = [n for n in notes if f"'{name}.txt' names 2 of 4 images" in n]
    assert "there is no list of train" in note and "divided as all others" in note
    assert not any("no folder or list names a split" in n for n in notes)


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


def test_the_name_of_the_annotations_goes_before_the_folder_of_the_images():
    """LVIS: a part of its val images lies in the folder `train2017`."""
    left_out = LeftOut()
    images = []
    for file, folder in (("train", "train2017"), ("val", "train2017"), ("val", "val2017")):
        split = annotation_split(f"lvis_v1_{file}.json", f"{folder}/a.jpg")
        images.append(LabelledImage("a", Path(folder) / "a.jpg", split))
    assert [image.split for image in settled(images, left_out)] == ["train", "val", "val"]
    alone = [LabelledImage("a", Path("a.jpg"), annotation_split("north_val.json", "train/a.jpg"))]
    assert [image.split for image in settled(alone, LeftOut())] == ["train"]
