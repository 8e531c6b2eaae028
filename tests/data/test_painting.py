"""Areas are painted as full masks in order would be, in the memory of their boxes."""

import tracemalloc

import numpy as np
import pytest

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats import areas as areas_module
from segtune.data.formats.areas import Area, class_rows, draw_areas, paint
from segtune.data.formats.overlaps import hidden_pixels
from segtune.data.formats.shapes import polygons

SIZE = (40, 60)
ORDERS = ["auto", "largest_first", "file", "file_reversed", "z"]


def random_areas(seed: int) -> list[Area]:
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(30):
        center, reach = rng.uniform(-5, 65, 2), rng.uniform(0, 15)
        points = (center + rng.uniform(-reach, reach, (4, 2))).ravel().tolist()
        concept = None if rng.random() < 0.1 else str(rng.choice(["road", "car", "tree"]))
        flags = {"crowd": rng.random() < 0.2, "beneath": rng.random() < 0.2}
        areas.append(Area(concept, polygons([points]), z=int(rng.integers(3)), **flags))
    return areas


def painted_in_full(areas: list[Area], ids: dict[str, int], options: AnnotationsConfig):
    """Mask, and (covered, hidden) pixels of each class, from one full mask for each area."""
    drawn = [(area, area.draw(*SIZE)) for area in areas]
    keys = {
        "largest_first": lambda place: -drawn[place][1].sum(),
        "file": lambda place: place,
        "file_reversed": lambda place: -place,
        "z": lambda place: drawn[place][0].z,
    }
    order = "z" if options.order == "auto" else options.order
    places = sorted(sorted(range(len(drawn)), key=keys[order]), key=lambda p: not areas[p].beneath)
    mask = np.zeros(SIZE, np.uint8)
    for place in places:
        area, bits = drawn[place]
        is_ignored = area.concept is None or (area.crowd and options.crowd == "ignore")
        mask[bits] = IGNORE_INDEX if is_ignored else ids[str(area.concept)]
    counts = np.zeros((2, len(ids)), int)
    for name, class_id in ids.items():
        own = [bits for area, bits in drawn if area.concept == name and not area.crowd]
        covered = np.any(own, axis=0) if own else np.zeros(SIZE, bool)
        counts[:, class_id] = covered.sum(), (covered & (mask != class_id)).sum()
    return mask, counts


@pytest.mark.parametrize("kept_bytes", [1 << 27, 300, 0])
@pytest.mark.parametrize("order", ORDERS)
def test_areas_are_painted_as_full_masks_would_be(order, kept_bytes, monkeypatch):
    monkeypatch.setattr(areas_module, "_KEPT_BYTES", kept_bytes)
    for seed in range(4):
        areas = random_areas(seed)
        crowd = "ignore" if seed % 2 else "class"
        options = AnnotationsConfig(order=order, crowd=crowd)
        rows = class_rows(["road", "car", "tree"], areas, options)
        ids = {str(row["name"]): index for index, row in enumerate(rows)}
        drawn = draw_areas(areas, SIZE)
        mask, _ = paint(drawn, SIZE, rows, options)
        expected, counts = painted_in_full(areas, ids, options)
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(hidden_pixels(drawn, mask, rows, options)[:2], counts)


def test_areas_without_pixels_and_areas_outside_paint_nothing():
    areas = [Area("car", polygons([[70, 70, 90, 70, 90, 90]])), Area("car", polygons([[5] * 6]))]
    options = AnnotationsConfig()
    rows = class_rows(["car"], areas, options)
    mask, _ = paint(draw_areas(areas, SIZE), SIZE, rows, options)
    assert not mask.any()


@pytest.mark.parametrize("reach", [20, 400])
def test_many_areas_of_a_large_image_fit_into_memory(reach):
    height = width = 1000
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000 - reach, (400, 2)).tolist()
    areas = []
    for x, y in corners:
        points = [x, y, x + reach, y, x + reach, y + reach, x, y + reach]
        areas.append(Area("car", polygons([points])))
    options = AnnotationsConfig()
    rows = class_rows(["car"], areas, options)
    tracemalloc.start()
    try:
        drawn = draw_areas(areas, (height, width))
        mask, _ = paint(drawn, (height, width), rows, options)
        hidden_pixels(drawn, mask, rows, options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert mask.any()
    assert peak < 150e6  # one full mask for each area would take 400 MB
