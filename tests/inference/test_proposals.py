"""Proposals for labelling tools: order, scores, and masks that the tools read back."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import segtune
from segtune.classes import ClassTable
from segtune.config.compose import compose
from segtune.data.formats.label_studio import read
from segtune.errors import ConfigError
from segtune.inference.regions.proposals import (
    certainty,
    label_config,
    least_certain_first,
    to_label_studio,
)
from segtune.inference.regions.regions import find_regions

CLASSES = ClassTable.parse(["road", "car & van", "sky"])


def row_of(file, mask, confidence):
    """An image's row of regions.json."""
    confidences = np.full(mask.shape, confidence, np.float32)
    regions = find_regions(mask, confidences, CLASSES, "components", 1)
    return {
        "file": file,
        "width": mask.shape[1],
        "height": mask.shape[0],
        "regions": [region.to_json() for region in regions],
    }


def drawn_mask():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 20:60] = 1
    mask[20:30, 30:45] = 2  # in a hole of the car
    return mask


def test_images_come_in_the_order_of_their_mean_confidence():
    rows = [row_of(f"{c}.png", drawn_mask(), c) for c in (0.9, 0.4, 0.7)]
    assert [row["file"] for row in least_certain_first(rows)] == ["0.4.png", "0.7.png", "0.9.png"]
    assert [certainty(row) for row in rows] == pytest.approx([0.9, 0.4, 0.7])
    assert certainty({"regions": []}) == 0.0


def test_label_studio_reads_back_the_mask_once_the_proposals_are_accepted(tmp_path):
    mask = drawn_mask()
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    (task,) = to_label_studio([row_of("a.png", mask, 0.75)], "models:/m/1")
    (prediction,) = task["predictions"]
    assert prediction["score"] == pytest.approx(0.75)
    assert {result["score"] for result in prediction["result"]} == {0.75}
    accepted = {"id": 1, "data": task["data"], "annotations": [{"result": prediction["result"]}]}
    (tmp_path / "export.json").write_text(json.dumps([accepted]))
    words = ["dataset=label_studio", f"dataset.root='{tmp_path}'"]
    (image,) = read(tmp_path, compose(words).config.dataset).images
    assert image.image.name == "a.png" and len(image.areas) == 3
    for area in image.areas:
        expected = mask == CLASSES.names.index(area.concept)
        assert (area.draw(60, 80) != expected).mean() < 0.005  # outlines are within a pixel


def test_the_interface_of_a_project_names_every_class_in_valid_xml():
    root = ElementTree.fromstring(label_config(CLASSES))
    assert [label.get("value") for label in root.iter("Label")] == list(CLASSES.names)
    assert root.find("PolygonLabels").get("toName") == root.find("Image").get("name")


def test_autolabel_writes_both_files_and_resumes(tiny_run, tmp_path):
    images = tmp_path / "photos"
    images.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    call = {"model": tiny_run.segmenter, "source": images, "min_area": 4}
    done = segtune.autolabel(**call, output=tmp_path / "out", say=lambda _: None)
    confidences = list(done.images.values())
    assert len(confidences) == 3 and confidences == sorted(confidences)
    coco = COCO(tmp_path / "out" / "coco.json")
    assert [image["score"] for image in coco.dataset["images"]] == confidences
    assert all(0 <= a["score"] <= 1 for a in coco.dataset["annotations"])
    tasks = json.loads((tmp_path / "out" / "label_studio.json").read_text())
    assert [t["predictions"][0]["score"] for t in tasks] == confidences
    with pytest.raises(ConfigError, match=r"holds coco\.json.*overwrite=true"):
        segtune.autolabel(**call, output=tmp_path / "out", say=lambda _: None)
    (tmp_path / "out" / "coco.json").unlink()  # as if it had been stopped before it was written
    (tmp_path / "out" / "label_studio.json").unlink()
    with pytest.raises(ConfigError, match="holds regions of another model"):
        segtune.autolabel(**call | {"min_area": 5}, output=tmp_path / "out", say=lambda _: None)
    lines: list[str] = []
    again = segtune.autolabel(**call, output=tmp_path / "out", say=lines.append)
    assert again.images == done.images and not lines
