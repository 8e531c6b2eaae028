"""Physical pixel sizes of micrographs: read from OME-XML and ImageJ's tags, kept, and applied."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from segtune.errors import DataError
from segtune.inference.media.pixel_size import common_metres, pixel_metres
from tests.inference.test_scale import equivariant

OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="8" SizeY="8" {}/>'
    "</Image></OME>"
)


def ome(width: str, height: str, x_unit: str = "", y_unit: str = "") -> str:
    attributes = f'PhysicalSizeX="{width}" PhysicalSizeY="{height}"'
    attributes += f' PhysicalSizeXUnit="{x_unit}"' if x_unit else ""
    attributes += f' PhysicalSizeYUnit="{y_unit}"' if y_unit else ""
    return OME.format(attributes)


def tiff(path: Path, description: str, pixels_a_unit: float = 0.0, side: int = 64) -> Path:
    tags = ImageFileDirectory_v2()
    tags[270] = description
    if pixels_a_unit:
        ratio = Fraction(pixels_a_unit).limit_denominator(10_000)
        tags[282] = tags[283] = IFDRational(ratio.numerator, ratio.denominator)
        tags[296] = 1
    pixels = np.random.default_rng(side).integers(0, 255, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, tiffinfo=tags)
    return path


@pytest.mark.parametrize(
    ("description", "pixels_a_unit", "metres"),
    [
        (ome("0.65", "0.65"), 0, 0.65e-6),
        (ome("0.4", "0.9", x_unit="&#181;m"), 0, 0.6e-6),
        (ome("650", "650", x_unit="nm", y_unit="nm"), 0, 0.65e-6),
        (ome("2", "2", x_unit="pixel"), 0, None),
        (ome("0", "0.65"), 0, None),
        (ome("nan", "0.65"), 0, None),
        (OME.format(""), 0, None),
        ("<OME broken", 0, None),
        ("ImageJ=1.54f\nunit=micron\nspacing=1.0", 4.0, 0.25e-6),
        ("ImageJ=1.54f\nunit=\\u00B5m\n", 2.0, 0.5e-6),
        ("ImageJ=1.54f\nunit=mm\n", 100.0, 1e-5),
        ("ImageJ=1.54f\n", 4.0, None),
        ("a photo of 300 dpi", 300.0, None),
    ],
)
def test_a_micrograph_states_the_size_of_its_pixels(tmp_path, description, pixels_a_unit, metres):
    path = tiff(tmp_path / "cell.tif", description, pixels_a_unit)
    assert pixel_metres(path) == (None if metres is None else pytest.approx(metres, rel=1e-4))


def test_a_photo_with_a_print_resolution_states_no_size(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", dpi=(300, 300))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", dpi=(300, 300))
    assert pixel_metres(tmp_path / "a.png") is None and pixel_metres(tmp_path / "a.jpg") is None


def test_train_images_of_one_objective_give_a_common_size_and_others_do_not(tmp_path):
    def image(name: str, micrometres: float) -> Path:
        return tiff(tmp_path / name, ome(f"{micrometres}", f"{micrometres}"))

    alike = [image(f"{n}.tif", 0.325) for n in range(3)]
    assert common_metres(alike, [32]) == pytest.approx(0.65e-6)
    assert common_metres([*alike, image("other.tif", 0.65)], [32]) is None


def test_a_micrograph_is_seen_at_the_micrometres_of_the_training_images(tmp_path):
    segmenter = equivariant((64,), metres=1e-6)

    def input_size(micrometres: float) -> tuple[int, int]:
        description = ome(f"{micrometres}", f"{micrometres}")
        path = tiff(tmp_path / f"{micrometres}.tif", description, side=96)
        assert segmenter.segment(path).mask.shape == (96, 96)
        return segmenter.scale.input_size((96, 96), segmenter.pixel_metres(path))

    assert input_size(0.5) == (48, 48) and input_size(2.0) == (192, 192)
    with pytest.raises(DataError, match=r"its pixels are 10 µm wide.*trained on pixels of 1 µm"):
        input_size(10.0)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (100, 200)).save(photo)
    assert segmenter.scale.input_size((200, 100), segmenter.pixel_metres(photo)) == (128, 64)
