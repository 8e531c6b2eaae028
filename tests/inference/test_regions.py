"""Regions of a mask counted by hand; pycocotools is the independent reader."""

import numpy as np
import pytest
from pycocotools import mask as coco

from segtune.classes import ClassTable
from segtune.inference.regions.regions import find_regions
from segtune.inference.regions.runs import Runs, sums

CLASSES = ClassTable.parse(["road", "car", "sky"])
MASK = np.array([[0, 0, 1, 1], [0, 1, 1, 255], [1, 0, 0, 2]], np.uint8)
CONFIDENCE = np.linspace(0.1, 1.0, 12, dtype=np.float32).reshape(3, 4)


def test_a_region_holds_share_confidence_and_box_of_its_class():
    regions = {r.concept: r for r in find_regions(MASK, CONFIDENCE, CLASSES)}
    assert set(regions) == {"road", "car", "sky"}
    car = regions["car"]
    assert car.area_share == pytest.approx(5 / 12)
    assert car.mean_confidence == pytest.approx(CONFIDENCE[MASK == 1].mean(), abs=1e-6)
    assert car.box == (0, 0, 4, 3) and regions["sky"].box == (3, 2, 1, 1)


def test_mask_to_regions_to_mask_is_lossless():
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 3, (6, 8)), np.ones((5, 5))).astype(np.uint8)
    back = np.full(mask.shape, 255, np.uint8)
    for region in find_regions(mask, np.ones(mask.shape, np.float32), CLASSES):
        back[coco.decode(region.rle).astype(bool)] = region.concept_id
    np.testing.assert_array_equal(back, mask)


def test_components_are_connected_areas_above_the_least_size():
    mask = np.zeros((8, 12), np.uint8)
    mask[1:4, 1:4] = 1
    mask[5:7, 6:11] = 1
    mask[0, 11] = 1
    found = find_regions(mask, np.ones(mask.shape, np.float32), CLASSES, "components", 5)
    cars = [r for r in found if r.concept == "car"]
    assert [r.mask().sum() for r in cars] == [10, 9]


def test_regions_come_largest_first_and_ignored_pixels_belong_to_none():
    regions = find_regions(MASK, CONFIDENCE, CLASSES)
    areas = [r.area_share for r in regions]
    assert areas == sorted(areas, reverse=True) and sum(areas) == pytest.approx(11 / 12)


def test_another_split_is_refused():
    with pytest.raises(ValueError, match="'concept' and 'components'"):
        find_regions(MASK, CONFIDENCE, CLASSES, "instances")


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17), (64, 48)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_runs_are_those_of_pycocotools(size, dtype):
    rng = np.random.default_rng(size[0])
    numbers = rng.integers(0, 4, size).astype(dtype)
    values = rng.random(size, dtype=np.float32)
    runs, present = Runs.of(numbers), np.unique(numbers).tolist()
    for number, rle in zip(present, runs.encoded(present), strict=True):
        assert rle == coco.encode(np.asfortranarray((numbers == number).astype(np.uint8)))
        assert runs.pixels[number] == (numbers == number).sum()
        expected = values[numbers == number].sum(dtype=np.float64)
        assert sums(numbers, values, 4)[number] == pytest.approx(expected, rel=1e-12)
