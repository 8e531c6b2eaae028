"""The labeler on disk and at work: regions of its concept get finer concepts, others stay as they are."""

import json

import numpy as np
import pytest
import torch

from segtune.classes import ClassTable
from segtune.errors import DataError
from segtune.inference.labeler import RegionLabeler
from segtune.inference.models import open_model
from segtune.inference.regions import find_regions
from segtune.inference.segmenter import Segmenter
from segtune.models.labeler import build_labeler

MODEL = {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}
TEMPLATE = {"name": "mask_pool", "model": MODEL}
CLASSES = ClassTable.parse(["road", {"name": "car", "finer": ["sedan", "truck", "bus"]}])


def labeler() -> RegionLabeler:
    torch.manual_seed(0)
    made = RegionLabeler(build_labeler(MODEL, 3), "car", ClassTable.parse(["sedan", "truck", "bus"]), [64], 16, {})
    made.describe(TEMPLATE, {"name": "street"}, {"val/miou": 0.5})
    return made


def seen() -> tuple[np.ndarray, list]:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    mask[10:30, 10:40] = mask[35:55, 50:80] = 1
    return image, find_regions(mask, np.ones(mask.shape, np.float32), CLASSES, "components")


def test_regions_of_the_concept_get_their_finer_concepts_and_the_others_none():
    image, regions = seen()
    found = labeler().label(image, regions)
    assert [r.concept for r in found] == ["road", "car", "car"] and found[0] == regions[0]
    for region in found[1:]:
        chances = [c.confidence for c in region.finer]
        assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(1, abs=1e-5)
        assert region.label == region.finer[0].name and region.label in ("sedan", "truck", "bus")
        assert region.to_json()["finer"][0]["name"] == region.label
    assert found[1].finer != found[2].finer


def test_a_saved_labeler_answers_as_before_to_the_bit(tmp_path):
    made = labeler()
    made.save(tmp_path / "a labeler")
    image, regions = seen()
    again = open_model(tmp_path / "a labeler")
    assert isinstance(again, RegionLabeler) and again.concept == "car" and again.min_area == 16
    assert again.label(image, regions) == made.label(image, regions)


def test_each_kind_of_folder_opens_as_what_it_is(tmp_path, tiny_run):
    labeler().save(tmp_path / "labeler")
    assert isinstance(open_model(tiny_run.segmenter), Segmenter)
    with pytest.raises(DataError, match="is no segmenter but a labeler: use it in a workflow"):
        Segmenter.load(tmp_path / "labeler")
    with pytest.raises(DataError, match="is no labeler but a segmenter"):
        RegionLabeler.load(tiny_run.segmenter)


def test_a_changed_byte_is_refused(tmp_path):
    labeler().save(tmp_path / "labeler")
    path = tmp_path / "labeler" / "segmenter.json"
    path.write_text(path.read_text().replace("sedan", "sedam"))
    with pytest.raises(DataError, match="was changed after it was saved"):
        open_model(tmp_path / "labeler")


def test_an_unknown_kind_is_refused(tmp_path):
    made = labeler()
    made.info["kind"] = "detector"
    made.save(tmp_path / "odd")
    assert json.loads((tmp_path / "odd" / "segmenter.json").read_text())["kind"] == "detector"
    with pytest.raises(DataError, match="is a detector, which this segtune does not know"):
        open_model(tmp_path / "odd")


def test_regions_of_another_image_are_refused():
    _, regions = seen()
    with pytest.raises(DataError, match="belongs to an image of"):
        labeler().label(np.zeros((30, 30, 3), np.uint8), regions)
