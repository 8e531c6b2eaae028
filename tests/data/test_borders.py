"""Interpolated masks are told from masks of lines, layers and noise, whatever their values."""

import numpy as np
import pytest
from PIL import Image

from segtune.classes import ClassTable
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.batches.cache import load_split
from segtune.data.formats.stored_masks import interpolation_note
from segtune.data.proposal.coding import codings
from segtune.data.proposal.scan import scan
from segtune.data.reading.blending import find_interpolation
from segtune.data.reading.borders import borders_of
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from segtune.runtime.log import silent
from tests.data.bordered_masks import (
    RESAMPLING,
    areas,
    blurred,
    boxes,
    circled,
    depth,
    discs,
    layers,
    outlined,
    resized,
    rings,
    stored,
    through_jpeg,
)

GAPS = [0, 3, 6, 9, 12, 15, 18, 21]
CODES = [11, 21, 31, 41, 51, 90, 111, 311]
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200], [90, 160, 40]], np.uint8)

TRUE = {
    "areas": stored(areas(8)),
    "many ids": stored(areas(40, 4.0) * 3),
    "few ids": stored(areas(3)),
    "boxes": stored(boxes(9)),
    "void line": stored(outlined(areas(5), 255)),
    "void line of 16 bits": stored(outlined(areas(5) * 100, 255), kind=np.uint16),
    "line of a low id": stored(outlined(discs(6) + 1, 1)),
    "line of an id among others": stored(outlined(areas(8) * 2, 5)),
    "three lines in 255": stored(circled(255, (64, 128, 192))),
    "three lines in 100": stored(circled(100, (20, 40, 60))),
    "three lines of 16 bits": stored(circled(5000, (1001, 1002, 1003)), kind=np.uint16),
    "boundary of 128": stored(outlined(discs(2) * 255, 128)),
    "boundary beside both": stored(outlined(discs(2) + 1, 3)),
    "land cover": stored(areas(8, 1.5)),
    "land cover of codes": stored(areas(8, 2.0), CODES, np.uint16),
    "land cover of three": stored(areas(3, 1.5)),
    "land cover as integers": stored(areas(8, 1.5), CODES, np.int32),
    "depth": stored(depth(6, 20)),
    "steep depth": stored(depth(12, 14)),
    "rings": stored(rings(12, (0, 1, 2, 3))),
    "cup in a disc": stored(rings(14, (0, 128, 255))),
    "thick layers": stored(layers((7, 9, 12, 8))),
    "ten layers of two pixels": stored(layers((2,) * 10)),
    "colours": COLORS[discs(4)],
    "colours of noise": COLORS[areas(4, 1.5)],
}


@pytest.mark.parametrize("name", TRUE)
def test_lines_layers_and_noise_are_not_taken_for_interpolation(name):
    assert find_interpolation(borders_of(TRUE[name])) is None


UNCLEAR = {
    "boundary": stored(outlined(discs(2) * 2, 1)),
    "layers of few pixels": stored(layers((3, 5, 2, 9, 4, 14, 2, 3))),
    "resized ids 0 1 2": resized(stored(areas(3)), "bilinear x2"),
    "turned ids 0 1 2": resized(stored(areas(3)), "bilinear x0.7"),
    "halved ids 0 1 2": resized(stored(discs(3)), "box x0.5"),
    "smoothed 0 and 2": blurred(stored(discs(2) * 2), 0.7),
    "enlarged ids 0 1 2 3": resized(stored(areas(4)), "bilinear x2"),
    "enlarged ids of 16 bits": resized(stored(areas(4), kind=np.uint16), "bilinear x2"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_ids_in_between_that_may_be_thin_classes_are_told(name):
    mask = UNCLEAR[name]
    found = find_interpolation(borders_of(mask), known=range(10))
    assert found is not None and not found.is_certain
    assert set(found.between) <= set(range(1, mask.max()))
    assert find_interpolation(borders_of(mask), harmless=found.between) is None


GRIDS = {
    "ids 0..9": stored(areas(10)),
    "ids 0..20": stored(areas(21)),
    "ids with gaps": stored(areas(8), GAPS),
    "0 128 255": stored(discs(3), [0, 128, 255]),
    "0 255": stored(discs(2) * 255),
    "0 100": stored(discs(2) * 100),
    "boxes of 0 255": stored(boxes(2) * 255),
    "boxes of 0 100": stored(boxes(2) * 100),
    "ids of 16 bits": stored(areas(10), kind=np.uint16),
    "levels of 16 bits": stored(areas(4), [0, 300, 700, 1000], np.uint16),
    "ids of 32 bits": stored(areas(10), kind=np.int32),
    "whole floats": stored(areas(10), kind=np.float64),
}


@pytest.mark.parametrize("resampling", RESAMPLING)
@pytest.mark.parametrize("name", GRIDS)
def test_resized_masks_are_recognised(name, resampling):
    mask = resized(GRIDS[name], resampling)
    if mask.dtype == np.float64:
        mask = mask.astype(np.int64)  # as a mask of whole floats is read
    found = find_interpolation(borders_of(mask), known=range(21))
    assert found is not None and found.is_certain


@pytest.mark.parametrize("resampling", RESAMPLING)
def test_resized_colours_are_recognised(resampling):
    found = find_interpolation(borders_of(resized(COLORS[discs(4)], resampling)))
    assert found is not None and found.is_certain


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.5])
@pytest.mark.parametrize("name", ["ids 0..9", "0 255"])
def test_smoothed_masks_are_recognised(name, sigma):
    found = find_interpolation(borders_of(blurred(GRIDS[name], sigma)), known=range(10))
    assert found is not None
    assert found.is_certain or sigma > 1  # then ids are layers along all borders


