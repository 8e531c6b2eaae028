"""One bad shape among many is left out and told; more than `dataset.tolerance` are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.api.datasets import check
from segtune.api.importing import import_dataset
from segtune.data.formats.areas import Annotations, draw_areas
from segtune.data.formats.faults import LeftOut, refuse_bad_shapes
from segtune.data.reading.images import read_mask
from segtune.errors import DataError
from tests.data.annotation_sets import H, W
from tests.data.polygon_sets import annotations_of
from tests.data.shape_sets import SHAPE_SETS

LENIENT = "dataset.tolerance=0.5"


def drawn_of(annotations: Annotations) -> tuple[list[Any], list[str]]:
    """The pixels of each shape, by image and class; and the messages on bad shapes."""
    shapes: list[Any] = []
    left_out = LeftOut()
    for image in annotations.images:
        for one in draw_areas(image.areas, (H, W), left_out):
            shapes.append((image.name, one.area.concept, one.area.draw(H, W)))
    return shapes, [*annotations.bad_shapes, *left_out.bad_shapes]


@pytest.mark.parametrize("value", ["x", 3e8, -(10**30)])
@pytest.mark.parametrize("name", SHAPE_SETS)
def test_a_bad_shape_is_left_out_and_all_others_stay(tmp_path, name, value):
    SHAPE_SETS[name](tmp_path / "good")
    SHAPE_SETS[name](tmp_path / "bad", value)
    good, none = drawn_of(annotations_of(tmp_path / "good"))
    shapes, (message,) = drawn_of(annotations_of(tmp_path / "bad", LENIENT))
    assert none == []
    assert str(tmp_path / "bad") in message
    # Cityscapes has the area of ignored pixels and the terrain before it
    del good[2 if name == "cityscapes_polygons" else 0]
    assert [shape[:2] for shape in shapes] == [shape[:2] for shape in good]
    for (_, _, bits), (_, _, expected) in zip(shapes, good, strict=True):
        np.testing.assert_array_equal(bits, expected)


@pytest.mark.parametrize("value", ["x", 3e8])  # found by the reader, and by the drawing
@pytest.mark.parametrize("name", SHAPE_SETS)
def test_more_bad_shapes_than_the_tolerance_are_refused_with_the_key(tmp_path, name, value):
    SHAPE_SETS[name](tmp_path / "set", value)
    message = r"(day|via\.csv|[a-z]+\.(json|xml|csv)).* 1 or more cannot be read; dataset\.tol"
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_count_and_the_first_bad_shapes_are_told_by_import_and_check(tmp_path):
    SHAPE_SETS["coco"](tmp_path / "set", "x")
    lines: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", LENIENT, say=lines.append)
    (note,) = [line for line in lines if "cannot be read and were left out" in line]
    assert note.startswith("1 of 4 shapes cannot be read and were left out (dataset.tolerance=0.5)")
    assert "labels.json' annotations[0] (id 100)" in note
    words = ["dataset=folder", f"dataset.root={tmp_path / 'out'}", "hp.image_size=[48]"]
    checked = check(*words, output=tmp_path / "page")
    assert note in checked.audit.notes
    assert f"note: {note}" in checked.lines()
    assert "annotations[0] (id 100)" in (tmp_path / "page" / "index.html").read_text()
    (mask,) = (tmp_path / "out" / "masks").rglob("day.png")
    assert (read_mask(mask) == 1).sum() == 0  # no car is left there


@pytest.mark.parametrize(
    ("bad", "total", "tolerance", "is_refused"),
    [
        (1, 1000, 0.05, False),
        (50, 1000, 0.05, False),
        (51, 1000, 0.05, True),
        (1, 19, 0.05, True),
        (1, 10**6, 0.0, True),
        (0, 0, 0.0, False),
    ],
)
def test_the_tolerance_is_a_share_of_all_shapes(bad, total, tolerance, is_refused):
    messages = [f"'a.json' annotations[{n}]: it is bad." for n in range(bad)]
    if not is_refused:
        refuse_bad_shapes(messages, total, tolerance)
        return
    with pytest.raises(DataError, match=rf"\[0\].* {total:,} shapes, {bad:,} or more .*tolerance="):
        refuse_bad_shapes(messages, total, tolerance)


def test_a_bad_id_is_no_bad_shape(tmp_path: Path) -> None:
    """A key that is wrong may put labels on another image: no tolerance covers it."""
    SHAPE_SETS["coco"](tmp_path)
    path = tmp_path / "labels.json"
    path.write_text(path.read_text().replace('"category_id": 7', '"category_id": 8', 1))
    with pytest.raises(DataError, match="category_id is 8"):
        annotations_of(tmp_path, "dataset.tolerance=1")
