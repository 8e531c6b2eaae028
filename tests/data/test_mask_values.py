"""Masks are read as the numbers that their files store, or refused with the line that helps."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.instances import _named_classes
from segtune.data.reading.images import read_colors, read_mask
from segtune.data.reading.mask_values import mask_values, object_pixels
from segtune.data.reading.masks import MaskReader
from segtune.errors import ConfigError, DataError

OBJECT = np.zeros((6, 8), bool)
OBJECT[1:4, 2:7] = True


def stored(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def reader(classes: list[str], **options) -> MaskReader:
    config = DatasetConfig(name="x", source="folder", classes=classes, **options)
    return MaskReader(config, ClassTable.parse(classes))


def binary(data: bytes, **options) -> np.ndarray:
    options = {"mask_format": "binary"} | options
    return reader(["background", "object"], **options).read(data, "a.png")


@pytest.mark.parametrize("value", [1, 2, 7, 100, 127, 128, 200, 254, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", [None, "RGB", "LA"])
def test_a_mask_of_zero_and_any_other_value_is_its_object(value, kind, mode):
    if mode == "LA" and kind == "BMP":
        pytest.skip("BMP has no grey with opacity")
    data = stored(OBJECT * np.uint8(value), kind, mode)
    assert (binary(data) == OBJECT).all()
    assert (object_pixels(mask_values(data, "a"), "a") == OBJECT).all()


@pytest.mark.parametrize("value", [1, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_object_of_sixteen_bits_is_not_lost(value, kind):
    assert (binary(stored(OBJECT * np.uint16(value), kind)) == OBJECT).all()


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value_is_all_object_or_none(value, expected):
    assert (binary(stored(np.full((4, 4), value, np.uint8))) == expected).all()


def test_soft_borders_of_a_binary_mask_are_divided_at_half():
    pixels = np.array([[0, 60, 127, 128, 200, 255]], np.uint8)
    assert binary(stored(pixels)).tolist() == [[0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize("values", [[0, 1, 2], [1, 2], [0, 40, 90], [200, 255]])
def test_a_mask_of_several_ids_is_no_binary_mask(values):
    with pytest.raises(DataError, match=r"holds the values .*dataset\.mask_format=index"):
        binary(stored(np.array([values], np.uint8)))


@pytest.mark.parametrize("value", [1, 5, 100, 128, 200, 250, 254])
def test_areas_of_a_third_value_are_no_soft_border(value):
    pixels = np.zeros((60, 80), np.uint8)
    pixels[10:30, 10:40] = 255
    expected = pixels > 0
    soft = cv2.GaussianBlur(pixels, (5, 5), 0)
    assert (binary(stored(soft))[soft > 200] == 1).all()
    for quality in (30, 70, 95):
        assert (binary(stored(pixels, "JPEG", quality=quality)) == expected).mean() > 0.97
    pixels[40:50, 10:20] = value
    with pytest.raises(DataError, match=rf"areas of {value} beside 0 and 255 \(100 px\)"):
        binary(stored(pixels))


def test_areas_of_a_colour_far_from_all_classes_are_no_changed_colours():
    classes = [{"name": "sky", "color": [0, 0, 250]}, {"name": "road", "color": [90, 90, 90]}]
    config = DatasetConfig(name="x", source="folder", classes=classes, mask_format="rgb_nearest")
    pixels = np.full((40, 60, 3), 90, np.uint8)
    pixels[:20] = 0, 0, 250
    expected = np.repeat([0, 1], 20)[:, None].repeat(60, 1)
    soft = cv2.GaussianBlur(pixels, (5, 5), 0)
    assert (MaskReader(config, ClassTable.parse(classes)).read(stored(soft), "a") == expected).all()
    soft[5:15, 5:15] = 250, 0, 0
    with pytest.raises(DataError, match=r"\[250, 0, 0\] \(100 px\).*ignore_colors=") as caught:
        MaskReader(config, ClassTable.parse(classes)).read(stored(soft), "a")
    assert "'dataset.ignore_colors=[[250,0,0]]'" in str(caught.value)


@pytest.mark.parametrize("mask_format", ["rgb", "rgb_nearest"])
@pytest.mark.parametrize("options", [{"label_map": {1: 255}}, {"reduce_zero_label": True}])
def test_a_map_of_ids_is_refused_where_masks_hold_colours(mask_format, options):
    with pytest.raises(ConfigError, match=r"no effect on dataset\.mask_format=rgb.*ignore_colors"):
        reader(["a", "b"], mask_format=mask_format, **options).read(stored(OBJECT), "a")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_mask_of_few_bits_holds_its_numbers(bits):
    ids = np.arange(2**bits, dtype=np.uint8).reshape(1, -1)[:, :16]
    buffer = io.BytesIO()
    image = Image.fromarray(ids * np.uint8(255 // (2**bits - 1)))
    if bits == 1:
        image = image.convert("1")
    image.save(buffer, "PNG", bits=bits)
    data = buffer.getvalue() if bits in (1, 8) else png_of_bits(ids, bits)
    assert read_mask(data, "a").tolist() == ids.tolist()


def png_of_bits(ids: np.ndarray, bits: int) -> bytes:
    """A grey PNG with a depth that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + end

    places = np.arange(bits)[::-1]
    row = np.packbits((ids[0, :, None] >> places & 1).astype(np.uint8).ravel()).tobytes()
    head = struct.pack(">IIBBBBB", ids.shape[1], 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("alpha", [255, 128])
def test_a_constant_alpha_beside_ids_does_not_matter(alpha):
    ids = OBJECT.astype(np.uint8)
    data = stored(np.stack([ids, ids, ids, np.full_like(ids, alpha)], 2))
    assert (read_mask(data, "a") == ids).all()


@pytest.mark.parametrize("mask_format", ["index", "binary"])
@pytest.mark.parametrize("color", [0, 1, 255])
def test_an_object_in_the_opacity_is_refused_with_the_format_that_reads_it(mask_format, color):
    grey = np.full(OBJECT.shape, color, np.uint8)
    data = stored(np.stack([grey, grey, grey, OBJECT * np.uint8(255)], 2))
    with pytest.raises(DataError, match=r"opacity.*dataset\.mask_format=alpha"):
        binary(data, mask_format=mask_format)
    assert (binary(data, mask_format="alpha") == OBJECT).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_ids_of_any_number_are_mapped_by_the_label_map(dtype):
    pixels = np.array([[0, 1000, 2000, 30000]], dtype)
    mapped = reader(["a", "b", "c"], label_map={1000: 1, 2000: 2, 30000: 255})
    assert mapped.read(stored(pixels, "TIFF"), "a").tolist() == [[0, 1, 2, 255]]


def test_minus_one_is_mapped():
    pixels = np.array([[-1, 0, 1]], np.int32)
    mapped = reader(["a", "b"], label_map={-1: 255}).read(stored(pixels, "TIFF"), "a")
    assert mapped.tolist() == [[255, 0, 1]]


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (0.5, "0.5"), (1.25, "1.25")]
)
@pytest.mark.parametrize("mask_format", ["index", "binary"])
def test_a_number_that_is_no_id_is_refused_by_its_value(value, word, mask_format):
    data = stored(np.array([[0, 1, value]], np.float32), "TIFF")
    with pytest.raises(DataError, match=rf"'a\.png' holds .* such as {word}, in 1 px"):
        binary(data, mask_format=mask_format)