@pytest.mark.parametrize("quality", [75, 90])
@pytest.mark.parametrize("name", ["0 255", "0 128 255"])
def test_masks_that_were_jpegs_once_are_recognised(name, quality):
    found = find_interpolation(borders_of(through_jpeg(GRIDS[name], quality)), known=range(21))
    assert found is not None and found.is_certain


@pytest.mark.parametrize(
    ("mask", "classes"),
    [
        (
            TRUE["three lines in 255"],
            ["class_0", "class_64", "class_128", "class_192", "class_255"],
        ),
        (TRUE["three lines in 100"], ["class_0", "class_20", "class_40", "class_60", "class_100"]),
        (TRUE["land cover"], [f"class_{value}" for value in range(8)]),
    ],
    ids=["lines in 255", "lines in 100", "noise"],
)
def test_values_of_lines_and_noise_become_classes(mask, classes, tmp_path):
    Image.fromarray(mask).save(tmp_path / "a.png")
    (coding,) = codings(scan(tmp_path, ["a.png"], silent), None, is_given=False)
    assert coding.settings["classes"] == classes


def folder(root, mask: np.ndarray, **options):
    """A dataset of four pairs of equal masks."""
    for split in ("train", "val"):
        for number in range(2):
            for kind, pixels in (("images", np.zeros((*mask.shape, 3), np.uint8)), ("masks", mask)):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / kind / split / f"{number}.png")
    names = [f"c{value}" for value in range(int(mask.max()) + 1)]
    config = {"name": "x", "source": "folder", "root": str(root), "classes": names}
    return open_source(DatasetConfig.model_validate(config | options))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_training_refuses_interpolated_ids_with_the_line_that_allows_them(kind, tmp_path):
    mask = resized(stored(areas(8), GAPS, kind), "bilinear x0.7")
    with pytest.raises(
        DataError, match=r"'.*0\.png' holds .*interpolation.*thin_classes="
    ) as caught:
        load_split(folder(tmp_path, mask), "train", [64])
    names = str(caught.value).partition("thin_classes=[")[2].partition("]")[0].split(",")
    assert len(load_split(folder(tmp_path, mask, thin_classes=names), "train", [64])) == 2


def test_training_tells_of_ids_that_may_be_interpolated(tmp_path):
    mask, lines = UNCLEAR["boundary"], []
    for _ in range(2):  # also from the cache
        load_split(folder(tmp_path, mask), "train", [64], say=lines.append)
    told = [line for line in lines if "dataset.thin_classes=[c1]" in line]
    assert len(told) == 2
    load_split(folder(tmp_path, mask, thin_classes=["c1"]), "train", [64], say=lines.append)
    assert told == [line for line in lines if "thin" in line]


@pytest.mark.parametrize("mask", [UNCLEAR["boundary"], resized(GRIDS["ids 0..9"], "box x0.5")])
def test_an_import_notes_masks_that_may_be_interpolated(mask):
    table = ClassTable.parse([f"c{value}" for value in range(int(mask.max()) + 1)])
    (note,) = interpolation_note(borders_of(mask), table, [])
    assert "interpolation" in note
    names = note.partition("thin_classes=[")[2].partition("]")[0].split(",")
    assert interpolation_note(borders_of(mask), table, names) == []


def test_an_unknown_thin_class_is_refused(tmp_path):
    source = folder(tmp_path, UNCLEAR["boundary"], thin_classes=["edge"])
    with pytest.raises(ConfigError, match=r"dataset\.thin_classes names 'edge'.*c0, c1, c2"):
        load_split(source, "train", [64])
