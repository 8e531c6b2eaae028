"""Images become RGB bytes and masks become ids; other files are refused."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segtune
from segtune.data.reading.images import read_image, read_mask, resize_mask, target_size
from segtune.data.reading.values import to_bytes
from segtune.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_path_bytes_pil_array_and_tensor_give_the_same_pixels(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    forms = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(Image.fromarray(RGB)),
        Image.fromarray(RGB),
        RGB,
    ]
    forms.append(torch.from_numpy(RGB).permute(2, 0, 1))
    for form in forms:
        np.testing.assert_array_equal(read_image(form), RGB)


def saved_in_each_way(folder: Path) -> list[Path]:
    """PNG, JPEG, an uncompressed TIFF and one of two pages."""
    image = Image.fromarray(RGB)
    for name in ("a.png", "a.jpg", "a.tif"):
        image.save(folder / name)
    image.save(folder / "pages.tif", save_all=True, append_images=[image])
    return [folder / name for name in ("a.png", "a.jpg", "a.tif", "pages.tif")]


def test_threads_that_read_at_once_leave_no_file_open_and_warnings_as_they_were(tmp_path):
    paths, before = saved_in_each_way(tmp_path) * 40, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:  # an unclosed file would warn, which is an error here
        shapes = set(pool.map(lambda path: read_image(path).shape, paths))
    assert shapes == {RGB.shape} and warnings.filters == before


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    turned = read_image(encoded(Image.fromarray(RGB), exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(RGB, -1))


def test_transparency_is_composited_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    assert read_image(encoded(Image.fromarray(rgba))).tolist() == [
        [[10, 20, 30], [255] * 3],
        [[255] * 3] * 2,
    ]


def test_sixteen_bit_values_are_scaled_and_not_cut():
    deep = np.array([[0, 257, 65535]], np.uint16)
    assert read_image(encoded(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 1, 255]


def test_grey_floats_in_unit_range_are_scaled():
    assert read_image(np.array([[0.0, 0.5, 1.0]], np.float32))[0, :, 1].tolist() == [0, 128, 255]


def test_a_palette_mask_gives_its_indices_and_not_its_colours(tmp_path):
    ids = np.array([[0, 1], [2, 1]], np.uint8)
    mask = Image.fromarray(ids, "P")
    mask.putpalette([0, 0, 0, 38, 38, 38, 75, 75, 75])
    mask.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)


def test_a_colour_mask_is_refused(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="stored as RGB"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_file_is_refused(kind):
    whole = encoded(Image.fromarray(np.tile(RGB, (40, 40, 1))), kind)
    with pytest.raises(DataError, match="whole"):
        read_image(whole[: len(whole) // 2])


@pytest.mark.parametrize("junk", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_image_are_refused(junk):
    with pytest.raises(DataError, match="image bytes"):
        read_image(junk)


def test_a_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(DataError, match="claims 7 x 5 pixels"):
        read_image(encoded(Image.fromarray(RGB)), max_pixels=30)


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"shape \(2, 2, 2\)"):
        read_image(np.zeros((2, 2, 2), np.uint8))


def test_resizing_a_mask_adds_no_id():
    mask = np.random.default_rng(1).choice(np.array([0, 3, 255], np.uint8), (13, 17))
    assert set(np.unique(resize_mask(mask, 40, 9))) <= {0, 3, 255}


def test_one_size_is_the_shorter_side_and_two_are_exact():
    assert target_size(720, 960, [360]) == (360, 480)
    assert target_size(960, 720, [360]) == (480, 360)
    assert target_size(720, 960, [640, 352]) == (352, 640)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "f4", "f8"])
def test_the_byte_order_of_values_does_not_matter(order, kind):
    plain = np.array([[0, 1, 1]], kind) * (257 if kind == "u2" else 0.5)
    swapped = plain.astype(plain.dtype.newbyteorder(order))
    expected = [0, 1, 1] if kind == "u2" else [0, 128, 128]
    assert to_bytes(swapped, "image").tolist() == [expected]


def test_a_big_endian_picture_of_pillow_is_read():
    picture = Image.frombytes("I;16B", (2, 1), np.array([[0, 65535]], ">u2").tobytes())
    assert segtune.read_image(picture)[0, :, 0].tolist() == [0, 255]
