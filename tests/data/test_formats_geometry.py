"""Shapes of annotations: no bad number reaches a drawing, and good ones match other decoders."""

import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.data.formats import shapes
from segtune.data.formats.areas import draw_areas
from segtune.data.formats.run_lengths import decode_brush, decode_coco, fill_runs
from segtune.errors import DataError
from tests.data.annotation_sets import H, W, coco_content, encode_brush, save_photos
from tests.data.polygon_sets import (
    GOOD,
    POLYGON_SETS,
    annotations_of,
    coco_of,
    polygon_set,
    region,
    task,
    write_tasks,
)

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("name", POLYGON_SETS)
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE, 2e8, -2e8, 1e300, "ten"])
def test_a_coordinate_that_cannot_be_is_refused_with_its_place(tmp_path, name, value):
    root = polygon_set(tmp_path / "set", name, [12, value, 40, 12, 40, 40])
    with pytest.raises(DataError, match=r"(a\.json|a\.xml|project\.json)'.*(1\]|1 |'1')"):
        draw_areas(annotations_of(root).images[0].areas, (H, W))


@pytest.mark.parametrize("name", POLYGON_SETS)
@pytest.mark.parametrize("points", [[], [12, 12], [12, 12, 40, 40]])
def test_a_polygon_of_too_few_points_is_left_out_and_told(tmp_path, name, points):
    if name == "cvat" and not points:
        pytest.skip("XML without points is a fault of the file")
    annotations = annotations_of(polygon_set(tmp_path / "set", name, points))
    assert len(annotations.images[0].areas) == 1
    assert len(annotations.notes) == 1
    assert annotations.notes[0].startswith("1 ")


@pytest.mark.parametrize("name", POLYGON_SETS)
def test_a_polygon_that_leaves_the_image_is_cut_at_its_border(tmp_path, name):
    points = [-500, -500, 900, -500, 900, 20, -500, 20]
    root = polygon_set(tmp_path / "set", name, points)
    _, bits = (area.draw(H, W) for area in annotations_of(root).images[0].areas)
    assert bits[:20].all()
    assert not bits[22:].any()


@pytest.mark.parametrize(
    "points", ["20,5,20,5;40,20;40,40", "1;2,3;4,5", "1,2;3,4;5,x", "1,2;3,4;"]
)
def test_cvats_points_are_pairs_of_numbers(tmp_path, points):
    root = polygon_set(tmp_path / "set", "cvat", [12, 12, 40, 12, 40, 40])
    file = next(root.glob("*.xml"))
    file.write_text(re.sub(r'points="[^"]*"', f'points="{points}"', file.read_text(), count=1))
    with pytest.raises(DataError, match=r"shape 0 \(polygon\): "):
        annotations_of(root)


@pytest.mark.parametrize("name", POLYGON_SETS)
@pytest.mark.parametrize("place", ["shares", "outside"])
def test_a_polygon_of_no_pixels_is_told(tmp_path, name, place):
    points = [0.2, 0.2, 0.8, 0.2, 0.8, 0.8] if place == "shares" else [900, 9, 950, 9, 950, 40]
    root = polygon_set(tmp_path / "set", name, points)
    lines: list[str] = []
    import_dataset(root, tmp_path / "out", say=lines.append)
    assert any("1 of 2 shapes cover one pixel or none" in line for line in lines)


def test_a_set_of_shares_is_refused(tmp_path):
    content = coco_content(tmp_path)
    for row in content["annotations"]:
        row["segmentation"] = [[0.2, 0.2, 0.6, 0.2, 0.6, 0.6]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"all 8 shapes cover one pixel or none.*0\.\.1"):
        import_dataset(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_are_decoded_as_pycocotools_does(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    bits = np.zeros((height, width), bool)
    bits[rng.integers(height) :, : rng.integers(1, width + 1)] = True
    bits ^= rng.random((height, width)) < [0, 0, 0.01, 0.1, 0.5, 1][seed]
    compressed = coco_mask.encode(np.asfortranarray(bits.astype(np.uint8)))["counts"]
    flat = np.concatenate([[False], bits.ravel(order="F"), [not bits[-1, -1]]])
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat.astype(int)))])).tolist()
    for counts in (compressed, compressed.decode(), runs):
        np.testing.assert_array_equal(decode_coco(counts, height, width), bits)


