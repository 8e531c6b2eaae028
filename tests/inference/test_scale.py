"""Scale: the same content has the same classes at every size, type, band order and tiling."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.enums import ColorInterp as Is
from rasterio.transform import from_origin
from torch import nn

from segtune.data.reading.images import resize_image
from segtune.data.reading.values import Reading
from segtune.errors import DataError
from segtune.inference import segmenter
from segtune.inference.media.georeference import read_georeference
from segtune.inference.media.pixel_size import common_metres
from segtune.inference.options import Options
from segtune.inference.prediction import rasters
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.scale import Scale, resized
from segtune.inference.segmenter import Segmenter
from segtune.inference.tiling import Tiling, windows_of
from segtune.models.preprocessing import Preprocessing
from segtune.models.segmentation_model import SegmentationModel
from tests.inference.test_tiling import CLASSES, Equivariant

SIDE = 96


class Texture(nn.Module):
    """Class 0 where brightness changes fast from pixel to pixel, class 1 where it does not."""

    def forward(self, x):
        grey = nn.functional.pad(x.mean(1, keepdim=True), (1, 0, 0, 0), mode="replicate")
        change = nn.functional.avg_pool2d(grey.diff(dim=3).abs(), 9, 1, 4, count_include_pad=False)
        return torch.cat([change - 0.6, 0.6 - change, torch.full_like(change, -9)], 1)


def texture() -> Segmenter:
    return Segmenter(
        SegmentationModel(Texture(), Preprocessing(multiple=1)), CLASSES, [SIDE], {}, "cpu"
    )


def photo(height: int) -> tuple[np.ndarray, np.ndarray]:
    """Fine stripes on the left, broad ones on the right: 6 and 48 pixels at the trained scale."""
    width = height * 3 // 2
    place = (np.arange(width) + 0.5) * SIDE / height
    period = np.where(np.arange(width) < width // 2, 6, 48)
    line = np.rint(127.5 + 120 * np.sin(2 * np.pi * place / period)).astype(np.uint8)
    truth = (np.arange(width) >= width // 2).astype(np.uint8)
    return np.broadcast_to(line[None, :, None], (height, width, 3)), np.broadcast_to(
        truth, (height, width)
    )


@pytest.fixture
def small_limits(monkeypatch):
    """Files of more than a tenth of a megapixel count as large."""
    monkeypatch.setattr(rasters, "MAX_WHOLE", 100_000)


@pytest.mark.parametrize("height", [96, 200, 450, 1441])
def test_a_photo_of_any_size_is_seen_at_the_trained_scale(small_limits, tmp_path, height):
    image, truth = photo(height)
    Image.fromarray(image).save(tmp_path / "x.png")
    found = texture().segment(tmp_path / "x.png").mask
    assert np.mean(found == truth) > 0.96
    Image.fromarray(image).save(tmp_path / "x.tif")
    if height > 300:
        assert rasters.large_size(tmp_path / "x.tif") == image.shape[:2]
        rasters.segment_large(texture(), tmp_path / "x.tif", tmp_path / "mask.tif", Options())
        with rasterio.open(tmp_path / "mask.tif") as mask:
            np.testing.assert_array_equal(mask.read(1), found)
    if height > 1000:  # as it was done above 32 megapixels
        assert np.mean(texture().segment(image, tiling=Tiling()).mask == truth) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", pytest.param("tif", marks=pytest.mark.ci)])
def test_a_photo_of_60_megapixels_takes_under_two_gigabytes(tmp_path, suffix):
    code = """
