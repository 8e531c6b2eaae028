"""Label Studio: which annotation of a task counts, and where a region's label stands."""

from typing import Any

import pytest

from segtune.errors import DataError
from tests.data.annotation_sets import save_photos
from tests.data.polygon_sets import annotations_of, region, task, write_tasks


def square(name: str) -> dict[str, Any]:
    corners = [[20, 20], [60, 20], [60, 60], [20, 60]]
    return region(name, "polygonlabels", points=corners, polygonlabels=[name])


def truth_first(row: dict[str, Any]) -> None:
    row["annotations"][0]["ground_truth"] = True


def cancel_last(row: dict[str, Any]) -> None:
    row["annotations"][-1]["was_cancelled"] = True


LABEL_STUDIO = {
    "one annotation": ([["a"]], None, "a"),
    "the last": ([["a"], ["b"]], None, "b"),
    "the last that holds something": ([["a"], []], None, "a"),
    "the ground truth": ([["a"], ["b"]], truth_first, "a"),
    "an empty ground truth": ([[], ["b"]], truth_first, ""),
    "the last that was not cancelled": ([["a"], ["b"]], cancel_last, "a"),
    "skipped": ([["a"]], cancel_last, None),
    "not labelled": ([], None, None),
    "submitted without a region": ([[]], None, ""),
}


UNAMBIGUOUS = ("one annotation", "the last that was not cancelled")


@pytest.mark.parametrize("case", LABEL_STUDIO)
def test_one_annotation_of_a_task_counts_and_open_tasks_are_left_out(tmp_path, case):
    """`None` is a task that is left out, "" an image without an object."""
    annotators, change, expected = LABEL_STUDIO[case]
    save_photos(tmp_path, 2)
    row = task("photo_1.png", *[[square(name) for name in names] for names in annotators])
    if change is not None:
        change(row)
    write_tasks(tmp_path, [task("photo_0.png", [square("z")]), row])
    annotations = annotations_of(tmp_path)
    concepts = ["".join(str(a.concept) for a in image.areas) for image in annotations.images]
    assert concepts == ["z", *([] if expected is None else [expected])]
    assert bool(annotations.notes) == (case not in UNAMBIGUOUS)


@pytest.mark.parametrize("annotator", ["1", "a@b.c"])
def test_an_annotator_can_be_chosen(tmp_path, annotator):
    save_photos(tmp_path, 1)
    row = task("photo_0.png", [square("a")], [square("b")])
    row["annotations"][0]["completed_by"] = 1 if annotator == "1" else {"id": 9, "email": "a@b.c"}
    write_tasks(tmp_path, [row])
    annotations = annotations_of(tmp_path, f"dataset.annotations.annotator='{annotator}'")
    assert annotations.images[0].areas[0].concept == "a"


def test_label_studios_regions_get_their_label_from_a_labels_tag(tmp_path):
    save_photos(tmp_path, 1)
    corners = [[20, 20], [60, 20], [60, 60], [20, 60]]
    rows = [
        region("q", "polygon", points=corners),
        region("q", "labels", points=corners, labels=["car"]),
        region("r", "polygon", points=corners),
        region("k", "keypointlabels", x=1, y=2, keypointlabels=["car"]),
    ]
    write_tasks(tmp_path, [task("photo_0.png", rows)])
    annotations = annotations_of(tmp_path)
    assert [area.concept for area in annotations.images[0].areas] == ["car"]
    assert [note.split(":")[0] for note in annotations.notes] == [
        "1 shapes without a label were left out",
        "1 shapes without an area (points, lines) were left out",
    ]


def test_label_studios_regions_without_ids_keep_their_own_labels(tmp_path):
    save_photos(tmp_path, 1)
    rows = [square("a"), square("b")]
    for row in rows:
        del row["id"]
    write_tasks(tmp_path, [task("photo_0.png", rows)])
    assert [area.concept for area in annotations_of(tmp_path).images[0].areas] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "image"),
    [
        ({"note": "site A, 3.5 m above ground", "photo": "photo_1.png"}, "photo_1"),
        ({"photo": "/data/local-files/?d=set/photo_1.png"}, "photo_1"),
        ({"photo": "s3://bucket/photo_1.png?X-Amz-Date=2026.1"}, "photo_1"),
        ({"photo": "/data/upload/3/1a2b3c4d-photo_1.png"}, "photo_1"),
        ({"preview": "photo_0.png", "image": "photo_1.png"}, "photo_1"),
        ({"left": "photo_0.png", "right": "photo_1.png"}, "left: photo_0.png, right: photo_1.png"),
        ({"note": "3.5 m", "photo": "gone.png"}, "gone.png"),
        ({"number": 3}, "holds no file name"),
    ],
)
def test_the_image_is_the_file_that_a_field_names(tmp_path, data, image):
    save_photos(tmp_path, 2)
    row = task("", [square("a") | {"to_name": "image"}])
    write_tasks(tmp_path, [row | {"data": data}])
    if image == "photo_1":
        assert [i.name for i in annotations_of(tmp_path).images] == [image]
    else:
        with pytest.raises(DataError, match=image):
            annotations_of(tmp_path)


@pytest.mark.parametrize(("other", "is_alike"), [("Car ", True), ("c_ar", True), ("cart", False)])
def test_class_names_that_differ_by_case_or_spaces_are_told(tmp_path, other, is_alike):
    save_photos(tmp_path, 1)
    write_tasks(tmp_path, [task("photo_0.png", [square("car"), square(other)])])
    notes = annotations_of(tmp_path).notes
    assert any(f"'{other}'" in note and "case or spaces" in note for note in notes) == is_alike


@pytest.mark.parametrize("place", ["own label", "labels tag", "choices"])
def test_a_region_of_two_labels_is_a_bad_shape(tmp_path, place):
    save_photos(tmp_path, 1)
    row = square("car")
    extra = {"id": "car", "type": "labels", "value": {"labels": ["car", "truck"]}}
    if place == "own label":
        row["value"]["polygonlabels"] = ["car", "truck"]
    elif place == "labels tag":
        row["type"] = "polygon"
        del row["value"]["polygonlabels"]
    else:
        extra |= {"type": "choices", "value": {"choices": ["sedan", "suv"]}}
    rows = [square("tree"), row, *([] if place == "own label" else [extra])]
    write_tasks(tmp_path, [task("photo_0.png", rows)])
    (message,) = annotations_of(tmp_path, "dataset.tolerance=1").bad_shapes
    assert "one is allowed" in message


def test_a_task_that_labels_two_images_is_refused(tmp_path):
    save_photos(tmp_path, 2)
    rows = [square("a") | {"to_name": "left"}, square("b") | {"to_name": "right"}]
    row = task("", rows) | {"data": {"left": "photo_0.png", "right": "photo_1.png"}}
    write_tasks(tmp_path, [row])
    with pytest.raises(DataError, match=r"several images of one task \(left, right\)"):
        annotations_of(tmp_path)
