"""VIA: JSON of versions 1 and 2 and CSV tables; pixels are counted by pycocotools and NumPy."""

import csv
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, save_photos
from tests.data.imports import mask_of

POLYGON = {
    "name": "polygon",
    "all_points_x": [5, 30, 26.5, 8],
    "all_points_y": [4, 6, 20, 18.25],
}
RECT = {"name": "rect", "x": 40, "y": 10, "width": 12, "height": 9}
CIRCLE = {"name": "circle", "cx": 20, "cy": 36, "r": 6}
POINT = {"name": "point", "cx": 1, "cy": 1}


def regions(attribute="class"):
    return [
        {"shape_attributes": POLYGON, "region_attributes": {attribute: "leaf"}},
        {"shape_attributes": RECT, "region_attributes": {attribute: {"stem": True, "leaf": False}}},
        {"shape_attributes": CIRCLE, "region_attributes": {attribute: "leaf"}},
        {"shape_attributes": POINT, "region_attributes": {attribute: "leaf"}},
        {"shape_attributes": RECT, "region_attributes": {attribute: ""}},
        {
            "shape_attributes": {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]},
            "region_attributes": {attribute: "leaf"},
        },
    ]


def export(files, rows):
    return {f"{f}123": {"filename": f, "size": 123, "regions": rows} for f in files}


def as_project(root, files, rows):
    content = {"_via_settings": {}, "_via_img_metadata": export(files, rows)}
    (root / "via_project.json").write_text(json.dumps(content))


def as_export(root, files, rows):
    (root / "via_region_data.json").write_text(json.dumps(export(files, rows)))


def as_version_1(root, files, rows):
    numbered = {str(index): row for index, row in enumerate(rows)}
    (root / "via_region_data.json").write_text(json.dumps(export(files, numbered)))


def as_table(root, files, rows, first_column="filename"):
    with (root / "via.csv").open("w", newline="") as file:
        table = csv.writer(file)
        head = "file_size file_attributes region_count region_id".split()
        head += ["region_shape_attributes", "region_attributes"]
        table.writerow([first_column, *head])
        for name in files:
            for index, row in enumerate(rows):
                cells = [json.dumps(row["shape_attributes"]), json.dumps(row["region_attributes"])]
                table.writerow([name, 123, "{}", len(rows), index, *cells])


def as_table_of_version_1(root, files, rows):
    as_table(root, files, rows, "#filename")


def expected():
    pairs = zip(POLYGON["all_points_x"], POLYGON["all_points_y"], strict=True)
    flat = np.ravel(list(pairs)).tolist()
    mask = coco_mask.decode(coco_mask.frPyObjects([flat], H, W))[..., 0].astype(np.uint8)
    ys, xs = np.mgrid[:H, :W] + 0.5
    mask[(xs - 20) ** 2 + (ys - 36) ** 2 <= 36] = 1
    mask[10:19, 40:52] = 2
    return mask


@pytest.mark.parametrize(
    "write", [as_project, as_export, as_version_1, as_table, as_table_of_version_1]
)
def test_every_form_of_via_gives_the_same_pixels(tmp_path, write):
    files = [path.name for path in save_photos(tmp_path / "set" / "train", 2)]
    write(tmp_path / "set" / "train", files, regions())
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert (result.format, result.classes) == ("via", ("background", "leaf", "stem"))
    assert result.counts == {"train": 2}
    np.testing.assert_array_equal(mask_of(tmp_path / "out"), expected())
    text = "\n".join(words)
    assert "2 shapes without a label" in text
    assert "2 polygons of fewer than three points" in text
    assert "2 shapes without an area" in text


def test_regions_without_attributes_are_objects_of_one_class(tmp_path):
    files = [path.name for path in save_photos(tmp_path / "set")]
    as_export(tmp_path / "set", files, [{"shape_attributes": RECT, "region_attributes": {}}])
    result = import_dataset(tmp_path / "set", tmp_path / "out")
    assert result.classes == ("background", "object")


def test_the_attribute_of_the_class_is_chosen_by_name(tmp_path):
    files = [path.name for path in save_photos(tmp_path / "set")]
    attributes = {"species": "oak", "age": "old"}
    as_export(
        tmp_path / "set", files, [{"shape_attributes": RECT, "region_attributes": attributes}]
    )
    with pytest.raises(DataError, match="species, age.*annotations.label=species"):
        import_dataset(tmp_path / "set", tmp_path / "out")
    result = import_dataset(tmp_path / "set", tmp_path / "out", "dataset.annotations.label=age")
    assert result.classes == ("background", "old")


def test_a_project_and_its_export_are_read_once(tmp_path):
    root = tmp_path / "set"
    files = [path.name for path in save_photos(root)]
    as_project(root, files, regions())
    as_export(root, files, regions())
    assert sum(import_dataset(root, tmp_path / "out").counts.values()) == 4


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "zip"),
        ({"name": "polygon", "all_points_x": [1, 2, "x"], "all_points_y": [1, 2, 3]}, "'x'"),
        ({"name": "rect", "x": 1, "y": 2, "width": 3}, "height"),
        ({"name": "star"}, "it is a star"),
        ({}, "name"),
    ],
)
def test_a_broken_region_is_named_by_file_image_and_number(tmp_path, shape, message):
    files = [path.name for path in save_photos(tmp_path / "set", 1)]
    row = {"shape_attributes": shape, "region_attributes": {"class": "leaf"}}
    as_export(tmp_path / "set", files, [row])
    with pytest.raises(DataError, match=rf"photo_0.png123' regions\[0\].*{message}"):
        import_dataset(tmp_path / "set", tmp_path / "out")
