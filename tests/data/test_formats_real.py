"""Published sets: imports agree with the masks that other tools make of the same annotations."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from tests.data.imports import import_masks

Masks = dict[str, np.ndarray]

pytestmark = pytest.mark.data


def iou(masks: Masks, expected: Masks) -> dict[int, float]:
    """Value -> IoU over all masks."""
    assert sorted(masks) == sorted(expected)
    intersection, union = np.zeros(256), np.zeros(256)
    for name, mask in masks.items():
        for value in np.union1d(mask, expected[name]):
            ours, theirs = mask == value, expected[name] == value
            intersection[value] += (ours & theirs).sum()
            union[value] += (ours | theirs).sum()
    return {int(value): intersection[value] / union[value] for value in np.flatnonzero(union)}


def voc_masks(root: Path) -> Masks:
    folder = root / "SegmentationClass"
    return {path.stem: np.array(Image.open(path)) for path in folder.glob("*.png")}


def set_folder(data_root: Path, name: str) -> Path:
    if not (data_root / name).is_dir():
        pytest.skip(f"SEGTUNE_DATA holds no {name}")
    return data_root / name


@pytest.mark.parametrize("task", ["instance_segmentation", "semantic_segmentation"])
def test_labelmes_own_photos_as_voc_keep_every_pixel(data_root, tmp_path, task):
    voc = set_folder(data_root, "labelme_voc_coco") / task / "data_dataset_voc"
    assert set(iou(import_masks(voc, tmp_path / "voc"), voc_masks(voc)).values()) == {1.0}


def test_labelmes_polygons_and_coco_file_agree_with_its_voc_masks(data_root, tmp_path):
    """LabelMe draws both by Pillow's rule, and its COCO file states areas that show it."""
    root = set_folder(data_root, "labelme_voc_coco") / "instance_segmentation"
    expected = voc_masks(root / "data_dataset_voc")
    from_json = import_masks(root / "data_annotated", tmp_path / "json")
    # one pixel of 543,500 differs, between Pillow's versions
    assert min(iou(from_json, expected).values()) > 0.9998
    from_coco = import_masks(root / "data_dataset_coco", tmp_path / "coco")
    for name, mask in from_coco.items():
        mask[expected[name] == 255] = 255  # the COCO file leaves out the pixels to be ignored
    assert min(iou(from_coco, expected).values()) > 0.99


ALL_IMAGES = pytest.param(1, marks=(pytest.mark.slow, pytest.mark.ci), id="all images")


@pytest.mark.parametrize("step", [10, ALL_IMAGES])
def test_the_nuclei_become_one_class_and_no_pixel_is_lost(data_root, tmp_path, step):
    root = tmp_path / "nuclei"
    root.mkdir()
    for folder in sorted(set_folder(data_root, "dsb2018_nuclei").iterdir())[::step]:
        (root / folder.name).symlink_to(folder)
    masks = import_masks(root, tmp_path / "out", "dataset.classes=[background,nucleus]")
    expected = {}
    for folder in root.iterdir():
        objects = [np.array(Image.open(path)) > 0 for path in (folder / "masks").glob("*.png")]
        expected[folder.name] = np.any(objects, axis=0).astype(np.uint8)
    assert iou(masks, expected) == {0: 1.0, 1: 1.0}


@pytest.mark.slow
@pytest.mark.ci
def test_the_potholes_equal_cocos_own_decoder_and_are_near_pillows(data_root, tmp_path):
    root = set_folder(data_root, "pothole_yoloseg")
    masks, by_coco, by_pillow = import_masks(root, tmp_path / "out"), {}, {}
    for name, mask in masks.items():
        text = next(root.glob(f"labels/*/{name}.txt"))
        height, width = mask.shape
        canvas, bits = Image.new("L", (width, height)), np.zeros((height, width), bool)
        for line in text.read_text().splitlines():
            points = np.array(line.split()[1:], float).reshape(-1, 2) * [width, height]
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], fill=1)
            rle = coco_mask.frPyObjects([points.ravel().tolist()], height, width)
            bits |= coco_mask.decode(rle).any(2)
        by_coco[name], by_pillow[name] = bits.astype(np.uint8), np.array(canvas)
    assert iou(masks, by_coco) == {0: 1.0, 1: 1.0}
    assert min(iou(masks, by_pillow).values()) > 0.99
