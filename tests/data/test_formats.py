"""Annotation formats: each imported pixel is what the annotations say, judged by other decoders."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from segtune.api.importing import import_dataset
from segtune.classes import ClassTable
from segtune.data.batches.cache import load_split
from segtune.inference.regions.regions import find_regions
from segtune.inference.regions.writers import to_coco, to_yolo
from tests.data.annotation_sets import (
    EXACT,
    NAMES,
    H,
    W,
    coco_content,
    photo,
    save_photos,
    truth,
    write_coco,
    write_coco_crowds,
    write_manifest,
    write_voc_colors,
)
from tests.data.imports import assert_equals_truth, import_masks, mask_of, open_dataset


@pytest.mark.parametrize("name", EXACT)
def test_every_pixel_survives_a_format_that_can_hold_it(tmp_path, name):
    """Holes, several parts and run lengths; the format is detected."""
    root = tmp_path / "a set"
    EXACT[name](root)
    assert_equals_truth(import_masks(root, tmp_path / "out"))
    assert import_dataset(root, tmp_path / "again").format == name


def test_uncompressed_run_lengths_of_crowds_are_read_too(tmp_path):
    write_coco_crowds(tmp_path / "set")
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))
    ignored = import_masks(tmp_path / "set", tmp_path / "two", "dataset.annotations.crowd=ignore")
    values = {int(v) for mask in ignored.values() for v in np.unique(mask)}
    assert values == {0, 255}


def test_voc_with_a_table_of_colours_is_read_by_colour(tmp_path):
    write_voc_colors(tmp_path / "set")
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))


def test_yolo_polygons_follow_cocos_rule_and_are_near_pillows(tmp_path):
    root = tmp_path / "yolo"
    corners = [(10.0, 8.0), (52.5, 11.0), (47.0, 40.25), (18.0, 36.0)]
    for split in ("train", "val"):
        for path in save_photos(root / "images" / split, 2):
            text = root / "labels" / split / f"{path.stem}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("1 " + " ".join(f"{x / W} {y / H}" for x, y in corners) + "\n")
    (root / "labels" / "val" / "photo_1.txt").unlink()  # an image without any object
    table = "path: /content/set\ntrain: images/train\nval: images/val\nnames: [tree, car]\n"
    (root / "data.yaml").write_text(table)
    result = import_dataset(root, tmp_path / "out")
    assert result.counts == {"train": 2, "val": 2}
    assert result.classes == ("background", "tree", "car")
    car = mask_of(tmp_path / "out") == 2
    flat = np.ravel(corners).tolist()
    by_coco = coco_mask.decode(coco_mask.frPyObjects([flat], H, W))[..., 0] == 1
    np.testing.assert_array_equal(car, by_coco)
    canvas = Image.new("L", (W, H))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    by_pillow = np.array(canvas) == 1
    # 1,150 px: a pixel along the outline is 7 %
    assert (car & by_pillow).sum() / (car | by_pillow).sum() > 0.93
    assert not mask_of(tmp_path / "out", "val/photo_1").any()


def test_label_studios_polygons_rectangles_and_ellipses_are_in_percent(tmp_path):
    root = tmp_path / "ls"
    path = save_photos(root, 1)[0]
    shapes = {
        "polygonlabels": {"points": [[0, 0], [50, 0], [50, 50], [0, 50]]},
        "rectanglelabels": {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 0},
        "ellipselabels": {"x": 25, "y": 75, "radiusX": 12.5, "radiusY": 12.5, "rotation": 0},
    }
    results = []
    for name, (kind, value) in zip("abc", shapes.items(), strict=True):
        size = {"original_width": W, "original_height": H}
        results.append({"id": kind, "type": kind, "value": {**value, kind: [name]}, **size})
    tasks = [{"data": {"image": path.name}, "annotations": [{"result": results}]}]
    (root / "e.json").write_text(json.dumps(tasks))
    import_dataset(root, tmp_path / "out")
    mask = mask_of(tmp_path / "out")
    assert [int((mask == i).sum()) for i in (1, 2)] == [H * W // 4, H * W // 16]
    assert abs(int((mask == 3).sum()) - np.pi * 8 * 6) < 10
    assert mask[H // 4, W // 4] == 1
    assert mask[H * 5 // 8, W * 5 // 8] == 2
    assert mask[H * 3 // 4, W // 4] == 3


def test_coco_that_predict_writes_comes_back_pixel_by_pixel(tmp_path):
    """A round trip through our own writer; every pixel has a class, so no background is added."""
    photos = save_photos(tmp_path / "set")
    classes, rows = ClassTable.parse(["sky", "road", "car"]), []
    for i, path in enumerate(photos):
        regions = find_regions(truth(i), np.ones((H, W), np.float32), classes)
        regions_json = [region.to_json() for region in regions]
        rows.append({"file": path.name, "width": W, "height": H, "regions": regions_json})
    (tmp_path / "set" / "coco.json").write_text(json.dumps(to_coco(rows, classes)))
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))
    assert open_dataset(tmp_path / "out").classes.names == ("sky", "road", "car")


def test_yolo_that_predict_writes_comes_back_within_a_pixel_of_the_outline(tmp_path):
    """YOLO's text has no holes and no parts, so the regions have none."""
    root, classes = tmp_path / "set", ClassTable.parse(NAMES)
    mask = np.zeros((H, W), np.uint8)
    mask[5:25, 5:35], mask[28:44, 20:60] = 1, 2
    path = save_photos(root / "images" / "train", 1)[0]
    (root / "labels" / "train").mkdir(parents=True)
    regions = find_regions(mask, np.ones((H, W), np.float32), classes, "components")
    objects = [region for region in regions if region.concept_id]
    (root / "labels" / "train" / f"{path.stem}.txt").write_text(to_yolo(objects))
    (root / "data.yaml").write_text("train: images/train\nnames: [background, car, tree]\n")
    wrong = import_masks(root, tmp_path / "out")[path.stem] != mask
    square = np.ones((3, 3), np.uint8)
    outlines = cv2.dilate(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, square), square) > 0
    assert not (wrong & ~outlines).any()
    assert wrong.mean() < 0.03


