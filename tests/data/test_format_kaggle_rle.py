"""Run lengths in CSV: column by column from pixel 1, as pycocotools encodes them plus one."""

import csv
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.data.formats import kaggle_rle
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, save_photos, truth
from tests.data.imports import import_masks, mask_of


def cell(bits):
    """Kaggle's run lengths: from pycocotools' alternating ones."""
    rle = coco_mask.encode(np.asfortranarray(bits.astype(np.uint8)))
    flat = coco_mask.decode(rle).ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    return " ".join(f"{a + 1} {b - a}" for a, b in zip(edges[::2], edges[1::2], strict=True))


def write_table(root, rows, folder="train", name="train.csv"):
    save_photos(root / folder)
    with (root / name).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def severstal(with_class_column):
    head = ["ImageId", "ClassId", "EncodedPixels"]
    if not with_class_column:
        head = ["ImageId_ClassId", "EncodedPixels"]
    rows = [head]
    for index in range(4):
        for label in (1, 2):
            text = cell(truth(index) == label)
            name = f"photo_{index}.png"
            rows.append([name, label, text] if with_class_column else [f"{name}_{label}", text])
        if not with_class_column:
            rows.append([f"photo_{index}.png_3", ""])
    return rows


@pytest.mark.parametrize("with_class_column", [True, False])
def test_classes_come_from_a_column_or_from_the_name(tmp_path, with_class_column):
    write_table(tmp_path / "set", severstal(with_class_column))
    masks = import_masks(tmp_path / "set", tmp_path / "out")
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, truth(int(name[-1])))
    result = import_dataset(tmp_path / "set", tmp_path / "again")
    assert (result.format, result.classes) == ("kaggle_rle", ("background", "1", "2"))
    assert result.counts == {"train": 3, "val": 1}  # the folder train holds every label


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (["ImageId", "EncodedPixels"], ".png"),
        (["img", "rle_mask"], ".png"),
        (["id", "rle_mask"], ""),
        (["id", "rle"], ""),
        (["image_id", "encoding"], ""),
    ],
)
def test_lines_of_one_image_make_one_class(tmp_path, head, suffix):
    rows = [head, ["photo_3" + suffix, ""]]
    for index in range(3):
        rows += [[f"photo_{index}{suffix}", cell(truth(index) == label)] for label in (1, 2)]
    write_table(tmp_path / "set", rows)
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert result.classes == ("background", "object")
    files = {path.stem: path for path in (tmp_path / "out" / "masks").rglob("*.png")}
    assert len(files) == 4
    for name, path in files.items():
        expected = (truth(int(name[-1])) > 0) if name != "photo_3" else np.zeros((H, W), bool)
        split = path.parent.name
        np.testing.assert_array_equal(mask_of(tmp_path / "out", f"{split}/{name}"), expected)
    assert "photo_3" in "\n".join(words)  # an image without any object is told


def test_the_example_of_a_submission_is_left_out_with_a_word(tmp_path):
    rows = [["ImageId", "EncodedPixels"], ["photo_0.png", "1 2"], ["photo_1.png", "1 2"]]
    write_table(tmp_path / "set", rows)
    write_table(tmp_path / "set", [rows[0], ["x.png", "1 1"]], name="sample_submission_v2.csv")
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert sum(result.counts.values()) == 2
    assert re.search(r"1 tables .* not read: '.*sample_submission_v2\.csv'", "\n".join(words))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "pairs of start and length"),
        ("1 -2", "pairs of start and length"),
        ("1.5 2", "pairs of start and length"),
        ("0 5", "starts at 0"),
        ("10 5 12 2", "starts at 12, before pixel 15"),
        ("100 5 20 5", "ascending order"),  # lengths between runs, as SIIM's tables hold
        (f"{H * W} 2", "end at pixel 3,073"),
    ],
)
def test_other_run_lengths_are_refused_by_line(tmp_path, text, message):
    rows = [["ImageId", "EncodedPixels"], ["photo_0.png", "1 2"], ["photo_1.png", text]]
    write_table(tmp_path / "set", rows)
    with pytest.raises(DataError, match=f"train.csv' line 3.*{message}"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_table_of_runs_along_rows_is_another_format(tmp_path):
    # UW-Madison's tables; nothing in the numbers shows the direction
    write_table(tmp_path, [["id", "class", "segmentation"], ["photo_0.png", "stomach", "1 2"]])
    assert kaggle_rle.find_files(tmp_path) == []


def test_an_image_that_is_not_there_is_named(tmp_path):
    write_table(tmp_path / "set", [["ImageId", "EncodedPixels"], ["gone.png", "1 2"]])
    with pytest.raises(DataError, match="train.csv' line 2, ImageId.*gone.png"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_table_with_a_lone_carriage_return_in_its_head_is_no_table_of_run_lengths(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"Image\rId,EncodedPixels\na.png,1 2\n")
    assert kaggle_rle.find_files(tmp_path) == []