BAD_COUNTS = {
    "too few pixels": [4, 20],
    "too many pixels": [0, H * W + 1],
    "far too many pixels": [0, 10**30],
    "negative": [H * W + 5, -5],
    "text": "no run lengths",
    "text outside ASCII": "äöü",
    "empty text": "",
    "cut text": "P",
    "endless number": "oooooooooooo0",
    "fraction": [0.5, H * W - 0.5],
    "not finite": [NAN, 1],
    "none": None,
    "a list of texts": ["a", "b"],
    "a number": 7,
}


@pytest.mark.parametrize("fault", BAD_COUNTS)
def test_run_lengths_that_do_not_fill_the_image_are_refused_with_their_place(tmp_path, fault):
    save_photos(tmp_path, 1)
    rle = {"size": [H, W], "counts": BAD_COUNTS[fault]}
    (tmp_path / "a.json").write_text(json.dumps(coco_of([rle])))
    with pytest.raises(DataError, match=r"a\.json' annotations\[0\]"):
        draw_areas(annotations_of(tmp_path).images[0].areas, (H, W))


@pytest.mark.parametrize("rle", ["1,2", "4,x", "-3,8", "0,99999999999999"])
@pytest.mark.parametrize("size", ["2", "100000000"])
def test_cvats_run_lengths_that_do_not_fill_their_box_are_refused(tmp_path, rle, size):
    save_photos(tmp_path, 1)
    mask = f'<mask label="car" rle="{rle}" left="0" top="0" width="{size}" height="{size}"/>'
    image = f'<image id="0" name="photo_0.png" width="{W}" height="{H}">{mask}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>")
    with pytest.raises(DataError, match=r"a\.xml' image 'photo_0\.png' shape 0 \(mask\)"):
        draw_areas(annotations_of(tmp_path).images[0].areas, (H, W))


def change_brush(packed: list[Any], fault: str) -> list[Any]:
    if fault == "cut":
        return packed[:20]
    if fault == "other size":
        return [0xFF, 0xFF, 0xFF, 0xFF, *packed[4:]]
    return {"byte of 300": [300, *packed[1:]], "text": ["a", *packed[1:]], "empty": []}[fault]


@pytest.mark.parametrize("fault", ["cut", "other size", "byte of 300", "text", "empty"])
def test_label_studios_run_lengths_that_do_not_fill_the_image_are_refused(tmp_path, fault):
    save_photos(tmp_path, 1)
    packed = change_brush(encode_brush(np.eye(H, W, dtype=bool)), fault)
    brush = region("b", "brushlabels", rle=packed, brushlabels=["car"])
    write_tasks(tmp_path, [task("photo_0.png", [brush])])
    with pytest.raises(DataError, match=r"project\.json' \[0\] result 'b'"):
        draw_areas(annotations_of(tmp_path).images[0].areas, (H, W))
    np.testing.assert_array_equal(
        decode_brush(encode_brush(np.eye(H, W, dtype=bool)), H, W), np.eye(H, W, dtype=bool)
    )


SHAPES = {
    "box": lambda value: shapes.box(value, 1, 2, 3),
    "turned box": lambda value: shapes.turned_box(1, 1, 2, 3, value),
    "ellipse": lambda value: shapes.ellipse(1, 1, value, 3),
    "circle": lambda value: shapes.circle(1, value, 3, "outline"),
    "small mask": lambda value: shapes.pasted(lambda: np.ones((2, 2), bool), value, 1),
    "runs": lambda value: shapes.pasted_runs([1, 3], [value, 0, 2, 2]),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("value", [NAN, INFINITE, "1", None, True])
def test_no_shape_is_made_of_a_value_that_is_no_number(name, value):
    with pytest.raises(ValueError, match="finite numbers are allowed"):
        SHAPES[name](value)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 137.5, 300])
