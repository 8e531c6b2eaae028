"""Ids, names and doubles in annotations; and what "unlabelled" means in each format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.api.importing import import_dataset
from segtune.data.formats.areas import Area, LabelledImage
from segtune.data.formats.canonical import _with_unique_names
from segtune.data.formats.faults import LeftOut
from segtune.data.formats.merging import merged
from segtune.errors import DataError
from tests.data.annotation_sets import (
    H,
    W,
    coco_content,
    save_photos,
    write_coco_panoptic,
    write_voc_colors,
)
from tests.data.imports import assert_equals_truth, import_masks, mask_of
from tests.data.polygon_sets import GOOD, annotations_of, coco_of


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


DOUBLES = {
    "images": ({"id": 0, "file_name": "photo_1.png"}, "images[1]: the id 0 is given twice"),
    "categories": ({"id": "7", "name": "bus"}, "categories[2]: the id 7 is given twice"),
}


@pytest.mark.parametrize("name", DOUBLES)
@pytest.mark.parametrize("panoptic", [False, True])
def test_an_id_of_two_things_is_refused(tmp_path, name, panoptic):
    row, message = DOUBLES[name]
    if panoptic:
        write_coco_panoptic(tmp_path)
        file = tmp_path / "panoptic_val.json"
        row = {**row, "id": {"images": 0, "categories": "2"}[name]}
        message = message.replace("7", "2")
    else:
        save_photos(tmp_path, 4)
        file = tmp_path / "a.json"
        write_json(file, coco_content(tmp_path))
    content = json.loads(file.read_text())
    content[name].insert({"images": 1, "categories": 2}[name], row)
    write_json(file, content)
    with pytest.raises(DataError) as error:
        annotations_of(
            tmp_path, f"dataset.annotations.format={'coco_panoptic' if panoptic else 'coco'}"
        )
    assert message in str(error.value)
    assert file.name in str(error.value)


def test_ids_of_other_types_and_repeated_rows_are_read(tmp_path):
    content = coco_content(tmp_path / "set")
    for row in content["annotations"][::2]:
        row["category_id"], row["image_id"] = str(row["category_id"]), float(row["image_id"])
    content["categories"][0]["id"] = "14"
    content["images"].append(content["images"][0])
    write_json(tmp_path / "set" / "a.json", content)
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))


@pytest.mark.parametrize("value", [None, True, [1], ""])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_id_that_is_none_is_refused_with_its_place(tmp_path, key, value):
    save_photos(tmp_path, 1)
    content = coco_of([[GOOD]])
    content["annotations"][0][key] = value
    write_json(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=rf"a\.json' annotations\[0\]\.{key} is"):
        annotations_of(tmp_path)


def test_a_panoptic_segment_of_two_classes_is_refused(tmp_path):
    write_coco_panoptic(tmp_path)
    file = tmp_path / "panoptic_val.json"
    content = json.loads(file.read_text())
    segments = content["annotations"][1]["segments_info"]
    segments.append({"id": segments[0]["id"], "category_id": 2})
    write_json(file, content)
    with pytest.raises(DataError, match=r"annotations\[1\]\.segments_info gives the id 70001"):
        annotations_of(tmp_path)


@pytest.mark.parametrize(
    "names", [["a", "a", "a_1"], ["a_1", "a", "a", "a"], ["a", "A", "b"], ["a_2", "a_1", "a", "a"]]
)
@pytest.mark.parametrize("splits", ["t", "t-", "tv", "-"])
def test_every_image_gets_a_name_of_its_own(names, splits):
    """Also where images without a split (-) are divided later."""
    letters = {"t": "train", "v": "val", "-": None}
    images = [
        LabelledImage(name, Path(f"{n}/{name}.png"), letters[splits[n % len(splits)]])
        for n, name in enumerate(names)
    ]
    unique = _with_unique_names(images)
    assert [image.image for image in unique] == [image.image for image in images]
    keys = [(image.split if "-" not in splits else None, image.name.lower()) for image in unique]
    assert len(set(keys)) == len(names)


@pytest.mark.parametrize("empty", [[], None, [[]]])
def test_pixels_of_boxes_without_areas_are_ignored_and_told(tmp_path, empty):
    """The object's outline is unknown: neither its class nor background would be right."""
    save_photos(tmp_path / "set", 1)
    content = coco_of([[GOOD], empty])
    for row in content["annotations"]:
        row["bbox"] = [20, 5, 30, 10]
    write_json(tmp_path / "set" / "a.json", content)
    lines: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", say=lines.append)
    mask = mask_of(tmp_path / "out")
    assert mask[20, 20] == mask[12, 25] == 1  # the polygon lies above the box
    assert mask[7, 45] == 255
    assert (mask == 255).sum() == 300 - (mask[5:15, 20:50] == 1).sum()
    assert any("1 annotations hold a box but no area" in line for line in lines)


def test_a_detectors_boxes_alone_are_refused(tmp_path):
    save_photos(tmp_path, 1)
    write_json(tmp_path / "a.json", coco_of([[], []], bbox=[1, 1, 5, 5]))
    with pytest.raises(DataError, match="none of its 2 annotations holds an area, only boxes"):
        annotations_of(tmp_path)


