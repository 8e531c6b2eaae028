"""Mask -> region -> mask in every format, read back by independent programs."""

import base64
import io
import json

import cv2
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from rasterio.crs import CRS
from shapely import MultiPolygon, Point
from shapely.geometry import shape

from segtune.classes import ClassTable
from segtune.inference.media.georeference import Georeference
from segtune.inference.regions.polygons import from_rings, to_mask, to_polygons, to_rings
from segtune.inference.regions.regions import Concept, Region, find_regions, paint
from segtune.inference.regions.writers import (
    clarifai_frame,
    clarifai_image,
    clarifai_video,
    to_coco,
    to_geojson,
    to_yolo,
)

CLASSES = ClassTable.parse(["road", "car", "sky"])
MASKS = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.sampled_from([0, 0, 0, 1, 2, 255]))
)
SMOOTH = np.random.default_rng(0)


def regions_of(mask: np.ndarray, split: str = "concept") -> list[Region]:
    return find_regions(mask, np.full(mask.shape, 0.5, np.float32), CLASSES, split, min_area=1)


def blob(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    noise = cv2.GaussianBlur(
        np.random.default_rng(seed).random((height, width)).astype(np.float32), (0, 0), 3
    )
    return noise > np.median(noise)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_json_gives_every_pixel_back(mask):
    for split in ("concept", "components"):
        rows = json.loads(json.dumps([r.to_json() for r in regions_of(mask, split)]))
        np.testing.assert_array_equal(paint(map(Region.from_json, rows), *mask.shape), mask)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_exact_polygons_give_every_pixel_and_every_hole_back(mask):
    for concept in set(np.unique(mask)) - {255}:
        area = mask == concept
        polygons = [from_rings(json.loads(json.dumps(to_rings(p)))) for p in to_polygons(area)]
        assert all(p.is_valid for p in polygons)
        assert sum(p.area for p in polygons) == area.sum()
        np.testing.assert_array_equal(to_mask(polygons, *mask.shape), area)


@pytest.mark.parametrize("seed", range(8))
def test_written_polygons_are_valid_keep_holes_and_stay_within_a_pixel_of_the_contour(seed):
    area = blob(seed)
    exact, written = (
        MultiPolygon(to_polygons(area)),
        MultiPolygon(regions_of(np.where(area, 1, 255).astype(np.uint8))[0].polygons),
    )
    assert all(p.is_valid for p in written.geoms)
    assert len(written.geoms) == len(exact.geoms)
    assert sum(len(p.interiors) for p in written.geoms) == sum(
        len(p.interiors) for p in exact.geoms
    )
    assert written.boundary.hausdorff_distance(exact.boundary) <= 1.0
    assert sum(len(p.exterior.coords) for p in written.geoms) < sum(
        len(p.exterior.coords) for p in exact.geoms
    )


def test_a_hole_is_outside():
    ring = np.ones((9, 9), np.uint8)
    ring[3:6, 3:6] = 255
    (polygon,) = regions_of(ring)[0].polygons
    assert (
        not polygon.contains(Point(4.5, 4.5))
        and polygon.contains(Point(1.5, 4.5))
        and polygon.area == 72
    )


def test_pycocotools_reads_coco_as_the_same_masks(tmp_path):
    masks = [np.where(blob(s), 1, np.where(blob(s + 9), 0, 255)).astype(np.uint8) for s in (1, 2)]
    rows = [
        {
            "file": f"{n}.png",
            "width": 80,
            "height": 60,
            "regions": [r.to_json() for r in regions_of(m)],
        }
        for n, m in enumerate(masks)
    ]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(to_coco(rows, CLASSES)))
    coco = COCO(str(path))
    for image_id, mask in zip(coco.getImgIds(), masks, strict=True):
        back = np.full(mask.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            area = coco.annToMask(annotation).astype(bool)
            back[area] = CLASSES.names.index(coco.loadCats(annotation["category_id"])[0]["name"])
            assert annotation["area"] == area.sum()
        np.testing.assert_array_equal(back, mask)


def test_geojson_lies_where_the_geotransform_puts_it():
    mask = np.full((10, 20), 255, np.uint8)
    mask[2:4, 5:9] = 1
    transform = Affine(0.5, 0, 1000.0, 0, -0.5, 2000.0)
    found = to_geojson(regions_of(mask), Georeference(transform, CRS.from_epsg(32633)))
    (feature,) = found["features"]
    assert shape(feature["geometry"]).bounds == (1002.5, 1998.0, 1004.5, 1999.0)
    assert feature["properties"]["concept"] == "car" and found["crs"]["properties"][
        "name"
    ].endswith("32633")
    plain = to_geojson(regions_of(mask))
    assert shape(plain["features"][0]["geometry"]).bounds == (5, 2, 9, 4) and "crs" not in plain


@pytest.mark.parametrize("seed", range(4))
def test_yolo_polygons_cover_the_region_less_a_pixel_of_its_outline(seed):
    area = blob(seed)
    height, width = area.shape
    text = to_yolo(regions_of(np.where(area, 2, 255).astype(np.uint8)))
    drawn = np.zeros((height * 8, width * 8), np.uint8)
    for line in text.splitlines():
        label, *values = line.split()
        assert label == "2"
        path = np.array(values, float).reshape(-1, 2) * (width * 8, height * 8)
        layer = np.zeros_like(drawn)
        cv2.fillPoly(layer, [np.rint(path).astype(np.int32)], 1)
        drawn |= layer
    back = drawn[4::8, 4::8].astype(bool)
    outline = cv2.dilate(area.astype(np.uint8), np.ones((3, 3))) != cv2.erode(
        area.astype(np.uint8), np.ones((3, 3))
    )
    assert not ((back != area) & ~outline).any()
    assert (back & area).sum() / (back | area).sum() > 0.95


def png_of(region: dict) -> np.ndarray:
    return np.array(
        Image.open(io.BytesIO(base64.b64decode(region["region_info"]["mask"]["image"]["base64"])))
    )


def test_the_shape_of_clarifais_api_gives_every_pixel_back():
    mask = np.where(blob(3), 1, np.where(blob(4), 2, 255)).astype(np.uint8)
    answer = json.loads(json.dumps(clarifai_image("x.png", regions_of(mask))))
    back = np.full(mask.shape, 255, np.uint8)
    for region in answer["outputs"][0]["data"]["regions"]:
        back[png_of(region) == 255] = CLASSES.names.index(region["data"]["concepts"][0]["name"])
        assert region["data"]["concepts"][0]["value"] == pytest.approx(0.5)
    np.testing.assert_array_equal(back, mask)


def test_frames_of_a_video_carry_time_in_milliseconds_and_number():
    mask = np.ones((4, 6), np.uint8)
    before, after = clarifai_video("v.mp4")
    frames = ", ".join(json.dumps(clarifai_frame(n, n / 25, regions_of(mask))) for n in (0, 1))
    data = json.loads(before + frames + after)["outputs"][0]["data"]
    assert [f["frame_info"]["time"] for f in data["frames"]] == [0, 40]
    assert [f["frame_info"]["number"] for f in data["frames"]] == [0, 1]
    assert (png_of(data["frames"][1]["data"]["regions"][0]) == 255).all()


def test_finer_concepts_and_tracks_go_through_json_and_are_named_in_every_form():
    (region,) = regions_of(np.ones((4, 6), np.uint8))
    finer = (Concept(2, "bus", 0.75), Concept(0, "sedan", 0.25))
    region = Region(
        **{
            **{k: getattr(region, k) for k in region.__dataclass_fields__},
            "finer": finer,
            "track": 7,
        }
    )
    assert Region.from_json(json.loads(json.dumps(region.to_json()))) == region
    assert region.label == "bus"
    row = {"file": "x", "width": 6, "height": 4, "regions": [region.to_json()]}
    assert to_coco([row], CLASSES)["annotations"][0]["attributes"] == {"finer": "bus"}
    assert to_geojson([region])["features"][0]["properties"]["label"] == "bus"
    answer = clarifai_image("x", [region])["outputs"][0]["data"]["regions"][0]
    assert [c["name"] for c in answer["data"]["concepts"]] == ["car", "bus", "sedan"] and answer[
        "track_id"
    ] == "7"


def test_decoding_by_pycocotools_alone_equals_our_mask():
    (region,) = regions_of(np.where(blob(5), 1, 255).astype(np.uint8))
    np.testing.assert_array_equal(
        coco_mask.decode(json.loads(json.dumps(region.to_json()))["rle"]), region.mask()
    )
