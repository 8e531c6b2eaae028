"""Value range, bands and page of image files: stated by the dataset, or asked for."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.batches.cache import load_split
from segtune.data.reading.images import read_image
from segtune.data.reading.questions import narrow_range, open_question
from segtune.data.reading.rasters import page_count
from segtune.data.reading.values import Reading
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import DataError
from tests.data import seeded_faults as seeds
from tests.data.drawn_scenes import CLASSES, draw

BANDS = np.random.default_rng(0).integers(0, 3000, (5, 6, 8), dtype=np.uint16)


def tiff_of_bands(path: Path, bands: np.ndarray) -> Path:
    count, height, width = bands.shape
    layout = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", **layout) as file:
        file.write(bands)
    return path


def scaled(values: np.ndarray, white: float) -> np.ndarray:
    """Bytes computed in float64, independently of the reader."""
    return np.rint(values.astype(np.float64) / white * 255).clip(0, 255)


@pytest.mark.parametrize("bands", [(1,), (5,), (3, 2, 1), (5, 3, 1), (2, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_the_stated_bands_are_read_in_their_order_and_range(tmp_path, bands, dtype):
    stored = (BANDS % 250 if dtype == "uint8" else BANDS).astype(dtype)
    path = tiff_of_bands(tmp_path / "x.tif", stored)
    image = read_image(path, reading=Reading((0.0, 2999.0), bands))
    expected = scaled(stored[[band - 1 for band in bands]], 2999)
    if len(bands) == 1:
        expected = np.repeat(expected, 3, 0)
    if len(bands) == 2:
        expected = np.concatenate([expected, np.zeros_like(expected[:1])])
    np.testing.assert_allclose(image.transpose(2, 0, 1), expected, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_stated_bands_replace_opacity(kind):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    image = read_image(buffer.getvalue(), reading=Reading(bands=(3, 2, 1)))
    np.testing.assert_array_equal(image, pixels[..., 2::-1])
    question = open_question(buffer.getvalue(), "x", Reading())
    assert question is not None
    assert question.kind == "alpha_is_a_band"
    assert open_question(buffer.getvalue(), "x", Reading(bands=(1, 2, 3))) is None


def test_a_band_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 5 bands.*asks for band 7"):
        read_image(tiff_of_bands(tmp_path / "x.tif", BANDS), reading=Reading(bands=(1, 2, 7)))


def stack(path: Path, pages: int) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 255, (pages, 6, 8), dtype=np.uint8)
    images = [Image.fromarray(page) for page in pixels]
    images[0].save(path, save_all=True, append_images=images[1:])
    return pixels


@pytest.mark.parametrize("page", [1, 2, 5])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_stated_page_is_read(tmp_path, page, as_bytes):
    pixels = stack(tmp_path / "x.tif", 5)
    source = (tmp_path / "x.tif").read_bytes() if as_bytes else tmp_path / "x.tif"
    image = read_image(source, reading=Reading(page=page))
    np.testing.assert_array_equal(image[..., 0], pixels[page - 1])


def test_pages_are_counted_without_overviews_and_thumbnails(tmp_path):
    stack(tmp_path / "five.tif", 5)
    assert page_count(tmp_path / "five.tif") == 5
    large = np.zeros((3, 600, 600), np.uint8)
    with rasterio.open(tiff_of_bands(tmp_path / "o.tif", large), "r+") as file:
        file.build_overviews([2, 4])
    assert page_count(tmp_path / "o.tif") == 1
    pages = [Image.fromarray(large[0]), Image.fromarray(large[0, :60, :60])]
    pages[0].save(tmp_path / "t.tif", save_all=True, append_images=pages[1:])
    assert page_count(tmp_path / "t.tif") == 1


@pytest.mark.parametrize(
    ("brightest", "bits", "expected"),
    [(15, 16, [0, 4095]), (3, 16, [0, 1023]), (63, 16, [0, 16383]), (12, 16, [0, 4095])],
)
def test_the_proposed_range_holds_all_values(brightest, bits, expected):
    assert narrow_range(brightest, bits) == expected


@pytest.mark.parametrize(
    ("seed", "options", "word"),
    [
        (seeds.twelve_bits, {"value_range": [0, 4080]}, r"dataset\.value_range=\[0,4095\]"),
        (seeds.infrared, {"bands": [1, 2, 3]}, r"dataset\.bands=\[1,2,3\]"),
        (seeds.stack, {"page": 1}, r"dataset\.page=1"),
    ],
)
def test_training_asks_for_what_the_files_do_not_say(tmp_path, seed, options, word):
    root = draw(tmp_path / "roads", 4, 2)
    plain = list(load_split(open_roads(root), "train", [60]).images)
    seed(root)
    with pytest.raises(DataError, match=word):
        load_split(open_roads(root), "train", [60])
    source = open_roads(root, **options)
    if seed is seeds.twelve_bits:
        plain = [np.repeat(image[..., :1], 3, 2) for image in plain]
    loaded = load_split(source, "train", [60])
    np.testing.assert_allclose(np.array(list(loaded.images)), np.array(plain), atol=1)
    facts = json.loads(json.dumps({"name": "roads", **source.reading.to_json()}))
    assert Reading.of(facts) == source.reading != Reading()


def open_roads(root: Path, **options) -> Source:
    options = {"classes": CLASSES} | options
    return open_source(DatasetConfig(name="roads", source="folder", root=str(root), **options))
