"""Georeferences: masks and outlines of a map keep its position at every size."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import from_gcps
from shapely.geometry import shape

import segtune
from segtune.inference.options import Options
from segtune.inference.prediction import rasters
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.scale import Scale
from tests.inference.test_scale import colors, texture

HEIGHT, WIDTH = 60, 90
PLACE = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
PIXELS[:, :30, :] = np.resize([0, 255], 30)[None, :, None]  # class 0 on the left third
CORNERS = [(0, 0), (0, WIDTH), (HEIGHT, 0), (HEIGHT, WIDTH)]
POINTS = [GroundControlPoint(row, col, *(PLACE @ (col, row)), 0.0) for row, col in CORNERS]
BANDS = np.moveaxis(PIXELS, 2, 0)


def geotiff(folder: Path) -> Path:
    return colors(folder / "x.tif", BANDS, transform=PLACE, crs="EPSG:32633")


def sheared(folder: Path) -> Path:
    return colors(folder / "x.tif", BANDS, transform=PLACE @ Affine.rotation(30), crs="EPSG:32633")


def infrared(folder: Path) -> Path:
    return colors(
        folder / "x.tif",
        np.concatenate([BANDS, BANDS[:1]]),
        transform=PLACE,
        crs="EPSG:32633",
        alpha="NO",
    )


def control_points(folder: Path) -> Path:
    path = colors(folder / "x.tif", BANDS)
    with rasterio.open(path, "r+") as target:
        target.gcps = POINTS, rasterio.CRS.from_epsg(32633)
    return path


def world_file(folder: Path, suffix: str, beside: str) -> Path:
    path = folder / f"x.{suffix}"
    Image.fromarray(PIXELS).save(path)
    a, b, _, d, e, _ = tuple(PLACE)[:6]
    center = PLACE @ (0.5, 0.5)  # world files speak of the centre of the first pixel
    (folder / f"x.{beside}").write_text("\n".join(str(v) for v in (a, d, b, e, *center)))
    return path


WAYS = {
    "geotiff": geotiff,
    "turned map": sheared,
    "infrared": infrared,
    "control points": control_points,
    "tfw": lambda folder: world_file(folder, "tif", "tfw"),
    "pgw": lambda folder: world_file(folder, "png", "pgw"),
    "jgw": lambda folder: world_file(folder, "jpg", "jgw"),
}


@pytest.mark.parametrize("limit", [10**9, 1000], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_mask_and_outlines_have_the_georeference_of_the_image(tmp_path, monkeypatch, way, limit):
    monkeypatch.setattr(rasters, "MAX_WHOLE", limit)
    path = WAYS[way](tmp_path)
    predict(
        texture(),
        PredictionRequest(
            [str(path)],
            tmp_path / "out",
            options=Options(formats=("masks", "geojson"), runtime="eager"),
        ),
    )
    with rasterio.open(path) as image, rasterio.open(tmp_path / "out" / "masks" / "x.tif") as mask:
        ids = mask.read(1)
        assert mask.shape == image.shape and mask.crs == image.crs and mask.dtypes == ("uint8",)
        assert mask.transform.almost_equals(image.transform)
        found, expected = ([(p.row, p.col, p.x, p.y) for p in f.gcps[0]] for f in (mask, image))
        assert found == expected and mask.gcps[1] == image.gcps[1]
        onto_map = from_gcps(image.gcps[0]) if image.gcps[0] else image.transform
        named = bool(image.crs or image.gcps[1])
    document = json.loads((tmp_path / "out" / "geojson" / "x.geojson").read_text())
    assert ("crs" in document) == named
    columns = np.flatnonzero((ids == 0).any(0))
    corners = [onto_map @ (x, y) for x in (columns.min(), columns.max() + 1) for y in (0, HEIGHT)]
    areas = [
        shape(f["geometry"]) for f in document["features"] if f["properties"]["concept_id"] == 0
    ]
    bounds = np.array([a.bounds for a in areas])
    assert bounds[:, 0].min() == pytest.approx(min(x for x, _ in corners), abs=2.5)
    assert bounds[:, 3].max() == pytest.approx(max(y for _, y in corners), abs=2.5)
    assert 15 < len(columns) < 45


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_mask_of_a_rotated_image_lies_where_its_stored_pixels_lie(tmp_path, orientation):
    path = world_file(tmp_path, "tif", "tfw")
    Image.fromarray(PIXELS).save(path, tiffinfo={0x0112: orientation})
    predict(
        texture(),
        PredictionRequest(
            [str(path)], tmp_path / "out", options=Options(formats=("masks",), runtime="eager")
        ),
    )
    with rasterio.open(tmp_path / "out" / "masks" / "x.tif") as mask:
        assert sorted(mask.shape) == [HEIGHT, WIDTH]
        corners = {
            tuple(mask.transform @ (x, y)) for x in (0, mask.width) for y in (0, mask.height)
        }
        ids = mask.read(1)
        rows, columns = np.nonzero(ids == ids.min())
        seen = mask.transform @ (columns.mean() + 0.5, rows.mean() + 0.5)
    assert corners == {tuple(PLACE @ (x, y)) for x in (0, WIDTH) for y in (0, HEIGHT)}
    if orientation < 5:  # stripes run down as they did: the left third of the stored pixels
        assert seen == pytest.approx(PLACE @ (15, 30), abs=12)


def test_a_photo_without_a_georeference_has_a_png_mask(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.tif")
    predict(
        texture(),
        PredictionRequest(
            [str(tmp_path / "x.tif")], tmp_path / "out", options=Options(runtime="eager")
        ),
    )
    assert [p.name for p in (tmp_path / "out" / "masks").iterdir()] == ["x.png"]


def test_a_segmenter_trained_on_maps_of_one_resolution_keeps_its_metres(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, bands in (("images", 3), ("masks", 1)):
            (tmp_path / kind / split).mkdir(parents=True)
            for number in range(2):
                values = rng.integers(0, 256 if bands == 3 else 2, (bands, 96, 96), dtype=np.uint8)
                path = tmp_path / kind / split / f"{number}.tif"
                colors(path, values, transform=Affine(0.5, 0, 5e5, 0, -0.5, 4e6), crs="EPSG:32633")
    words = [
        "dataset=folder",
        f"dataset.root='{tmp_path}'",
        "dataset.classes=[a,b]",
        f"tracking.root='{tmp_path}'",
    ]
    words += [
        "template=swift",
        "hp.width=16",
        "hp.image_size=[48]",
        "hp.batch_size=2",
        "hp.num_epochs=1",
    ]
    run = segtune.train(*words, "trainer=debug", "augment=light", say=lambda _: None)
    assert segtune.load(run.segmenter).scale == Scale((48,), 1.0)
