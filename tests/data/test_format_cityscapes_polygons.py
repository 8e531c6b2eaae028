"""Cityscapes polygons, drawn one after the other by Pillow as the authors' scripts do."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, photo
from tests.data.imports import mask_of

ROAD = [[0, 20], [63, 20], [63, 47], [0, 47]]
CAR = [[10, 15], [30, 16], [28, 32], [12, 30]]
PLATE = [[15, 25], [25, 25], [25, 29], [15, 29]]
CARAVAN = [[50, 25], [60, 25], [60, 40], [50, 40]]
STATIC = [[40, 10], [55, 12], [50, 30]]


def write_set(root, objects, split="val", city="ulm", kind="gtFine"):
    stem = f"{city}_000001_000019"
    for folder in (root / "leftImg8bit" / split / city, root / kind / split / city):
        folder.mkdir(parents=True, exist_ok=True)
    image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    Image.fromarray(photo(0)).save(image)
    content = {"imgHeight": H, "imgWidth": W, "objects": objects}
    path = root / kind / split / city / f"{stem}_{kind}_polygons.json"
    path.write_text(json.dumps(content))
    return f"{split}/leftImg8bit/{city}/{stem}_leftImg8bit"


def drawn(*polygons, outside=255):
    canvas = Image.new("L", (W, H), outside)
    for points, value in polygons:
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], fill=value)
    return np.array(canvas)


def row(label, polygon, **more):
    return {"label": label, "polygon": polygon, **more}


@pytest.mark.parametrize("kind", ["gtFine", "gtCoarse"])
def test_labels_of_cityscapes_become_the_19_evaluated_classes(tmp_path, kind):
    objects = [
        row("road", ROAD),
        row("cargroup", CAR),
        row("static", STATIC),
        row("license plate", PLATE),
        row("caravangroup", CARAVAN),
        row("sky", ROAD, deleted=1),
        row("sky", [[1, 1], [2, 2]]),
    ]
    name = write_set(tmp_path / "set", objects, kind=kind)
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert result.format == "cityscapes_polygons"
    assert result.counts == {"val": 1}
    assert len(result.classes) == 19 and result.classes[13] == "car"
    expected = drawn((ROAD, 0), (CAR, 13), (STATIC, 255), (CARAVAN, 255))
    np.testing.assert_array_equal(mask_of(tmp_path / "out", name), expected)
    text = "\n".join(words)
    assert "1 deleted objects" in text
    assert "1 polygons of fewer than three points" in text


def test_labels_of_others_are_classes_by_name(tmp_path):
    name = write_set(tmp_path / "set", [row("road", ROAD), row("pothole", CAR)])
    result = import_dataset(tmp_path / "set", tmp_path / "out")
    assert result.classes == ("background", "pothole", "road")
    expected = drawn((ROAD, 2), (CAR, 1), outside=0)
    np.testing.assert_array_equal(mask_of(tmp_path / "out", name), expected)


@pytest.mark.parametrize(
    "broken", [{"label": "car"}, row("car", [[1, 2], [3, 4], [5, "x"]]), {"polygon": CAR}]
)
def test_a_broken_object_is_named_by_file_and_number(tmp_path, broken):
    write_set(tmp_path / "set", [row("road", ROAD), broken])
    with pytest.raises(DataError, match=r"gtFine_polygons.json' objects\[1\]"):
        import_dataset(tmp_path / "set", tmp_path / "out")
