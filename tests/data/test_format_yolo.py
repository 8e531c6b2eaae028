"""YOLO: class numbers are keys of its names; each label file belongs to one image."""

from pathlib import Path

import pytest

from segtune.errors import DataError
from tests.data.annotation_sets import save_photos
from tests.data.polygon_sets import annotations_of

YOLO_NAMES = {
    "list": ("[car, tree]", {0: "car", 1: "tree"}),
    "mapping out of order": ("{1: tree, 0: car}", {0: "car", 1: "tree"}),
    "from one": ("{1: car, 2: tree}", {1: "car", 2: "tree"}),
    "gap": ("{0: car, 5: tree}", {0: "car", 5: "tree"}),
    "numbers as text": ("{'0': car, '1': tree}", {0: "car", 1: "tree"}),
    "booleans of YAML": ("[no, yes]", {0: "no", 1: "yes"}),
    "numbers as names": ("[007, 1e3]", {0: "007", 1: "1e3"}),
}


def write_yolo(root: Path, names: str, numbers: list[int]) -> Path:
    """A photo for each class number, which shows a square of the class."""
    for number, path in zip(
        numbers, save_photos(root / "images" / "train", len(numbers)), strict=True
    ):
        text = root / "labels" / "train" / f"{path.stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"{number} 0.2 0.2 0.6 0.2 0.6 0.6 0.2 0.6\n")
    (root / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
    return root


@pytest.mark.parametrize("form", YOLO_NAMES)
def test_yolos_class_numbers_are_the_keys_of_its_names(tmp_path, form):
    text, names = YOLO_NAMES[form]
    annotations = annotations_of(write_yolo(tmp_path, text, list(names)))
    assert [image.areas[0].concept for image in annotations.images] == list(names.values())
    assert [row["name"] for row in annotations.classes] == ["background", *names.values()]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{0: car, 0: tree}", "names: 0 is given twice"),
        ("{car: 0, tree: 1}", "names: car is no number"),
        ("{1: car, 2: tree}", r"line 1 is of class 0; data\.yaml names 1\.\.2"),
        ("{1: car, 5: tree}", r"is of class 0; data\.yaml names 1, 5 \(with gaps\)"),
        ("[]", "names no classes"),
        ("[car, tree, car]", "0 and 2 are both 'car'"),
        ("[car]\nkpt_shape: [5, 2]", "of a pose dataset"),
    ],
)
def test_yolos_names_that_leave_a_number_open_are_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        annotations_of(write_yolo(tmp_path, names, [0]))


def test_a_class_number_may_be_written_as_a_decimal(tmp_path):
    root = write_yolo(tmp_path, "[car, tree]", [0])
    text = root / "labels" / "train" / "photo_0.txt"
    text.write_text(text.read_text().replace("0 ", "1.0 ", 1))
    assert annotations_of(root).images[0].areas[0].concept == "tree"


@pytest.mark.parametrize("label", ["labels/train/photo_0.txt", "labels/photo_0.txt", None])
def test_yolo_labels_lie_beside_the_images_or_the_set_is_refused(tmp_path, label):
    root = write_yolo(tmp_path, "[car]", [0])
    written = root / "labels" / "train" / "photo_0.txt"
    if label is None:
        written.rename(root / "labels" / "train" / "other.txt")
        with pytest.raises(DataError, match="none of its 1 images has a label file"):
            annotations_of(root)
    else:
        written.rename(root / label)
        assert len(annotations_of(root).images[0].areas) == 1


def test_a_yolo_label_file_never_labels_two_images(tmp_path):
    root = write_yolo(tmp_path, "[car]", [0])
    save_photos(root / "images" / "val", 1)
    (root / "labels" / "train" / "photo_0.txt").rename(root / "labels" / "photo_0.txt")
    with pytest.raises(DataError, match=r"labels of two images, .*train.* and .*val"):
        annotations_of(root)


def test_yolo_images_without_labels_and_labels_without_images_are_counted(tmp_path):
    root = write_yolo(tmp_path, "[car]", [0, 0, 0])
    (root / "labels" / "train" / "photo_1.txt").rename(root / "labels" / "train" / "lost.txt")
    notes = " ".join(annotations_of(root).notes)
    assert "1 images have no label file and become background: 'images/train/photo_1.png'" in notes
    assert "1 label files belong to no image and were left out: 'labels/train/lost.txt'" in notes
