"""Masks that interpolation or JPEG changed are read right, or refused in words."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.proposal.coding import codings
from segtune.data.proposal.scan import scan
from segtune.data.proposal.tables import Entry, Table
from segtune.data.proposal.two_values import Coding
from segtune.data.reading.masks import MaskReader
from segtune.errors import DataError
from segtune.runtime.log import silent

RESAMPLING = {
    "bilinear": (Image.Resampling.BILINEAR, 0.7),
    "bicubic": (Image.Resampling.BICUBIC, 1.5),
    "box": (Image.Resampling.BOX, 0.5),
    "lanczos": (Image.Resampling.LANCZOS, 2),
}


def places(num_values: int) -> np.ndarray:
    """Discs of every value but the first, which cover each other, (96, 128)."""
    rows, columns = np.mgrid[:96, :128]
    grid = np.zeros((96, 128), np.uint8)
    rng = np.random.default_rng(num_values)
    for number in range(4 * num_values):
        row, column, radius = rng.integers(0, 96), rng.integers(0, 128), rng.integers(9, 17)
        disc = np.hypot(rows - row, columns - column) < radius
        grid[disc] = 1 + number % (num_values - 1)
    return grid


def resized(grid: np.ndarray, values: list, resampling: str) -> tuple[np.ndarray, np.ndarray]:
    """A mask of some values after resizing, and the places of the values at the new size."""
    kind, factor = RESAMPLING[resampling]
    size = round(128 * factor), round(96 * factor)
    mask = Image.fromarray(np.array(values, np.uint8)[grid]).resize(size, kind)
    truth = Image.fromarray(grid).resize(size, Image.Resampling.NEAREST)
    return np.array(mask), np.array(truth)


def coding_of(root: Path, mask: np.ndarray, table: Table | None = None, **save) -> Coding:
    """The one way to read a mask that the finder proposes."""
    name = "a.jpg" if save else "a.png"
    Image.fromarray(mask).save(root / name, **save)
    (coding,) = codings(scan(root, [name], silent), table, is_given=False)
    return coding


def read(mask: np.ndarray, settings: dict, kind: str = "PNG", **save) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, kind, **save)
    config = DatasetConfig(name="x", source="folder", **settings)
    assert config.classes is not None
    return MaskReader(config, ClassTable.parse(config.classes)).read(buffer.getvalue(), "a")


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize("values", [[0, 255], [0, 100], [0, 200], [5, 180]])
def test_two_values_with_others_in_between_are_read_by_the_nearer_one(values, resampling, tmp_path):
    mask, truth = resized(places(2), values, resampling)
    coding = coding_of(tmp_path, mask)
    assert "interpolation" in coding.evidence
    assert np.mean(read(mask, coding.settings) == truth) > 0.98


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize(
    "values", [[0, 100, 200], [0, 128, 255], [10, 60, 110, 160], [0, 1, 2, 3, 255], [0, 7, 255]]
)
def test_several_values_with_others_in_between_are_refused(values, resampling, tmp_path):
    mask, _ = resized(places(len(values)), values, resampling)
    with pytest.raises(DataError, match="interpolation.*Export the masks again"):
        coding_of(tmp_path, mask)


COLORS = [(0, 0, 0), (200, 0, 0), (0, 0, 200)]


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize("colors", [COLORS, [(9, 9, 9), (0, 200, 99), (250, 250, 0)]])
def test_colours_with_others_in_between_are_refused(colors, resampling, tmp_path):
    mask, _ = resized(places(3), colors, resampling)
    with pytest.raises(DataError, match="interpolation") as caught:
        coding_of(tmp_path, mask)
    assert "rgb_nearest" in str(caught.value)


def test_a_few_colours_in_between_those_of_a_table_are_read_by_the_nearest_and_told(tmp_path):
    mask, truth = resized(places(3), COLORS, "bicubic")
    table = Table("t.txt", tuple(Entry(f"c{i}", None, color) for i, color in enumerate(COLORS)))
    coding = coding_of(tmp_path, mask, table)
    assert "interpolation" in coding.evidence
    assert np.mean(read(mask, coding.settings) == truth) > 0.97


@pytest.mark.parametrize("resampling", ["bilinear", "bicubic", "lanczos"])
def test_ids_that_are_all_known_are_refused_where_borders_pass_through_others(resampling, tmp_path):
    mask, _ = resized(places(6), list(range(6)), resampling)
    with pytest.raises(DataError, match="borders .* ids of other classes.*interpolation"):
        coding_of(tmp_path, mask)


@pytest.mark.parametrize("classes", [["a", "b", "c"], ["a", "b"]])
def test_unknown_ids_between_areas_are_told_as_interpolation(classes):
    mask, _ = resized(places(3), [0, 50, 100], "bilinear")
    with pytest.raises(DataError, match="interpolation"):
        read(mask, {"classes": classes, "label_map": {50: 1, 100: 0}})


@pytest.mark.parametrize("quality", [30, 50, 70, 85, 95])
@pytest.mark.parametrize("shape", ["discs", "lines"])
def test_masks_of_black_and_white_are_read_from_jpeg(quality, shape, tmp_path):
    truth = places(2) > 0
    if shape == "lines":
        truth[::13, :] = truth[40:44, 10:90] = True
    mask = truth * np.uint8(255)
    coding = coding_of(tmp_path, mask, quality=quality)
    assert "JPEG" in coding.evidence
    masks = read(mask, coding.settings, "JPEG", quality=quality)
    assert np.mean((masks == 1) == truth) > 0.98


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("values", [[0, 128, 255], [0, 20, 255], [0, 1, 2], [0, 100]])
def test_other_masks_in_jpeg_are_refused(values, quality, tmp_path):
    mask = np.array(values, np.uint8)[places(len(values))]
    with pytest.raises(DataError, match="JPEG"):
        coding_of(tmp_path, mask, quality=quality)


@pytest.mark.parametrize("values", [[0, 1, 2, 65535], [1, 2, 3, 65535], [0, 1000, 2000, 65535]])
def test_the_highest_value_of_16_bits_is_ignored_and_told(values, tmp_path):
    mask = np.array(values, np.uint16)[places(4)]
    coding = coding_of(tmp_path, mask)
    assert coding.settings["classes"] == [f"class_{value}" for value in values[:3]]
    assert "65535 ignored" in coding.evidence
    np.testing.assert_array_equal(read(mask, coding.settings) == 255, mask == 65535)


@pytest.mark.parametrize(
    ("stated", "classes"),
    [
        ({"lesion": 255, "skin": 0}, ["skin", "lesion"]),
        ({"background": 0, "liver": 128, "tumor": 255}, ["background", "liver", "tumor"]),
        ({"road": 0, "car": 1, "void": 255}, ["road", "car"]),
    ],
    ids=["two turned", "255 is a class", "255 is void"],
)
def test_values_that_a_table_states_name_the_classes(stated, classes, tmp_path):
    values = list(stated.values())
    mask = np.array(values, np.uint8)[places(len(values))]
    entries = tuple(Entry(name, value) for name, value in stated.items())
    settings = coding_of(tmp_path, mask, Table("classes.csv", entries)).settings
    assert settings["classes"] == classes
    expected = np.full_like(mask, 255)
    for place, name in enumerate(classes):
        expected[mask == stated[name]] = place
    np.testing.assert_array_equal(read(mask, settings), expected)