import json, re, sys
from pathlib import Path
import numpy as np
from segtune.inference.options import Options
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.data.reading.images import read_image
from tests.inference.test_scale import texture
options = Options(runtime="eager")
predict(texture(), PredictionRequest([sys.argv[1]], Path(sys.argv[2]), options=options))
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
mask = next((Path(sys.argv[2]) / "masks").iterdir())
found = read_image(mask)[..., 0]
truth = np.arange(found.shape[1]) >= found.shape[1] // 2
print(json.dumps([float(np.mean(found == truth)), peak]))
"""
    accuracy = []
    for height in (450, 6330):
        image, _ = photo(height)
        path = tmp_path / f"{height}.{suffix}"
        Image.fromarray(image).save(
            path, **({"quality": 95} if suffix == "jpg" else {"compression": "tiff_lzw"})
        )
        words = [sys.executable, "-c", code, str(path), str(tmp_path / f"out{height}")]
        done = subprocess.run(
            words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
        )
        share, peak = json.loads(done.stdout.splitlines()[-1])
        accuracy.append(share)
        assert peak < 2e9
    assert abs(accuracy[0] - accuracy[1]) < 0.02 and min(accuracy) > 0.96


SIZES = [
    ((600, 700), (64, 75)),
    ((600, 800), (150, 200)),
    ((123, 457), (64, 238)),
    ((300, 500), (299, 499)),
    ((901, 77), (96, 9)),
    ((640, 960), (320, 480)),
]


@pytest.mark.parametrize(("size", "target"), SIZES)
@pytest.mark.parametrize("strip", [2**22, 3000])
def test_windows_equal_the_resized_whole_image_bit_for_bit(monkeypatch, size, target, strip):
    monkeypatch.setattr("segtune.inference.scale._STRIP", strip)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole, read = resize_image(image, *target), resized(windows_of(image), size, target)
    np.testing.assert_array_equal(read(0, 0, *target), whole)
    top, left, bottom, right = (
        target[0] // 3,
        target[1] // 4,
        target[0] * 3 // 4 + 1,
        target[1] * 2 // 3 + 1,
    )
    np.testing.assert_array_equal(read(top, left, bottom, right), whole[top:bottom, left:right])


@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((100, 1000), (150, 300)),
        ((1000, 100), (300, 150)),
        ((60, 50), (40, 70)),
        ((50, 60), (90, 40)),
    ],
)
def test_windows_equal_the_whole_image_where_one_side_grows_and_the_other_shrinks(size, target):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole, read = resize_image(image, *target), resized(windows_of(image), size, target)
    assert np.abs(read(0, 0, *target).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("target", [(150, 230), (64, 400)])
def test_windows_of_an_enlarged_image_differ_by_one_level_at_most(target):
    image = np.random.default_rng(0).integers(0, 256, (64, 99, 3), dtype=np.uint8)
    whole, read = resize_image(image, *target), resized(windows_of(image), (64, 99), target)
    assert np.abs(read(20, 30, 60, 99).astype(int) - whole[20:60, 30:99]).max() <= 1


def equivariant(image_size: tuple[int, ...] = (64,), metres: float | None = None) -> Segmenter:
    torch.manual_seed(0)
    model = SegmentationModel(Equivariant(), Preprocessing(multiple=4))
    return Segmenter(model, CLASSES, image_size, {"dataset": {"metres": metres}}, "cpu")


@pytest.mark.parametrize("buffer", [1, 10**9])
@pytest.mark.parametrize("size", [(700, 900), (1500, 1201), (450, 1600), (200, 300)])
def test_tiles_at_the_trained_scale_equal_the_whole_image(monkeypatch, size, buffer):
    image = cv2.resize(
        np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8), size[::-1]
    )
    seen = equivariant((400,))
    whole = seen.segment(image)
    monkeypatch.setattr(segmenter, "MAX_INPUT_PIXELS", 1000)
    monkeypatch.setattr("segtune.inference.tiling._BUFFER", buffer)
    monkeypatch.setattr(Tiling, "tile", 96)
    seen.image_size = [96]  # the side of the tiles, not the scale
    tiled = seen.segment(image)
    grows = size[0] < 400  # OpenCV enlarges bytes to within a level
    np.testing.assert_allclose(tiled.confidence, whole.confidence, atol=0.02 if grows else 1e-3)
    assert np.mean(tiled.mask == whole.mask) > (0.995 if grows else 0.9999)


def colors(path: Path, bands: np.ndarray, **options) -> Path:
    shows = options.pop("shows", None)
    count, height, width = bands.shape
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": count,
        "dtype": bands.dtype,
    }
    with rasterio.open(path, "w", **profile | options) as target:
        target.write(bands)
        if shows:
            target.colorinterp = shows
    return path


def test_small_and_large_files_of_every_type_and_band_order_give_equal_masks(
    small_limits, tmp_path, monkeypatch
):
    seen = equivariant()
    image = cv2.resize(
        np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8), (501, 333)
    )
    expected = seen.segment(image).mask
    bands, infrared = (
        np.moveaxis(image, 2, 0),
        np.random.default_rng(3).integers(0, 256, (1, 333, 501), dtype=np.uint8),
    )
    turned = tmp_path / "turned.tif"
    Image.fromarray(np.rot90(image)).save(
        turned, tiffinfo={0x0112: 6}
    )  # to be turned by 90 degrees, clockwise
    files = [
        turned,
        colors(tmp_path / "plain.tif", bands),
        colors(tmp_path / "bgr.tif", bands[::-1], shows=(Is.blue, Is.green, Is.red)),
        colors(
            tmp_path / "nir.tif", np.concatenate([bands, infrared]), photometric="RGB", alpha="NO"
        ),
        colors(tmp_path / "deep.tif", np.concatenate([bands, infrared]).astype(np.uint16) * 257),
        colors(tmp_path / "unit.tif", bands.astype(np.float32) / 255),
        colors(
            tmp_path / "planes.tif",
            bands,
            interleave="band",
            tiled=True,
            blockxsize=64,
            blockysize=64,
        ),
    ]
    for file in files:
        assert rasters.large_size(file) == (333, 501)
        rasters.segment_large(seen, file, tmp_path / "mask", Options())
        with rasterio.open(tmp_path / "mask") as mask:
            np.testing.assert_array_equal(mask.read(1), expected, err_msg=file.name)
        np.testing.assert_array_equal(seen.segment(file).mask, expected, err_msg=file.name)
    for values in (image.astype(np.uint16) * 257, image / np.float32(255), image / 255):
        np.testing.assert_array_equal(seen.segment(values).mask, expected)


def test_a_mirrored_photo_gives_the_mirrored_mask():
    image, _ = photo(500)
    seen = texture()
    seen.model.net = Mirrored()
    mirrored = seen.segment(np.ascontiguousarray(image[:, ::-1])).mask[:, ::-1]
    assert np.mean(mirrored == seen.segment(image).mask) > 0.999


class Mirrored(Texture):
    """Looks to the right as much as to the left."""

    def forward(self, x):
        return (super().forward(x) + super().forward(x.flip(-1)).flip(-1)) / 2


def test_a_map_is_seen_at_the_metres_of_the_training_images(small_limits, tmp_path):
    ground = cv2.resize(
        np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8), (800, 600)
    )
    seen = equivariant((64,), metres=2.0)
    masks = {}
    for metres, size in ((0.5, (600, 800)), (1.0, (300, 400)), (2.0, (150, 200))):
        bands = np.moveaxis(resize_image(ground, *size), 2, 0)
        place = {"transform": from_origin(500_000, 4_000_000, metres, metres), "crs": "EPSG:32633"}
        path = colors(tmp_path / f"{metres}.tif", bands, **place)
        rasters.segment_large(seen, path, tmp_path / "mask.tif", Options(), read_georeference(path))
        with rasterio.open(tmp_path / "mask.tif") as mask:
            masks[metres] = mask.read(1)
        np.testing.assert_array_equal(seen.segment(path).mask, masks[metres])
        crop = colors(tmp_path / "crop.tif", bands[:, : size[0] // 2], **place)
        rows = size[0] // 2 - size[0] // 10  # away from the edge, which is seen as such
        assert np.mean(seen.segment(crop).mask[:rows] == masks[metres][:rows]) > 0.99
    coarse = masks[2.0]
    for metres, step in ((0.5, 4), (1.0, 2)):
        assert np.mean(masks[metres][step // 2 :: step, step // 2 :: step] == coarse) > 0.9
    assert equivariant((64,)).scale == Scale((64,)) and seen.scale.input_size((600, 800), 0.5) == (
        150,
        200,
    )


def on_map(path: Path, metres: float, side: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    place = {"transform": from_origin(500_000, 4_000_000, metres, metres), "crs": "EPSG:32633"}
    return colors(path, np.zeros((3, side, side), np.uint8), **place)


def test_a_map_far_coarser_than_the_training_images_needs_tiles(tmp_path):
    coarse, fine = (
        on_map(tmp_path / "in" / "a.tif", 10.0, 40),
        on_map(tmp_path / "in" / "b.tif", 0.4, 40),
    )
    seen = equivariant((64,), metres=0.1)
    with pytest.raises(
        DataError, match=r"10 m wide.*pixels of 0.1 m.*enlarged 100 times.*at most 4"
    ):
        seen.segment(coarse)
    assert seen.segment(coarse, tiling=Tiling(64)).mask.shape == (40, 40)
    result = predict(
        seen,
        PredictionRequest(
            [str(tmp_path / "in")], tmp_path / "out", options=Options(runtime="eager")
        ),
    )
    assert list(result.failed) == [str(coarse)] and result.images == 1 and fine.is_file()
    assert str(coarse) in result.failed[str(coarse)]


@pytest.mark.parametrize(("side", "warns"), [(100, False), (300, True)])
def test_a_strongly_shrunk_map_is_reported(tmp_path, side, warns):
    messages: list[str] = []
    for name in ("a.tif", "b.tif"):
        on_map(tmp_path / "in" / name, 0.5, side)
    predict(
        equivariant((64,)),
        PredictionRequest(
            [str(tmp_path / "in")], tmp_path / "out", options=Options(runtime="eager")
        ),
        say=messages.append,
    )
    assert sum("shrunk to 64 x 64" in line for line in messages) == warns


@pytest.mark.parametrize(("pages", "stated", "warnings"), [(1, None, 0), (5, None, 1), (5, 1, 0)])
def test_pages_that_are_not_segmented_are_reported_once(tmp_path, pages, stated, warnings):
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        page = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
        more = [page] * (pages - 1)
        page.save(tmp_path / "in" / name, save_all=True, append_images=more)
    model, messages = equivariant((64,)), []
    model.reading = Reading(page=stated)
    request = PredictionRequest(
        [str(tmp_path / "in")], tmp_path / "out", options=Options(runtime="eager")
    )
    predict(model, request, say=messages.append)
    assert sum("first of its 5 pages" in line for line in messages) == warnings


def test_only_training_images_of_one_resolution_have_common_metres(tmp_path):
    def tile(name: str, metres: float, side: int = 64, crs: str = "EPSG:32633") -> Path:
        place = {"transform": from_origin(13, 47, metres, metres), "crs": crs}
        return colors(tmp_path / name, np.zeros((3, side, side), np.uint8), **place)

    alike = [tile(f"{n}.tif", 0.3) for n in range(3)]
    assert common_metres(alike, [32]) == pytest.approx(0.6)
    assert common_metres(
        [*alike, tile("feet.tif", 0.3 / 0.3048006, crs="EPSG:2263")], [32]
    ) == pytest.approx(0.6, rel=1e-3)
    degrees = tile("degrees.tif", 1e-5, crs="EPSG:4326")
    assert common_metres([degrees], [64]) == pytest.approx(
        1.113 * np.sqrt(np.cos(np.radians(47))), rel=0.01
    )
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    for other in (tile("coarse.tif", 0.5), tile("large.tif", 0.3, 128), tmp_path / "photo.png"):
        assert common_metres([*alike, other], [32]) is None
    assert common_metres(alike, [32, 32]) is None and common_metres([], [32]) is None