def test_images_without_any_area_are_counted_and_a_set_of_them_is_refused(tmp_path):
    save_photos(tmp_path, 2)
    content = coco_of([[GOOD]])
    content["images"].append({"id": 1, "file_name": "photo_1.png"})
    write_json(tmp_path / "a.json", content)
    assert "1 images have no area" in annotations_of(tmp_path).notes[0]
    content["annotations"] = []
    write_json(tmp_path / "a.json", content)
    with pytest.raises(DataError, match="none of its 2 annotated images has a labelled area"):
        annotations_of(tmp_path)


def test_coco_files_of_the_same_photos_are_joined_and_captions_passed_over(tmp_path):
    root = tmp_path / "set"
    content = coco_content(root)
    people = {
        **coco_of([[[40, 40, 60, 40, 60, 46, 40, 46]]]),
        "categories": [{"id": 1, "name": "person"}],
    }
    captions = {"images": content["images"], "annotations": [{"image_id": 0, "caption": "a car"}]}
    for name, rows in [("instances", content), ("keypoints", people), ("captions", captions)]:
        write_json(root / f"{name}_train.json", rows)
    lines: list[str] = []
    result = import_dataset(root, tmp_path / "out", say=lines.append)
    assert result.counts == {"train": 4}
    assert sorted(result.classes) == ["background", "car", "person", "tree"]
    assert (mask_of(tmp_path / "out") == result.classes.index("person")).sum() == 120
    text = " ".join(lines)
    assert "1 files without categories" in text
    assert "captions_train.json" in text
    assert "joined: 'photo_0.png'" in text


def test_the_supercategory_of_all_others_is_no_class(tmp_path):
    save_photos(tmp_path, 1)
    content = coco_of([[GOOD]])
    content["categories"] = [
        {"id": 0, "name": "vehicles", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "vehicles"},
    ]
    write_json(tmp_path / "a.json", content)
    annotations = annotations_of(tmp_path)
    assert [row["name"] for row in annotations.classes] == ["background", "car"]
    assert "vehicles" in annotations.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("bus:128,0,0::", "names the class bus or its colour 128,0,0 twice"),
        ("car:1,2,3::", "names the class car or its colour 1,2,3 twice"),
        ("bus:300,0,0::", "bus has the colour 300,0,0"),
        ("bus:red::", "labelmap.txt' bus: invalid literal"),
    ],
)
def test_a_table_of_colours_that_leaves_a_class_open_is_refused(tmp_path, row, message):
    write_voc_colors(tmp_path)
    with (tmp_path / "labelmap.txt").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=message):
        annotations_of(tmp_path)


def entry(
    split: str | None, size: tuple[int, int] | None = None, mask: Any = None
) -> LabelledImage:
    area = Area("car", lambda height, width: np.ones((height, width), bool))
    return LabelledImage("a", Path("a.png"), split, () if mask else (area,), size, mask)


@pytest.mark.parametrize(
    ("splits", "joined"),
    [
        (["train", "train"], ["train"]),
        ([None, None], [None]),
        ([None, "val"], ["val"]),
        (["train", "val"], ["train", "val"]),
    ],
)
def test_entries_of_an_image_are_joined_unless_their_splits_differ(splits, joined):
    left_out = LeftOut()
    images = merged([entry(split) for split in splits], left_out)
    assert [image.split for image in images] == joined
    assert any("'a.png' (train, val)" in note for note in left_out.notes()) == (len(joined) == 2)
    assert sum(len(image.areas) for image in images) == 2


def test_an_image_of_two_sizes_or_two_masks_is_refused():
    with pytest.raises(DataError, match="two sizes, 20 x 10 and 40 x 30"):
        merged([entry("train", (10, 20)), entry("train", (30, 40))], LeftOut())
    with pytest.raises(DataError, match="has one mask"):
        merged([entry("train", mask=len), entry("train", mask=max)], LeftOut())
    assert len(merged([entry("train", mask=len)] * 2, LeftOut())) == 1


def test_two_labelme_files_of_one_image_are_refused(tmp_path):
    save_photos(tmp_path, 2)
    shape = {"label": "car", "points": [[1, 1], [9, 1], [9, 9]], "shape_type": "polygon"}
    for name in ("photo_0", "photo_1"):
        content = {"shapes": [shape], "imagePath": "photo_0.png", "imageHeight": H, "imageWidth": W}
        write_json(tmp_path / f"{name}.json", content)
    with pytest.raises(DataError, match=r"photo_0\.json' and .*photo_1\.json' both name the image"):
        annotations_of(tmp_path)


def test_classes_that_other_areas_cover_are_told_with_the_order_that_shows_them(tmp_path):
    """A small square is drawn before a large one over it."""
    save_photos(tmp_path / "set", 1)
    shapes = [
        {"label": "small", "shape_type": "rectangle", "points": [[10, 10], [19, 19]]},
        {"label": "large", "shape_type": "rectangle", "points": [[5, 5], [39, 39]]},
    ]
    content = {"shapes": shapes, "imagePath": "photo_0.png", "imageHeight": H, "imageWidth": W}
    write_json(tmp_path / "set" / "a.json", content)
    lines: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", say=lines.append)
    (note,) = [line for line in lines if "areas overlap" in line]
    assert "with dataset.annotations.order=auto, those on top cover 100% of 'small'" in note
    assert "with dataset.annotations.order=largest_first at most 8% of a class" in note