def square_corners(low: int, high: int) -> list[int]:
    return [low, low, high, low, high, high, low, high]


@pytest.mark.parametrize(
    ("order", "on_top"), [("auto", 1), ("largest_first", 1), ("file", 2), ("file_reversed", 1)]
)
def test_overlapping_objects_are_painted_in_the_order_asked_for(tmp_path, order, on_top):
    """A large square over a small one, the small one first in the file."""
    save_photos(tmp_path / "set", 1)
    small, large = [square_corners(10, 20)], [square_corners(5, 40)]
    content = {
        "images": [{"id": 0, "file_name": "photo_0.png", "height": H, "width": W}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "segmentation": small},
            {"id": 2, "image_id": 0, "category_id": 2, "segmentation": large},
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}],
    }
    (tmp_path / "set" / "a.json").write_text(json.dumps(content))
    import_dataset(tmp_path / "set", tmp_path / "out", f"dataset.annotations.order={order}")
    mask = mask_of(tmp_path / "out")
    assert mask[15, 15] == on_top
    assert mask[30, 30] == 2
    assert mask[45, 60] == 0


def test_cvats_z_order_is_kept(tmp_path):
    root = tmp_path / "cvat"
    save_photos(root, 1)
    shapes = '<box label="car" xtl="5" ytl="5" xbr="40" ybr="40" z_order="3"/>'
    shapes += '<box label="tree" xtl="10" ytl="10" xbr="20" ybr="20" z_order="1"/>'
    image = f'<image id="0" name="photo_0.png" width="{W}" height="{H}">{shapes}</image>'
    (root / "a.xml").write_text(f"<annotations>{image}</annotations>")
    import_dataset(root, tmp_path / "out")
    mask = mask_of(tmp_path / "out")
    assert mask[15, 15] == 1
    assert not (mask == 2).any()