def test_a_binary_mask_needs_two_classes():
    with pytest.raises(DataError, match=r"dataset\.classes=\[background,road\]"):
        reader(["road"], mask_format="binary").read(stored(OBJECT * np.uint8(255)), "a")


@pytest.mark.parametrize(
    ("files", "classes"),
    [
        ([["road.png", "person.png"], ["road.png"]], ["person", "road"]),
        ([["person_1.png", "person_2.png"], ["road_1.png", "person_1.png"]], ["person", "road"]),
        ([["0.png", "1.png"], ["0.png"]], []),
        ([["object_1.png", "object_2.png"], ["object_1.png"]], []),
        ([["a3f9c.png", "b77.png"], ["c01e.png"]], []),
    ],
)
def test_mask_files_that_are_called_as_classes_keep_them(files, classes):
    assert _named_classes(files) == classes


def array_file(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16, np.float32, bool])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 2, 3)])
def test_arrays_hold_ids(kind, shape):
    ids = np.array([[0, 1, 1], [1, 0, 1]])
    data = array_file(ids.astype(kind).reshape(shape))
    assert read_mask(data, "a.npy").tolist() == ids.tolist()
    assert mask_values(array_file(np.asfortranarray(ids)), "a.npy").pixels.tolist() == ids.tolist()


def test_arrays_of_colors_are_read_by_the_class_table():
    colors = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    np.testing.assert_array_equal(read_colors(array_file(colors), "a.npy"), colors)
    with pytest.raises(DataError, match="array of int64, .*mask_format=index"):
        read_colors(array_file(np.zeros((2, 2), np.int64)), "a.npy")


SMALL, HUGE = b"(4, 4), }        ", b"(99999, 99999), }"  # in headers of one length


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array_file(np.zeros((4, 5, 6))), r"shape \(4, 5, 6\) .*argmax"),
        (array_file(np.zeros((4, 5, 3), np.float32)), r"shape \(4, 5, 3\)"),
        (array_file(np.zeros(4)), r"shape \(4,\)"),
        (array_file(np.zeros((0, 4))), r"shape \(0, 4\)"),
        (array_file(np.array([[{}]], object)), "type object"),
        (array_file(np.array([["a"]])), "type <U1"),
        (array_file(np.zeros((4, 4)))[:-1], "a.npy' cannot be read"),
        (array_file(np.zeros((4, 4)))[:20], "a.npy' cannot be read"),
        (array_file(np.array([[0, np.nan]])), "NaN"),
        (array_file(np.array([[0, 0.5]])), "fractions"),
        (array_file(np.zeros((4, 4))).replace(SMALL, HUGE), "99999 x 99999 pixels"),
    ],
)
def test_other_arrays_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        mask_values(data, "a.npy")
