"""TIFFs larger than memory: the masks and regions that they have in memory."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from pycocotools import mask as coco_mask
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from rasterio.windows import Window
from shapely.geometry import shape

from segtune.inference.media.georeference import read_georeference
from segtune.inference.options import Options
from segtune.inference.prediction import rasters
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.regions.regions import find_regions
from segtune.inference.tiling import Tiling
from tests.inference.test_tiling import CLASSES, segmenter  # noqa: F401  # the fixture

RNG = np.random.default_rng(0)


def tiff(path: Path, image: np.ndarray, **extra: object) -> Path:
    height, width, bands = image.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": bands,
        "dtype": image.dtype,
        **extra,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as target:
            target.write(np.moveaxis(image, 2, 0))
    return path


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(rasters, "MAX_WHOLE", 10_000)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_windows_of_a_file_give_the_same_as_the_image_in_memory(
    segmenter,  # noqa: F811
    small_limit,
    tmp_path,
    dtype,
):
    scale = 257 if dtype == "uint16" else 1
    image = cv2.resize(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8), (700, 600))
    place = from_origin(500_000, 4_000_000, 0.5, 0.5)
    path = tiff(
        tmp_path / "a b.tif", image.astype(dtype) * scale, transform=place, crs="EPSG:32633"
    )
    assert rasters.large_size(path) == (600, 700)
    lies = read_georeference(path)
    mask_file = tmp_path / "out" / "mask.tif"
    size, regions, large = rasters.segment_large(
        segmenter, path, mask_file, Options(tile=128, overlap=0.25), lies
    )
    whole = segmenter.segment(image, tiling=Tiling(128, 0.25))
    with rasterio.open(tmp_path / "out" / "mask.tif") as mask:
        np.testing.assert_array_equal(mask.read(1), whole.mask)
        assert mask.transform == place and mask.crs.to_epsg() == 32633
    expected = find_regions(whole.mask, whole.confidence, CLASSES)
    assert [(r.concept, r.rle["counts"], r.box) for r in regions] == [
        (r.concept, r.rle["counts"], r.box) for r in expected
    ]
    for found, same in zip(regions, expected, strict=True):
        assert found.mean_confidence == pytest.approx(same.mean_confidence, abs=1e-5)
        assert found.area_share == pytest.approx(same.area_share)
    assert size == (600, 700) and large.overview.shape == (600, 700, 3)
    assert lies.transform == place and lies.crs == "urn:ogc:def:crs:EPSG::32633"
    shapes = list(rasters.geojson_of(mask_file, CLASSES, lies))
    left, bottom, right, top = np.array([shape(f["geometry"]).bounds for f in shapes]).T
    assert (left.min(), bottom.min()) == (500_000, 4_000_000 - 300)
    assert (right.max(), top.max()) == (500_350, 4_000_000)
    assert sum(shape(f["geometry"]).area for f in shapes) == pytest.approx(600 * 700 * 0.25)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    "formats", [("geojson",), ("overlays", "coco"), ("masks", "geojson")], ids="+".join
)
def test_only_files_that_stay_are_recorded(segmenter, small_limit, tmp_path, formats):  # noqa: F811
    image = cv2.resize(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8), (150, 100))
    path, out = tiff(tmp_path / "a.tif", image), tmp_path / "out"
    options = Options(tile=64, formats=formats, runtime="eager")
    predict(segmenter, PredictionRequest([str(path)], out, options=options))
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert set(json.loads((out / "regions.json").read_text())["files"]) == files
    assert ("masks/a.tif" in files) == ("masks" in formats) == (out / "masks").is_dir()
    if "masks" not in formats:  # so that a file of the user's there survives the next call
        (out / "masks").mkdir()
        (out / "masks" / "a.tif").write_text("the user's")
        predict(segmenter, PredictionRequest([str(path)], out, options=options, overwrite=True))
        assert (out / "masks" / "a.tif").read_text() == "the user's"


def test_run_lengths_of_strips_equal_pycocotools_on_the_whole_mask():
    for width in (1, 5, 64):
        mask = cv2.resize(
            RNG.integers(0, 3, (9, 11), dtype=np.uint8), (133, 70), interpolation=cv2.INTER_NEAREST
        )
        strips = (mask[:, x : x + width] for x in range(0, mask.shape[1], width))
        values, lengths = rasters.run_lengths(strips)
        for concept in range(3):
            expected = coco_mask.encode(np.asfortranarray(mask == concept, np.uint8))[
                "counts"
            ].decode()
            assert rasters.to_rle(values, lengths, concept, mask.shape)["counts"] == expected


def test_small_broken_and_other_files_are_not_read_in_windows(small_limit, tmp_path):
    assert rasters.large_size(tiff(tmp_path / "small.tif", np.zeros((20, 30, 3), np.uint8))) is None
    for name in ("broken.tif", "x.png"):
        (tmp_path / name).write_bytes(b"II*\0 nothing")
        assert (
            rasters.large_size(tmp_path / name) is None
            and read_georeference(tmp_path / name) is None
        )
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert rasters.large_size(tmp_path / "cmyk.tif") is None
    floats = tiff(tmp_path / "float.tif", np.zeros((200, 300, 1), np.float32))
    assert rasters.large_size(floats) == (200, 300) and read_georeference(floats) is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_image_of_400_megapixels_takes_under_two_gigabytes(tmp_path):
    path, side = tmp_path / "large.tif", 20_000
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8"}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    profile["transform"] = from_origin(500_000, 5_000_000, 0.5, 0.5)
    with rasterio.open(path, "w", **profile) as target:
        for top in range(0, side, 2000):
            coarse = RNG.integers(0, 256, (20, 200, 3), dtype=np.uint8)
            band = cv2.resize(coarse, (side, 2000), interpolation=cv2.INTER_NEAREST)
            target.write(np.moveaxis(band, 2, 0), window=Window(0, top, side, 2000))
    code = f"""
import json, re
from pathlib import Path
from segtune.inference.prediction.rasters import segment_large
from segtune.inference.segmenter import Segmenter
from segtune.inference.options import Options
from segtune.models.preprocessing import Preprocessing
from segtune.models.segmentation_model import SegmentationModel
from tests.inference.test_tiling import CLASSES, Equivariant
model = SegmentationModel(Equivariant(), Preprocessing(multiple=4))
segmenter = Segmenter(model, CLASSES, [360], {{}})
path, mask = Path({str(path)!r}), Path({str(tmp_path / "mask.tif")!r})
size, regions, _ = segment_large(segmenter, path, mask, Options(tile=512))
# not ru_maxrss: that of a process just started is its parent's
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps([size, sum(r.area_share for r in regions), peak]))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    size, covered, peak = json.loads(done.stdout.splitlines()[-1])
    assert size == [side, side] and covered == pytest.approx(1.0)
    assert peak < 2e9
