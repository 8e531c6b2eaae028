"""SA-1B: run lengths of objects without classes, as pycocotools encodes them."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, save_photos, truth
from tests.data.imports import import_masks


def write_set(root, change=lambda row: row, count=4):
    for index, path in enumerate(save_photos(root, count)):
        rows = []
        for label in (1, 2):
            bits = np.asfortranarray((truth(index) == label).astype(np.uint8))
            rle = coco_mask.encode(bits)
            stored = {"size": rle["size"], "counts": rle["counts"].decode()}
            rows.append(change({"id": 500 + label, "segmentation": stored, "area": 1}))
        image = {"image_id": index, "width": W, "height": H, "file_name": path.name}
        content = {"image": image, "annotations": rows}
        path.with_suffix(".json").write_text(json.dumps(content))


def test_objects_are_one_class_pixel_by_pixel(tmp_path):
    write_set(tmp_path / "set")
    masks = import_masks(tmp_path / "set", tmp_path / "out")
    assert len(masks) == 4
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, truth(int(name[-1])) > 0)
    result = import_dataset(tmp_path / "set", tmp_path / "again")
    assert (result.format, result.classes) == ("sa1b", ("background", "object"))


def test_a_file_called_test_is_no_test_split(tmp_path):
    write_set(tmp_path / "set")
    (tmp_path / "set" / "photo_0.json").rename(tmp_path / "set" / "test_drive.json")
    assert set(import_dataset(tmp_path / "set", tmp_path / "out").counts) == {"train", "val"}


@pytest.mark.parametrize(
    "segmentation",
    [{"size": [H, W + 1], "counts": "a"}, {"size": [H, W], "counts": [1, 2]}, {"size": [H, W]}],
)
def test_a_broken_object_is_named_by_file_and_id(tmp_path, segmentation):
    def change(row):
        return {**row, "segmentation": segmentation} if row["id"] == 502 else row

    write_set(tmp_path / "set", change, count=1)
    with pytest.raises(DataError, match=r"photo_0.json' annotations\[1\] \(id 502\)"):
        import_dataset(tmp_path / "set", tmp_path / "out")