def test_finer_labels_come_from_instance_attributes(tmp_path):
    content = coco_content(tmp_path / "set")
    for row in content["annotations"]:
        if row["category_id"] == 7:
            kind = "bus" if row["image_id"] % 2 else "sedan"
            row["attributes"] = {"type": kind, "occluded": False}
    (tmp_path / "set" / "a.json").write_text(json.dumps(content))
    import_dataset(tmp_path / "set", tmp_path / "out")
    classes = open_dataset(tmp_path / "out").classes.classes
    assert [c.finer for c in classes] == [(), ("bus", "sedan"), ()]
    for path in (tmp_path / "out" / "finer").rglob("*.png"):
        finer, seed = np.array(Image.open(path)), int(path.stem[-1])
        np.testing.assert_array_equal(finer != 255, truth(seed) == 1)
        assert set(np.unique(finer)) == {0 if seed % 2 else 1, 255}


def test_annotations_of_the_stored_pixels_are_turned_with_the_image(tmp_path):
    """A phone's photo: 64 x 48 as stored, shown as 48 x 64, and annotated as stored."""
    write_coco(tmp_path / "set")
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        Image.fromarray(photo(i)).save(tmp_path / "set" / f"photo_{i}.png", exif=exif)
    for name, mask in import_masks(tmp_path / "set", tmp_path / "out").items():
        np.testing.assert_array_equal(mask, np.rot90(truth(int(name[-1])), -1))


def test_colour_and_bright_masks_are_imported_as_ids(tmp_path):
    root = tmp_path / "set"
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir(parents=True)
    Image.fromarray(photo(0)).save(root / "images" / "train" / "a.png")
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
    Image.fromarray(colors[truth(0)]).save(root / "masks" / "train" / "a.webp", lossless=True)
    rows = [
        f"{{name: {name}, color: {color}}}"
        for name, color in zip(NAMES, colors.tolist(), strict=True)
    ]
    classes = f"dataset.classes=[{', '.join(rows)}]"
    import_dataset(root, tmp_path / "out", classes, "dataset.mask_format=rgb")
    np.testing.assert_array_equal(mask_of(tmp_path / "out", "train/a"), truth(0))
    bright = (truth(0) > 0).astype(np.uint8) * 255
    Image.fromarray(bright).save(root / "masks" / "train" / "a.gif")
    (root / "masks" / "train" / "a.webp").unlink()
    import_dataset(root, tmp_path / "two", "dataset.classes=[no,yes]", "dataset.mask_format=binary")
    np.testing.assert_array_equal(mask_of(tmp_path / "two", "train/a"), bright > 0)


def test_groups_of_a_manifest_become_groups_of_the_dataset(tmp_path):
    write_manifest(tmp_path / "set")
    import_dataset(tmp_path / "set", tmp_path / "out")
    source = open_dataset(tmp_path / "out")
    groups = {source.group(pair.name) for pair in source.pairs("train")}
    assert groups == {"drive0", "drive1"}


def test_images_of_one_group_without_a_split_all_become_train(tmp_path):
    write_manifest(tmp_path / "set")
    table = tmp_path / "set" / "pairs.csv"
    rows = [line.split(",")[:2] for line in table.read_text().splitlines()[1:]]
    lines = ["image,mask,group", *(",".join([*row, "drive"]) for row in rows)]
    table.write_text("\n".join(lines) + "\n")
    assert import_dataset(tmp_path / "set", tmp_path / "out").counts == {"train": 4}


def test_a_dataset_is_used_straight_from_its_annotations(tmp_path):
    """`dataset=coco dataset.root=DIR` converts once, and again when the annotations change."""
    root = tmp_path / "set"
    write_coco(root)
    lines: list[str] = []
    first = open_dataset(root, "coco", lines.append)
    assert open_dataset(root, "coco", lines.append).root == first.root
    assert len([line for line in lines if "converting" in line]) == 1
    assert len(load_split(first, "train", [H])) == 3
    content = json.loads((root / "annotations.json").read_text())
    content["annotations"].pop()
    (root / "annotations.json").write_text(json.dumps(content))
    assert open_dataset(root, "coco").root != first.root
