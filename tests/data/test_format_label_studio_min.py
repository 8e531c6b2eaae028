"""Label Studio's JSON-MIN: equal to the full export of the same labels, and to other decoders."""

import json
from copy import deepcopy

import numpy as np
import pytest

from segtune.api.importing import import_dataset
from segtune.data.formats.areas import draw_areas
from segtune.errors import DataError
from tests.data.annotation_sets import NAMES, H, W, encode_brush, save_photos, truth
from tests.data.imports import assert_equals_truth, import_masks
from tests.data.polygon_sets import annotations_of, region, task, write_tasks

SIZE = {"original_width": W, "original_height": H}
SHAPES = {
    "polygon": {"points": [[10, 10], [60, 12], [30, 80]], "closed": True},
    "rectangle": {"x": 20, "y": 30, "width": 40, "height": 20, "rotation": 30},
    "ellipse": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 0},
    "brush": {"format": "rle", "rle": encode_brush(truth(0) == 1)},
}


def record(photo: str, number: int = 0, annotator: int = 1, **tags) -> dict:
    """A record as the tool writes it; the time's dot is no suffix."""
    return {
        "image": f"/data/upload/1/1a2b3c4d-{photo}",
        "id": number,
        **tags,
        "annotator": annotator,
        "annotation_id": number * 10 + annotator,
        "created_at": "2026-01-01T00:00:00.123Z",
        "updated_at": "2026-01-01T00:00:00.456Z",
        "lead_time": 4.5,
    }


def write_records(root, records):
    save_photos(root)
    (root / "min.json").write_text(json.dumps(records))


def pixels(root):
    """Image -> (class, finer label, pixels) of its areas."""
    drawn = {}
    for image in annotations_of(root).images:
        areas = [(a.concept, a.finer, a.draw(H, W).tolist()) for a in image.areas]
        drawn[image.image.name] = areas
    return drawn


def test_brushes_are_read_pixel_by_pixel(tmp_path):
    records = []
    for index in range(4):
        values = []
        for label in (1, 2):
            rle = encode_brush(truth(index) == label)
            values.append({"format": "rle", "rle": rle, "brushlabels": [NAMES[label]], **SIZE})
        records.append(record(f"photo_{index}.png", index, tag=values))
    write_records(tmp_path / "set", records)
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))
    assert import_dataset(tmp_path / "set", tmp_path / "again").format == "label_studio"


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("tag", ["own", "labels"])
def test_a_shape_is_that_of_the_full_export(tmp_path, kind, tag):
    """Its label lies in its own tag, or in a tag `Labels` that repeats the shape."""
    shape = SHAPES[kind]
    key = f"{kind}labels" if tag == "own" else "labels"
    values = {"label": [{**shape, key: ["car"], **SIZE}]}
    results = [region("a", key, **shape, **{key: ["car"]})]
    if tag == "labels":
        values = {"shape": [{**shape, **SIZE}], **values}
        results = [region("a", kind, **shape), *results]
    write_records(tmp_path / "min", [record("photo_0.png", 0, **values)])
    save_photos(tmp_path / "full")
    write_tasks(tmp_path / "full", [task("photo_0.png", results)])
    drawn = pixels(tmp_path / "min")
    assert drawn == pixels(tmp_path / "full")
    assert [area[:2] for area in drawn["photo_0.png"]] == [("car", None)]
    assert np.sum(drawn["photo_0.png"][0][2]) > 100


def test_words_of_other_tags_are_no_regions(tmp_path):
    """A choice of a region is its finer label; a text, a choice of the image and points are not."""
    shape = {**SHAPES["rectangle"], **SIZE}
    tags = {
        "note": "see https://example.org/a.html",
        "weather": "rain",
        "shape": [{**shape, "rectanglelabels": ["car"]}, {**shape, "x": 50}],
        "kind": [{**shape, "choices": ["van", "new"]}],
        "dots": [{"x": 1, "y": 1, "width": 0.3, "keypointlabels": ["eye"], **SIZE}],
    }
    write_records(tmp_path, [record("photo_0.png", **tags)])
    areas = pixels(tmp_path)["photo_0.png"]
    assert [area[:2] for area in areas] == [("car", "van")]
    notes = "\n".join(annotations_of(tmp_path).notes)
    assert "1 shapes without a label" in notes
    assert "1 shapes without an area" in notes


def test_equal_shapes_of_two_labels_stay_two_areas(tmp_path):
    shape = {**SHAPES["rectangle"], **SIZE}
    tags = {"a": [{**shape, "rectanglelabels": ["car"]}, {**shape, "rectanglelabels": ["tree"]}]}
    write_records(tmp_path, [record("photo_0.png", **tags)])
    assert [area[0] for area in pixels(tmp_path)["photo_0.png"]] == ["car", "tree"]


def test_records_of_one_task_are_its_annotations(tmp_path):
    """The last that holds something counts, or that of the annotator who is asked for."""
    first = [{**SHAPES["polygon"], "polygonlabels": ["car"], **SIZE}]
    second = deepcopy(first)
    second[0]["polygonlabels"] = ["tree"]
    records = [
        record("photo_0.png", 0, 1, tag=first),
        record("photo_1.png", 1, 1, tag=first),
        record("photo_0.png", 0, 2, tag=second),
        record("photo_0.png", 0, 3, tag=[]),
    ]
    write_records(tmp_path, records)
    assert [a[0] for a in pixels(tmp_path)["photo_0.png"]] == ["tree"]
    one = annotations_of(tmp_path, "dataset.annotations.annotator=1")
    assert [area.concept for image in one.images for area in image.areas] == ["car", "car"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"points": [[1, 2], [3], [5, 6]], "polygonlabels": ["car"]}, "result '0' .polygon."),
        ({"rle": [1, 2], "brushlabels": ["car"]}, "result '0' .brush."),
        ({"x": 1, "labels": ["car"]}, "result '0' .unknown shape."),
    ],
)
def test_a_bad_shape_is_refused_by_its_place(tmp_path, value, message):
    write_records(
        tmp_path, [record("photo_0.png"), record("photo_1.png", 1, a=[{**value, **SIZE}])]
    )
    with pytest.raises(DataError, match=rf"min.json' \[1\] {message}"):
        for image in annotations_of(tmp_path).images:
            draw_areas(image.areas, (H, W))