def test_a_turned_box_is_the_rectangle_turned_around_its_centre(degrees):
    """Judged by the coordinates of pixels in the box's own axes."""
    bits = shapes.turned_box(12, 18, 52, 28, degrees)(H, W)
    angle = np.deg2rad(degrees)
    ys, xs = np.mgrid[:H, :W] + 0.5
    along = (xs - 32) * np.cos(angle) + (ys - 23) * np.sin(angle)
    across = (ys - 23) * np.cos(angle) - (xs - 32) * np.sin(angle)
    inside = (abs(along) <= 20) & (abs(across) <= 5)
    edge = (abs(abs(along) - 20) < 1) | (abs(abs(across) - 5) < 1)
    assert not ((bits != inside) & ~edge).any()


def test_labelmes_circle_and_turned_rectangle_are_drawn_as_its_exporter_draws(tmp_path):
    save_photos(tmp_path, 1)
    corners = [[40, 5], [50, 10], [45, 20], [35, 15]]
    rows = [
        {"label": "circle", "shape_type": "circle", "points": [[15, 25], [22, 29]]},
        {"label": "turned", "shape_type": "rotation", "points": corners},
    ]
    content = {"shapes": rows, "imagePath": "photo_0.png", "imageHeight": H, "imageWidth": W}
    (tmp_path / "a.json").write_text(json.dumps(content))
    drawn = [area.draw(H, W) for area in annotations_of(tmp_path).images[0].areas]
    radius = float(np.hypot(7, 4))
    by_pillow = [Image.new("L", (W, H)), Image.new("L", (W, H))]
    bounds = (15 - radius, 25 - radius, 15 + radius, 25 + radius)
    ImageDraw.Draw(by_pillow[0]).ellipse(bounds, outline=1, fill=1)
    points = [tuple(corner) for corner in corners]
    ImageDraw.Draw(by_pillow[1]).polygon(points, outline=1, fill=1)
    for bits, expected in zip(drawn, by_pillow, strict=True):
        np.testing.assert_array_equal(bits, np.array(expected) > 0)


TRIANGLE = [10.5, 8.2, 52.5, 11.7, 18.1, 40.3]


@pytest.mark.parametrize(
    ("area", "is_outline"), [("coco", False), ("outline", True), ("box", False), ("none", False)]
)
def test_stated_areas_choose_the_polygon_rule_only_where_one_made_them(tmp_path, area, is_outline):
    """Roboflow states the areas of boxes, which are nearer to the fatter polygons."""
    save_photos(tmp_path, 1)
    rules = {rule: shapes.polygons([TRIANGLE], rule)(H, W) for rule in ("coco", "outline")}
    assert rules["coco"].sum() < rules["outline"].sum()
    box = 42.0 * 32.1
    stated = {rule: int(bits.sum()) for rule, bits in rules.items()} | {"box": box, "none": 0}
    content = coco_of([[TRIANGLE]], area=stated[area], bbox=[10.5, 8.2, 42.0, 32.1])
    (tmp_path / "a.json").write_text(json.dumps(content))
    (bits,) = (area.draw(H, W) for area in annotations_of(tmp_path).images[0].areas)
    np.testing.assert_array_equal(bits, rules["outline" if is_outline else "coco"])


def test_a_flat_list_of_numbers_is_one_polygon(tmp_path):
    save_photos(tmp_path, 1)
    (tmp_path / "a.json").write_text(json.dumps(coco_of([GOOD])))
    (bits,) = (area.draw(H, W) for area in annotations_of(tmp_path).images[0].areas)
    expected = coco_mask.decode(coco_mask.frPyObjects([GOOD], H, W))[..., 0] == 1
    np.testing.assert_array_equal(bits, expected)


@pytest.mark.parametrize("runs", [[], [1], [2, 3], [7, -1], [0.5, 5.5]])
def test_runs_fill_a_mask_or_raise(runs):
    with pytest.raises(ValueError, match="run length"):
        fill_runs(runs, 2, 3)
