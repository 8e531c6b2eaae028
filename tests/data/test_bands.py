"""The file declares which of its bands are shown, and which values are black and white."""

import io
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image, ImageCms, ImageOps
from rasterio.enums import ColorInterp as Is

import segtune
from segtune.data.reading.rasters import opened_raster
from segtune.errors import DataError

BANDS = np.random.default_rng(0).integers(0, 256, (13, 37, 61), dtype=np.uint8)
RGB = np.moveaxis(BANDS[:3], 0, 2)
GREY = np.repeat(BANDS[0][..., None], 3, axis=2)


def tiff(
    path: Path, count: int, dtype: str = "uint8", shows: tuple = (), scale: float = 1, **options
) -> Path:
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16} | options
    with rasterio.open(
        path, "w", driver="GTiff", height=37, width=61, count=count, dtype=dtype, **options
    ) as target:
        values = BANDS[:count] * float(scale)
        target.write((values if dtype == "float32" else np.rint(values)).astype(dtype))
        if shows:
            target.colorinterp = shows
    return path


BGR_AND_OTHER = (Is.blue, Is.green, Is.red, Is.undefined)
RGB_AND_ALPHA = {"photometric": "RGB", "alpha": "YES"}
SENTINEL = (Is.undefined, Is.blue, Is.green, Is.red, *[Is.undefined] * 9)
BANDS_4_3_2 = np.moveaxis(BANDS[[3, 2, 1]], 0, 2)


def laid_on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


# count, type, factor, options, and the picture that NumPy computes
CASES = {
    "1 band": (1, "uint8", 1, {}, GREY),
    "1 band of 16 bits": (1, "uint16", 257, {}, GREY),
    "1 band of 12 bits": (1, "uint16", 4095 / 255, {"nbits": 12}, GREY),
    "1 band of 4 bits": (1, "uint8", 15 / 255, {"nbits": 4}, np.rint(GREY * (15 / 255)) * 17),
    "1 band, white is 0": (1, "uint8", 1, {"photometric": "MINISWHITE"}, 255 - GREY),
    "1 band of floats": (1, "float32", 1 / 255, {}, GREY),
    "2 bands": (2, "uint8", 1, {}, GREY),
    "2 bands of 16 bits": (2, "uint16", 257, {}, GREY),
    "grey and opacity": (2, "uint8", 1, {"alpha": "YES"}, laid_on_white(GREY, BANDS[1])),
    "3 bands": (3, "uint8", 1, {}, RGB),
    "3 bands of 16 bits": (3, "uint16", 257, {}, RGB),
    "3 bands of floats": (3, "float32", 1 / 255, {}, RGB),
    "3 bands, planes apart": (3, "uint8", 1, {"interleave": "band"}, RGB),
    "blue, green, red": (3, "uint8", 1, {"shows": (Is.blue, Is.green, Is.red)}, RGB[..., ::-1]),
    "RGB and infrared": (4, "uint8", 1, {"alpha": "NO"}, RGB),
    "RGB and infrared of 16 bits": (4, "uint16", 257, {"photometric": "RGB"}, RGB),
    "blue, green, red, infrared": (4, "uint8", 1, {"shows": BGR_AND_OTHER}, RGB[..., ::-1]),
    "4 bands of 16 bits": (4, "uint16", 257, {}, RGB),
    "RGB and opacity": (4, "uint8", 1, {}, laid_on_white(RGB, BANDS[3])),
    "RGB, opacity, infrared": (5, "uint8", 1, RGB_AND_ALPHA, laid_on_white(RGB, BANDS[3])),
    "8 bands, three by name": (8, "uint16", 257, {"photometric": "RGB"}, RGB),
    "13 bands in another order": (13, "uint8", 1, {"shows": SENTINEL}, BANDS_4_3_2),
}


