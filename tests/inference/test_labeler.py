"""The labeler: regions of its concept get finer concepts, others stay unchanged."""

import json

import numpy as np
import pytest
import torch

import segtune
from segtune.classes import ClassTable
from segtune.errors import ConfigError, DataError
from segtune.inference.labeler import RegionLabeler, divided
from segtune.inference.loading import open_model
from segtune.inference.regions.regions import find_regions
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.models.labeler import Encoded, build_labeler

MODEL = {"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}
TEMPLATE = {"name": "mask_pool", "model": MODEL}
CLASSES = ClassTable.parse(["road", {"name": "car", "finer": ["sedan", "truck", "bus"]}])


def labeler() -> RegionLabeler:
    torch.manual_seed(0)
    made = RegionLabeler(
        build_labeler(MODEL, 3), "car", ClassTable.parse(["sedan", "truck", "bus"]), [64], 16, {}
    )
    made.describe(TEMPLATE, {"name": "street"}, {"val/miou": 0.5})
    return made


def seen() -> tuple[Segmentation, list]:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    mask[10:30, 10:40] = mask[35:55, 50:80] = 1
    found = Segmentation(image, mask, np.full(mask.shape, 0.8, np.float32), CLASSES)
    return found, find_regions(mask, found.confidence, CLASSES, "components")


def test_regions_of_the_concept_get_their_finer_concepts_and_the_others_none():
    image, regions = seen()
    found = labeler().label(image, regions)
    assert [r.concept for r in found] == ["road", "car", "car"] and found[0] == regions[0]
    for region in found[1:]:
        chances = [c.confidence for c in region.finer]
        assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(
            1, abs=1e-5
        )
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


def test_each_kind_of_folder_opens_as_its_class(tmp_path, tiny_run):
    labeler().save(tmp_path / "labeler")
    assert isinstance(open_model(tiny_run.segmenter), Segmenter)
    with pytest.raises(ConfigError, match="is a labeler, which runs in eager only"):
        segtune.load(tmp_path / "labeler", runtime="bf16")
    with pytest.raises(DataError, match="is a labeler, not a segmenter. Use it in a workflow"):
        Segmenter.load(tmp_path / "labeler")
    with pytest.raises(DataError, match="is a segmenter, not a labeler"):
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
    with pytest.raises(DataError, match="is a detector, which this version of segtune cannot open"):
        open_model(tmp_path / "odd")


def test_regions_of_another_image_are_refused():
    image, regions = seen()
    small = Segmentation(image.image[:30], image.mask[:30], image.confidence[:30], CLASSES)
    with pytest.raises(DataError, match="belongs to an image of"):
        labeler().label(small, regions)


def test_an_area_is_parted_along_its_seam_and_specks_go_to_their_neighbours():
    area = np.zeros((40, 60), bool)
    area[10:30, 10:50] = True
    ids = np.zeros(area.shape, np.uint8)
    ids[:, 30:] = 2
    ids[12:14, 12:14] = 1  # a speck
    ids[15, 49] = 0  # and another, at the far end
    left, right = divided(area, ids, 16)
    assert left.sum() == right.sum() == 20 * 20 and left[12, 12] and right[15, 49]
    assert np.array_equal(left | right, area) and not (left & right).any()
    assert [a.sum() for a in divided(area, np.zeros_like(ids), 16)] == [800]


class TwoKinds(RegionLabeler):
    """Labels red as sedan and blue as bus, by pixel and by region; a small region is a sedan."""

    def __init__(self) -> None:
        self.concept, self.min_area = "car", 16
        self.classes = ClassTable.parse(["sedan", "truck", "bus"])

    def encode(self, image):
        return image

    def class_maps(self, image, size):
        blue = (image[..., 2] > image[..., 0]).astype(np.float32)
        return np.stack([0.95 - 0.9 * blue, 0 * blue + 0.05, 0.05 + 0.9 * blue]) / 1.05

    def probabilities(self, image, numbers):
        parts = [image[numbers == n] for n in range(1, numbers.max() + 1)]
        blue = [float((p[:, 2] > p[:, 0]).mean()) if len(p) > 120 else -0.05 for p in parts]
        return np.array([[0.95 - 0.9 * b, 0.05, 0.05 + 0.9 * b] for b in blue], np.float32) / 1.05


def test_a_region_that_shows_two_cars_becomes_two_when_divided():
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 20:60] = 1
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, :40, 0] = image[:, 40:, 2] = 200
    image[22:32, 25:35] = (0, 0, 200)  # a blue window in the red car adds a seam, but no region
    found = Segmentation(image, mask, np.full(mask.shape, 0.8, np.float32), CLASSES)
    regions = find_regions(mask, found.confidence, CLASSES, "components")
    whole = TwoKinds().label(found, regions)
    assert [r.concept for r in whole] == ["road", "car"]
    parts = TwoKinds().label(found, regions, divide=True)
    assert [r.id for r in parts] == list(range(len(parts)))
    cars = {r.label: r for r in parts if r.concept == "car"}
    assert cars["bus"].area_share * mask.size == 20 * 20
    assert sum(r.area_share for r in parts if r.concept == "car") == pytest.approx(
        whole[1].area_share
    )
    assert sum(r.concept == "car" for r in parts) == 2
    assert cars["sedan"].mean_confidence == pytest.approx(0.8)


def test_many_regions_together_equal_one_by_one():
    made, rng = labeler(), np.random.default_rng(0)
    encoded = made.encode(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    numbers = (np.arange(15 * 9).reshape(15, 9) + 1).astype(np.int32).repeat(4, 0).repeat(10, 1)
    together = made.probabilities(encoded, numbers)
    assert together.shape == (135, 3)
    for n in (1, 64, 65, 135):
        alone = made.probabilities(encoded, (numbers == n).astype(np.int32))
        np.testing.assert_allclose(together[n - 1], alone[0], atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (61, 83), (35, 66)])
@pytest.mark.parametrize("enlarged", [1, 2])
def test_class_maps_are_aligned_with_the_image(size, enlarged):
    """The border is at x = 37.3. The cells reach beyond an image whose sides 4 does not divide."""
    made = labeler()
    with torch.no_grad():
        # two classes, so that the blur does not move the border
        made.model.places.bias.copy_(torch.tensor([0.0, 0.0, -50.0]))
        made.model.places.weight.copy_(torch.eye(3, 16)[:, :, None, None])
    features = torch.zeros(1, 16, 16, 24)
    features[0, 1] = 4 * (torch.arange(24) + 0.5) - 37.3
    encoded = Encoded(features, size[0] / 4, size[1] / 4)
    shown = made.class_maps(encoded, (enlarged * size[0], enlarged * size[1]))
    centres = (np.arange(enlarged * size[1]) + 0.5) / enlarged
    np.testing.assert_array_equal(
        shown[1] > shown[0], np.tile(centres > 37.3, (enlarged * size[0], 1))
    )
