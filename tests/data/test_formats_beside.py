"""Annotations beside others, and the guesses of readers, are told with the line that helps."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.data.formats import yolo
from segtune.data.formats.overlaps import overlap_note
from tests.data.annotation_sets import H, W, coco_content, save_photos, truth
from tests.data.imports import import_masks, mask_of
from tests.data.test_format_cvat_video import box, write_frames, write_xml

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]


def notes_of(root: Path, *words: str, **options) -> list[str]:
    lines: list[str] = []
    import_dataset(root, root.parent / "out", *words, say=lines.append, overwrite=True, **options)
    return lines


def one(lines: list[str], part: str) -> str:
    (line,) = [line for line in lines if part in line]
    return line


def write_labelme(root: Path, numbers) -> None:
    for number in numbers:
        shape = {"label": "car", "points": SQUARE, "shape_type": "polygon"}
        content = {"shapes": [shape], "imagePath": f"photo_{number}.png"}
        content |= {"imageHeight": H, "imageWidth": W}
        (root / f"photo_{number}.json").write_text(json.dumps(content))


def write_yolo(root: Path, numbers, table: str = "names: {0: car, 1: tree}\n") -> None:
    for number in numbers:
        points = " ".join(f"{x / W} {y / H}" for x, y in SQUARE)
        (root / f"photo_{number}.txt").write_text(f"0 {points}\n")
    (root / "data.yaml").write_text(table)


@pytest.mark.parametrize("folder", ["", "images"])
@pytest.mark.parametrize(
    "table", ["names: [car, tree]\n", "names: {0: car, 1: tree}\n", "nc: 2\nnames: [car, tree]\n"]
)
def test_a_table_of_names_alone_is_yolo_where_label_files_are(folder, table, tmp_path):
    save_photos(tmp_path / "set" / folder)
    write_yolo(tmp_path / "set" / folder, range(4))
    (tmp_path / "set" / folder / "data.yaml").rename(tmp_path / "set/data.yaml")
    (tmp_path / "set/data.yaml").write_text(table)
    masks = import_masks(tmp_path / "set", tmp_path / "out")
    assert len(masks) == 4
    for mask in masks.values():
        assert mask[12:28, 12:28].all() and mask.sum() in range(360, 480)


@pytest.mark.parametrize("table", ["names: [road, car]\nnc: 2\n", "names: [road, car]\n"])
def test_names_beside_masks_are_no_yolo(table, tmp_path):
    save_photos(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for number in range(4):
        Image.fromarray(truth(number) // 2).save(tmp_path / f"masks/photo_{number}.png")
    (tmp_path / "data.yaml").write_text(table)
    (tmp_path / "readme.txt").write_text("4 photos of roads\n")
    assert yolo.find_files(tmp_path) is None
    imported = import_dataset(tmp_path, tmp_path.parent / "out", overwrite=True)
    assert imported.classes == ("road", "car")


def test_annotations_of_a_second_tool_are_told_with_both_ways_on(tmp_path):
    save_photos(tmp_path / "set")
    write_labelme(tmp_path / "set", [0, 1, 2])
    write_yolo(tmp_path / "set", [3])
    note = one(notes_of(tmp_path / "set"), "besides labelme")
    assert "yolo" in note and "format=NAME" in note and "COCO" in note
    assert "photo_3.png" in one(notes_of(tmp_path / "set"), "no annotation")
    assert import_dataset(
        tmp_path / "set", tmp_path / "out", format="yolo", overwrite=True
    ).classes == ("background", "car", "tree")


def write_two_coco(root: Path, change: Callable[[list[dict]], None]) -> None:
    """Two files of the same photos, of which the second is changed."""
    for name in ("anna", "bert"):
        content = coco_content(root)
        if name == "bert":
            change(content["annotations"])
        (root / f"{name}.json").write_text(json.dumps(content))


def shorten(rows: list[dict]) -> None:
    rows[0]["segmentation"] = [[20, 20, 40, 20, 40, 30]]


def nothing(rows: list[dict]) -> None:
    pass


def leave_out_trees(rows: list[dict]) -> None:
    rows[:] = [row for row in rows if row["category_id"] == 7]


def keep_a_car_as_a_tree(rows: list[dict]) -> None:
    rows[:] = [{**rows[0], "category_id": rows[1]["category_id"]}, *rows[2:]]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (shorten, "other areas of the same classes"),
        (keep_a_car_as_a_tree, "different classes"),
        (nothing, ""),
        (leave_out_trees, ""),
    ],
)
def test_two_files_that_label_images_otherwise_are_named(change, differs, tmp_path):
    write_two_coco(tmp_path / "set", change)
    lines = notes_of(tmp_path / "set")
    told = [line for line in lines if "'anna.json' and 'bert.json'" in line]
    assert len(told) == (1 if differs else 0)
    if differs:
        assert told[0].startswith("1 images") and "photo_0" in told[0] and differs in told[0]
    joined = [line for line in lines if "named more than once" in line]
    assert joined[0].startswith("3 " if differs else "4 ")


def test_coco_beside_masks_of_the_same_names_is_read_and_the_masks_are_told(tmp_path):
    root = tmp_path / "set"
    content = coco_content(root / "images")
    (root / "a.json").write_text(json.dumps(content))
    (root / "masks").mkdir()
    for number in range(4):
        Image.fromarray(truth(number)).save(root / f"masks/photo_{number}.png")
    note = one(notes_of(root), "masks of images")
    assert note.startswith("4 ") and "format=folder" in note
    for folder_format in ("coco", "folder"):
        masks = import_masks_as(root, tmp_path, folder_format)
        for number in range(4):
            np.testing.assert_array_equal(masks[f"photo_{number}"], truth(number))


def import_masks_as(root: Path, tmp_path: Path, name: str) -> dict[str, np.ndarray]:
    output = tmp_path / f"as_{name}"
    import_dataset(root, output, format=name)
    return {path.stem: np.array(Image.open(path)) for path in (output / "masks").rglob("*.png")}


def test_photos_of_one_name_in_two_folders_are_refused_with_a_way_out(tmp_path):
    from segtune.errors import DataError

    root = tmp_path / "set"
    content = coco_content(root / "day")
    save_photos(root / "night")
    (root / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="more than one file could be.*Write the folder.*format=f"):
        import_dataset(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("hidden", "is_told"),
    [
        ([7, 0, 7, 9, 100], False),  # a car on the road, in the best order
        ([87, 0, 7, 87, 0], True),
        ([12, 0, 9, 12, 40], False),
        ([100, 0, 100, 100, 100], True),  # lost in every order
    ],
)
def test_overlaps_are_told_where_another_order_shows_more_or_a_class_is_lost(hidden, is_told):
    worst, _, largest_first, file, reversed_ = hidden
    rows = [[100, 100], [worst, 0], [largest_first, 0], [file, 0], [reversed_, 0]]
    note = overlap_note(np.array(rows), [{"name": "road"}, {"name": "car"}], "auto")
    assert bool(note) == is_told
    if is_told and min(hidden[2:]) < worst:
        assert re.search(r"87% of 'road'; with dataset.annotations.order=\w+ at most \d%", note[0])


RECT = {"name": "rect", "x": 10, "y": 10, "width": 20, "height": 20}


def test_the_attribute_that_via_takes_for_the_class_is_told(tmp_path):
    (path,) = save_photos(tmp_path / "set", 1)
    attributes = {"type": "car", "id": "7"}
    row = {"shape_attributes": RECT, "region_attributes": attributes}
    content = {"k": {"filename": path.name, "size": 1, "regions": [row]}}
    (tmp_path / "set/via.json").write_text(json.dumps(content))
    note = one(notes_of(tmp_path / "set"), "is taken for the class")
    assert "'type' of type, id" in note and "dataset.annotations.label=NAME" in note
    word = "dataset.annotations.label=id"
    assert not any("is taken for" in line for line in notes_of(tmp_path / "set", word))


def row_runs(bits: np.ndarray) -> str:
    flat = bits.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    return " ".join(f"{a + 1} {b - a}" for a, b in zip(edges[::2], edges[1::2], strict=True))


def test_run_lengths_along_rows_are_read_with_the_line_that_the_note_prints(tmp_path):
    save_photos(tmp_path / "set/train")
    rows = [["ImageId", "EncodedPixels"]]
    rows += [[f"photo_{i}.png", row_runs(truth(i) == 1)] for i in range(4)]
    with (tmp_path / "set/train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    note = one(notes_of(tmp_path / "set"), "column by column")
    assert "dataset.annotations.runs=rows" in note
    masks = import_masks(tmp_path / "set", tmp_path / "rows", "dataset.annotations.runs=rows")
    for number in range(4):
        np.testing.assert_array_equal(masks[f"photo_{number}"], truth(number) == 1)


def test_the_polygon_rule_that_a_coco_file_shows_is_told(tmp_path):
    content = coco_content(tmp_path / "set")
    points = [10, 10, 30, 10, 30, 30, 10, 30]
    for row in content["annotations"]:
        row |= {"segmentation": [points], "area": 441}  # with the outline; 400 without
    (tmp_path / "set/a.json").write_text(json.dumps(content))
    note = one(notes_of(tmp_path / "set"), "with their outlines")
    assert "dataset.annotations.polygons=coco" in note
    notes_of(tmp_path / "set", "dataset.annotations.polygons=coco")
    name = next((tmp_path / "out/masks").rglob("photo_0.png")).relative_to(tmp_path / "out/masks")
    assert np.count_nonzero(mask_of(tmp_path / "out", str(name.with_suffix("")))) == 400


def test_a_bad_track_is_left_out_within_the_tolerance(tmp_path):
    bad = box(0, 1, 1, 5, 5) + '<box frame="2" xtl="x" ytl="1" xbr="5" ybr="5" outside="0"/>'
    good = "".join(box(frame, 8, 8, 20, 20) for frame in range(4))
    write_xml(tmp_path / "set", bad, *[good] * 9)
    write_frames(tmp_path / "set")
    lines = notes_of(tmp_path / "set", "dataset.tolerance=0.2")
    note = one(lines, "cannot be read")
    assert note.startswith("2 of ") and "track 0 (car)" in note