@pytest.mark.parametrize("name", CASES)
def test_the_declared_bands_and_their_declared_range_are_shown_whole_and_in_windows(tmp_path, name):
    count, dtype, scale, options, expected = CASES[name]
    path = tiff(tmp_path / "a b.tif", count, dtype, scale=scale, **options)
    (tmp_path / "a b.tif.aux.xml").unlink(missing_ok=True)
    found = segtune.read_image(path)
    np.testing.assert_allclose(found, expected, atol=0.51 if "opacity" in name else 1)
    if scale in (1, 257) and "opacity" not in name:
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(segtune.read_image(path.read_bytes()), found)
    with opened_raster(path) as raster:
        parts = [raster.read(top, 7, min(top + 10, 37), 61) for top in range(0, 37, 10)]
    np.testing.assert_array_equal(np.concatenate(parts), found[:, 7:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_a_tiff_of_any_photometric_looks_as_pillow_shows_it(tmp_path, mode):
    image = Image.fromarray(np.sort(RGB, axis=1))
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        image = image.quantize(64) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "x.tif")
    expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(segtune.read_image(tmp_path / "x.tif"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_tiff_is_applied_to_the_whole_and_to_windows(tmp_path, orientation):
    Image.fromarray(RGB).save(tmp_path / "x.tif", tiffinfo={0x0112: orientation})
    with Image.open(tmp_path / "x.tif") as stored:
        expected = np.array(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(segtune.read_image(tmp_path / "x.tif"), expected)
    np.testing.assert_array_equal(segtune.read_image(tmp_path / "x.tif", upright=False), RGB)
    with opened_raster(tmp_path / "x.tif") as raster:
        assert raster.size == expected.shape[:2]
        np.testing.assert_array_equal(raster.read(3, 5, 20, 30), expected[3:20, 5:30])


def test_premultiplied_opacity_is_not_applied_twice(tmp_path):
    alpha = BANDS[3]
    bands = np.concatenate([np.rint(BANDS[:3] * (alpha / 255)), alpha[None]]).astype(np.uint8)
    form = {"driver": "GTiff", "height": 37, "width": 61, "count": 4, "dtype": "uint8"}
    with rasterio.open(tmp_path / "x.tif", "w", alpha="PREMULTIPLIED", **form) as target:
        target.write(bands)
    np.testing.assert_allclose(
        segtune.read_image(tmp_path / "x.tif"), laid_on_white(RGB, alpha), atol=1
    )


def test_bands_without_names_are_refused_with_a_remedy(tmp_path):
    for count in (5, 13):
        with pytest.raises(DataError, match=rf"{count} bands.*gdal_translate -b RED"):
            segtune.read_image(tiff(tmp_path / "x.tif", count, "uint16"))


KNOWN = {
    "bool": (np.array([False, True]), [0, 255]),
    "uint8": (np.array([0, 1, 255], np.uint8), [0, 1, 255]),
    "uint16": (np.array([0, 257, 300, 65535], np.uint16), [0, 1, 1, 255]),
    "float16": (np.array([0, 0.5, 1], np.float16), [0, 128, 255]),
    "float32": (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
    "float64": (np.array([0, 0.25, np.nan], np.float64), [0, 64, 0]),
    "a little beyond": (np.array([-0.02, 0.5, 1.02], np.float32), [0, 128, 255]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_type_of_values_alone_decides_their_bytes(name):
    values, expected = KNOWN[name]
    for part in (slice(None), slice(0, 1), slice(0, 2)):  # another maximum
        image = segtune.read_image(values[None, part])
        assert image[0].tolist() == [[v] * 3 for v in expected[part]]
    if values.dtype not in (np.uint16, np.bool_):
        tensor = torch.from_numpy(values)[None, None].expand(3, 1, -1)
        assert segtune.read_image(tensor)[0, :, 1].tolist() == expected


UNKNOWN = ["int8", "int16", "int32", "int64", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", UNKNOWN)
def test_types_without_a_range_need_a_value_range(dtype):
    values = np.array([[0, 64, 127]], dtype)
    with pytest.raises(
        DataError, match=rf"{dtype} values.*astype\(numpy.uint8\).*value_range=\(BLACK, WHITE\)"
    ):
        segtune.read_image(values)
    assert segtune.read_image(values, value_range=(0, 127))[0, :, 0].tolist() == [0, 129, 255]
    if dtype == "int32":
        with pytest.raises(DataError, match="int32"):
            segtune.read_image(Image.fromarray(values))


def test_floats_beyond_one_are_refused_in_arrays_and_files_alike(tmp_path):
    path = tiff(tmp_path / "x.tif", 1, "float32", scale=40)
    with pytest.raises(
        DataError,
        match=r"x.tif' holds float32 values from .* to 10200; floats are expected in \[0, 1",
    ):
        segtune.read_image(path)
    with pytest.raises(DataError, match="Divide them by 255"):
        segtune.read_image(RGB.astype(np.float32))
    np.testing.assert_array_equal(segtune.read_image(path, value_range=(0, 255 * 40)), GREY)
    with pytest.raises(DataError, match="smaller one first"):
        segtune.read_image(RGB, value_range=(255, 0))
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG")
    with pytest.raises(DataError, match="decoded to 8 bits"):
        segtune.read_image(stream.getvalue(), value_range=(0, 100))


def test_sixteen_bits_are_the_same_in_a_png_a_pgm_a_tiff_and_an_array(tmp_path):
    deep = BANDS[0].astype(np.uint16) * 200
    expected = np.rint(deep / 257)
    Image.fromarray(deep).save(tmp_path / "x.png")
    (tmp_path / "x.pgm").write_bytes(b"P5 61 37 65535\n" + deep.astype(">u2").tobytes())
    for source in (
        tmp_path / "x.png",
        tmp_path / "x.pgm",
        tiff(tmp_path / "x.tif", 1, "uint16", scale=200),
        deep,
    ):
        np.testing.assert_array_equal(segtune.read_image(source)[..., 0], expected)
