"""The images of YOLO's table: as its train, val and test name them."""

from pathlib import Path

import pytest

from segtune.data.formats.yolo_images import find_images, label_file, refuse_unlabelled
from segtune.errors import DataError


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def splits(root: Path, table: str = "data.yaml", **content: object) -> dict[str, str | None]:
    return dict(find_images(root / table, content).splits)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "line", ["./images/{}.jpg", "images\\{}.jpg", "/content/x/{}.jpg", "{}.JPG"]
)
def test_lists_of_images_are_followed(line, mark, tmp_path):
    touch(tmp_path, *(f"images/{name}.jpg" for name in "abc"))
    if line.startswith("/content"):
        line = "images/{}.jpg"
    (tmp_path / "train.txt").write_text(mark + "\r\n".join(line.format(n) for n in "ab"))
    (tmp_path / "val.txt").write_text(mark + line.format("c") + "\n")
    assert splits(tmp_path, train="train.txt", val="./val.txt") == {
        "images/a.jpg": "train",
        "images/b.jpg": "train",
        "images/c.jpg": "val",
    }


PLACES = {
    "beside the table": ("data.yaml", "train/images", "valid/images"),
    "as Roboflow writes it": ("data.yaml", "../train/images", "../valid/images"),
    "one folder up": ("config/data.yaml", "../train/images", "../valid/images"),
    "of another machine": ("data.yaml", "/content/set/train/images", "C:\\set\\valid\\images"),
    "a list of folders": ("data.yaml", ["train/images"], ["valid/images"]),
}


@pytest.mark.parametrize("places", PLACES)
def test_folders_of_images_are_followed(places, tmp_path):
    table, train, val = PLACES[places]
    touch(tmp_path, "train/images/a.jpg", "valid/images/b.jpg")
    (tmp_path / "config").mkdir()
    found = splits(tmp_path, table, train=train, val=val)
    assert found == {"train/images/a.jpg": "train", "valid/images/b.jpg": "val"}


def test_path_is_where_folders_start(tmp_path):
    touch(tmp_path, "set/images/train/a.jpg", "set/images/val/b.jpg")
    found = splits(tmp_path, path="set", train="images/train", val="images/val")
    assert found == {"set/images/train/a.jpg": "train", "set/images/val/b.jpg": "val"}


def test_images_that_train_and_val_share_are_divided(tmp_path):
    touch(tmp_path, "train/images/a.jpg", "train/images/b.jpg")
    found = find_images(tmp_path / "data.yaml", {"train": "train/images", "val": "train/images"})
    assert set(found.splits.values()) == {None}
    assert "name the same images" in found.notes[0]


def test_images_that_the_table_does_not_name_are_counted(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/test/c.jpg")
    (tmp_path / "train.txt").write_text("images/a.jpg\n")
    found = find_images(tmp_path / "data.yaml", {"train": "train.txt"})
    assert found.splits == {"images/a.jpg": "train", "images/test/c.jpg": "test"}
    assert "1 images that it does not name were left out, e.g. 'images/b.jpg'" in found.notes[0]


def test_a_place_that_is_not_here_is_told(tmp_path):
    touch(tmp_path, "images/train/a.jpg", "images/val/b.jpg")
    found = find_images(tmp_path / "data.yaml", {"train": "/gone/photos", "val": "../other"})
    assert found.splits == {"images/train/a.jpg": "train", "images/val/b.jpg": "val"}
    assert "train: /gone/photos; val: ../other, which is not here" in found.notes[0]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("images/train/a.jpg", "labels/a.txt"),
        ("train/a.jpg", "train/a.txt"),
        ("images/a.jpg", "images/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
    ],
)
def test_labels_lie_mirrored_flat_or_beside(image, labels, tmp_path):
    touch(tmp_path, image, labels)
    assert label_file(tmp_path, image) == tmp_path / labels


def test_images_without_labels_are_refused_if_all_are(tmp_path):
    refuse_unlabelled(tmp_path, ["images/a.jpg"], 2)
    with pytest.raises(DataError, match="none of its 1 images .* labels/a.txt"):
        refuse_unlabelled(tmp_path, ["images/a.jpg"], 1)


def test_an_image_that_the_lists_leave_out_does_not_come_back(tmp_path):
    touch(tmp_path, *(f"images/train/{name}.jpg" for name in "abc"), "images/test/d.jpg")
    touch(tmp_path, "images/val/e.jpg")
    (tmp_path / "train.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\n")
    found = find_images(tmp_path / "data.yaml", {"train": "train.txt", "val": "images/val"})
    assert dict(found.splits) == {
        "images/train/a.jpg": "train",
        "images/train/b.jpg": "train",
        "images/val/e.jpg": "val",
        "images/test/d.jpg": "test",  # the table has no test
    }
    assert any("images/train/c.jpg" in note for note in found.notes)
