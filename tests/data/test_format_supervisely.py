"""Supervisely: polygons by Pillow and bitmaps bit by bit."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import NAMES, H, W, bounding_box, save_photos, truth
from tests.data.imports import assert_equals_truth, import_masks, mask_of

EXTERIOR = [[5, 4], [40, 6], [36, 30], [8, 28]]
HOLE = [[12, 10], [20, 10], [20, 18], [12, 18]]


def packed(bits, form):
    """A bitmap as the tool packs it: a PNG, by zlib, in base64."""
    picture = Image.fromarray(bits.astype(np.uint8))
    buffer = io.BytesIO()
    if form == "palette":
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(buffer, "PNG", transparency=0)
    elif form == "alpha":
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.putalpha(Image.fromarray((bits * 255).astype(np.uint8)))
        white.save(buffer, "PNG")
    else:
        Image.fromarray(bits).save(buffer, "PNG")  # one bit each
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode()


def write_project(root, objects_of, count=4, dataset="ds0", end=".png.json"):
    classes = [
        {"title": "car", "shape": "any", "color": "#FF0000"},
        {"title": "tree", "shape": "bitmap", "color": "#00FF00"},
    ]
    folder = root / dataset
    (folder / "ann").mkdir(parents=True)
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    for index, path in enumerate(save_photos(folder / "img", count)):
        content = {
            "description": "",
            "tags": [],
            "size": {"height": H, "width": W},
            "objects": objects_of(index),
        }
        (folder / "ann" / f"{path.stem}{end}").write_text(json.dumps(content))


def shape(kind, label, exterior=(), interior=(), **more):
    points = {"exterior": exterior, "interior": interior}
    return {"classTitle": label, "geometryType": kind, "points": points, **more}


@pytest.mark.parametrize("form", ["palette", "alpha", "one bit"])
@pytest.mark.parametrize("end", [".png.json", ".json"])
def test_bitmaps_are_read_pixel_by_pixel(tmp_path, form, end):
    def objects_of(index):
        rows = []
        for label in (1, 2):
            bits = truth(index) == label
            left, top, right, bottom = bounding_box(bits)
            data = packed(bits[top:bottom, left:right], form)
            bitmap = {"data": data, "origin": [left, top]}
            rows.append(shape("bitmap", NAMES[label], bitmap=bitmap))
        return rows

    write_project(tmp_path / "set", objects_of, end=end)
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))
    result = import_dataset(tmp_path / "set", tmp_path / "again")
    assert (result.format, result.classes) == ("supervisely", tuple(NAMES))
    assert "- 255\n  - 0\n  - 0\n" in (tmp_path / "again" / "classes.yaml").read_text()


def test_polygons_have_holes_and_later_objects_are_on_top(tmp_path):
    objects = [
        shape("polygon", "car", EXTERIOR, [HOLE], tags=[{"name": "type", "value": "van"}]),
        shape("rectangle", "tree", [[30, 20], [50, 40]]),
        shape("point", "tree", [[1, 1]]),
        shape("line", "tree", [[1, 1], [9, 9]]),
        shape("polygon", "tree", [[1, 1], [9, 9]]),
    ]
    write_project(tmp_path / "set", lambda index: objects, dataset="train")
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert result.counts == {"train": 4}
    canvas = Image.new("L", (W, H))
    draw = ImageDraw.Draw(canvas)
    draw.polygon([tuple(p) for p in EXTERIOR], fill=1)
    draw.polygon([tuple(p) for p in HOLE], fill=0)
    draw.rectangle((30, 20, 50, 40), fill=2)
    np.testing.assert_array_equal(mask_of(tmp_path / "out"), np.array(canvas))
    text = "\n".join(words)
    assert "8 shapes without an area" in text
    assert "4 polygons of fewer than three points" in text
    assert "van" in (tmp_path / "out" / "classes.yaml").read_text()


def test_an_image_called_test_is_no_test_split(tmp_path):
    root = tmp_path / "set"
    objects = [shape("rectangle", "tree", [[30, 20], [50, 40]])]
    write_project(root, lambda index: objects)
    (root / "ds0" / "img" / "photo_0.png").rename(root / "ds0" / "img" / "test_drive.png")
    (root / "ds0" / "ann" / "photo_0.png.json").rename(root / "ds0" / "ann" / "test_drive.png.json")
    assert set(import_dataset(root, tmp_path / "out").counts) == {"train", "val"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"classTitle": "car"}, "geometryType"),
        (shape("polygon", "car", [[1, 1], [2, 2], [3, "x"]]), "'x'"),
        (shape("bitmap", "car"), "bitmap"),
        (shape("bitmap", "car", bitmap={"data": "AAAA", "origin": [0, 0]}), "no PNG"),
        (shape("alpha_mask", "car"), "alpha_mask"),
        (shape("rectangle", "car", [[1, 1]]), "unpack"),
    ],
)
def test_a_broken_object_is_named_by_file_and_number(tmp_path, row, message):
    good = shape("rectangle", "tree", [[30, 20], [50, 40]])
    write_project(tmp_path / "set", lambda index: [good, row], count=1)
    with pytest.raises(DataError, match=rf"photo_0.png.json' objects\[1\].*{message}"):
        import_dataset(tmp_path / "set", tmp_path / "out")
