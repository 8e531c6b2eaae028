"""Edits on images whose every pixel is known."""

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from segtune.classes import ClassTable
from segtune.inference.regions.regions import find_regions
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.edits import Edit
from segtune.inference.workflow.edits.common import Camera, soft_alpha
from segtune.inference.workflow.edits.driving import free_road

CLASSES = ClassTable.parse(["sky", "road", "car", "grass"])
SKY, ROAD, CAR, GRASS = range(4)
CAMERA = {"height": 1.5, "focal": 1.0, "horizon": 0.5}


def street(*cars: tuple[int, int, int, int], grass_to: int = 0) -> tuple[Segmentation, list]:
    """Sky over road, 120 x 160, with red cars (left, top, width, height) and grass on the left."""
    mask = np.full((120, 160), SKY, np.uint8)
    mask[60:] = ROAD
    mask[60:, :grass_to] = GRASS
    for left, top, width, height in cars:
        mask[top : top + height, left : left + width] = CAR
    colours = np.array([[120, 170, 230], [90, 90, 95], [200, 30, 30], [60, 150, 60]], np.uint8)
    noise = np.random.default_rng(0).integers(-4, 5, (*mask.shape, 1))
    image = (colours[mask] + noise).clip(0, 255).astype(np.uint8)
    segmentation = Segmentation(image, mask, np.ones(mask.shape, np.float32), CLASSES)
    return segmentation, find_regions(mask, segmentation.confidence, CLASSES, "components")


def edit(**config):
    return TypeAdapter(Edit).validate_python(config)


def test_a_cut_out_is_opaque_inside_clear_outside_and_soft_between():
    segmentation, regions = street((50, 50, 40, 30))
    picture, facts = edit(do="cut_out", of=["car"]).apply(segmentation.image, segmentation, regions)
    alpha = picture[..., 3]
    assert (
        picture.shape == (120, 160, 4)
        and (alpha[58:72, 58:82] > 250).all()
        and (alpha[:40] == 0).all()
    )
    assert facts["opaque_share"] == pytest.approx(40 * 30 / alpha.size, rel=0.1)
    assert np.abs(picture[60:70, 60:80, :3].astype(int) - [200, 30, 30]).max() < 12


def test_matting_finds_an_edge_that_the_mask_missed_by_two_pixels():
    segmentation, _ = street((50, 50, 40, 30))
    loose = np.zeros(segmentation.mask.shape, bool)
    loose[48:82, 48:92] = True  # two pixels too large on each side
    alpha = soft_alpha(segmentation.image, loose, 5)
    truth = segmentation.mask == CAR
    assert np.abs(alpha - truth).mean() < 0.3 * np.abs(loose - truth.astype(float)).mean()


def test_blurring_the_rest_leaves_the_subject_as_it_was():
    segmentation, regions = street((50, 50, 40, 30))
    picture, _ = edit(do="blur", of=["car"], rest=True, sigma=4).apply(
        segmentation.image, segmentation, regions
    )
    assert np.array_equal(picture[58:72, 58:82], segmentation.image[58:72, 58:82])
    assert picture[100:, :40, 0].std() < 0.5 * segmentation.image[100:, :40, 0].std()
    red = picture[:, :, 0].astype(int) - picture[:, :, 1]
    assert red[40:44, 50:90].max() < 20  # the subject does not bleed into the blur


def test_a_background_is_replaced_and_a_cleared_one_stays_clear():
    segmentation, regions = street((50, 50, 40, 30))
    picture, _ = edit(do="replace", of=["car"], rest=True, color=(0, 255, 0)).apply(
        segmentation.image, segmentation, regions
    )
    assert (picture[:40] == (0, 255, 0)).all() and picture[65, 70, 0] > 180


def test_removing_paints_over_what_was_there():
    segmentation, regions = street((50, 70, 40, 30))
    picture, facts = edit(do="remove", of=["car"]).apply(segmentation.image, segmentation, regions)
    assert len(facts["removed"]) == 1
    assert np.abs(picture[72:98, 52:88].astype(int) - [90, 90, 95]).mean() < 12
    assert np.array_equal(picture[:60], segmentation.image[:60])


def test_a_moved_object_is_gone_here_and_there_there():
    segmentation, regions = street((50, 70, 40, 30))
    picture, facts = edit(do="move", of=["car"], by=(0.25, 0.0)).apply(
        segmentation.image, segmentation, regions
    )
    assert facts["by"] == [40, 0]
    assert picture[85, 110, 0] > 180 and picture[85, 60, 0] < 120
    unmoved, none = edit(do="move", of=["car"], by=(0.25, 0.0)).apply(segmentation.image, *street())
    assert none == {"moved": None} and np.array_equal(unmoved, segmentation.image)


def test_road_behind_an_obstacle_is_not_free():
    road = np.ones((6, 4), bool)
    road[0] = False
    road[2:4, 1] = False
    free = free_road(road)
    assert free[:, 0].tolist() == [False, True, True, True, True, True]
    assert free[:, 1].tolist() == [False, False, False, False, True, True]


def test_free_metres_end_at_the_car_ahead_and_the_distance_is_the_cameras():
    segmentation, regions = street((70, 70, 20, 20), (5, 62, 10, 8))
    picture, facts = edit(do="free_space", camera=CAMERA, obstacles=["car"]).apply(
        segmentation.image, segmentation, regions
    )
    free_space = facts.get("free_space", facts)
    expected = 1.0 * 160 * 1.5 / (90 + 0.5 - 60)  # the row under the car's foot
    assert free_space["free_metres"] == pytest.approx(expected, abs=0.05)
    near, far = free_space["obstacles"]
    assert near["metres"] < far["metres"] and near["on_road"] and far["on_road"]
    assert free_space["counts"] == {"sky": 1, "road": 1, "car": 2}
    assert (
        picture.shape == segmentation.image.shape and picture[110, 80, 1] > picture[110, 80, 0] + 30
    )


def test_what_stands_on_grass_is_not_on_the_road():
    segmentation, regions = street((5, 70, 20, 20), grass_to=60)
    _, facts = edit(do="free_space", camera=CAMERA, obstacles=["car"]).apply(
        segmentation.image, segmentation, regions
    )
    assert [o["on_road"] for o in facts["obstacles"]] == [False]


def test_ground_and_pixel_are_each_others_inverse():
    camera = Camera(**CAMERA)
    x, z = camera.ground(30.0, 90.0, (120, 160))
    u, v = camera.pixel(x, 0.0, z, (120, 160))
    assert (float(u), float(v)) == pytest.approx((30.0, 90.0))


def test_the_path_goes_around_the_car_and_keeps_clear():
    segmentation, regions = street((60, 66, 40, 30))
    costs = edit(
        do="cost_map", costs={"road": 1.0}, range=16, width=12, clearance=0.6, camera=CAMERA
    )
    grid, seen = costs.grid(segmentation, regions)
    picture, facts = costs.apply(segmentation.image, segmentation, regions)
    path = costs.plan(grid)
    assert all(np.isfinite(grid[cell]) for cell in path) and len(path) > 20
    assert path[-1][0] < path[0][0]  # ahead
    x = np.array(facts["path"])[:, 0]
    assert np.abs(x).max() > 1.0  # around it, not through
    assert picture.shape[0] == 120 and picture.shape[1] > 160
    blocked = np.argwhere(seen & ~np.isfinite(grid))
    gaps = [np.hypot(*(blocked - cell).T).min() * 0.2 for cell in path]
    assert min(gaps) > 0.2


def test_grass_is_crossed_only_where_it_pays():
    segmentation, regions = street(grass_to=80)
    dear = edit(
        do="cost_map",
        costs={"road": 1.0, "grass": 50.0},
        range=16,
        width=12,
        goal=(-0.5, 10.0),
        camera=CAMERA,
    )
    _, facts = dear.apply(segmentation.image, segmentation, regions)
    assert sum(x < -0.2 for x, _ in facts["path"]) <= 3
    cheap = edit(
        do="cost_map", costs={"road": 1.0}, range=16, width=12, goal=(-3.0, 10.0), camera=CAMERA
    )
    _, facts = cheap.apply(segmentation.image, segmentation, regions)
    assert min(x for x, _ in facts["path"]) > -0.3  # what has no cost is an obstacle


def test_without_ground_there_is_no_path():
    segmentation, _ = street()
    _, facts = edit(do="cost_map", costs={"road": 1.0}, camera=CAMERA).apply(
        segmentation.image, segmentation, []
    )
    assert facts["path"] == [] and facts["path_cost"] == 0


def test_a_box_stands_behind_the_nearer_car_and_before_the_farther_one():
    near, far = (
        (70, 80, 12, 30),
        (82, 58, 12, 8),
    )  # feet at 4.8 m and 36 m, the box at 8 m between x -1 and 1
    segmentation, regions = street(near, far)
    place = edit(do="place", at=(0.0, 8.0), size=(2, 1.5, 1), color=(0, 255, 0), camera=CAMERA)
    picture, facts = place.apply(segmentation.image, segmentation, regions)
    green = (picture[..., 1] > 180) & (picture[..., 0] < 60)
    assert facts["placed"] and len(facts["hidden_by"]) == 1 and 0.5 < facts["visible_share"] < 1
    assert (
        green[64, 88] and not green[84:88, 72:80].any()
    )  # hides the far one, is hidden by the near one
    assert np.array_equal(picture[:30], segmentation.image[:30])


def test_nothing_stands_on_the_sky():
    segmentation, regions = street()
    high = edit(do="place", at=(0.0, 8.0), camera={**CAMERA, "height": 40.0})
    picture, facts = high.apply(segmentation.image, segmentation, regions)
    assert not facts["placed"] and np.array_equal(picture, segmentation.image)


def test_a_picture_can_stand_there_instead(tmp_path):
    Image.new("RGBA", (20, 40), (0, 0, 255, 255)).save(tmp_path / "man.png")
    segmentation, regions = street()
    place = edit(
        do="place",
        at=(0.0, 8.0),
        size=(1.0, 1.8, 1.0),
        sprite=str(tmp_path / "man.png"),
        camera=CAMERA,
    )
    picture, facts = place.apply(segmentation.image, segmentation, regions)
    rows = np.flatnonzero((picture[:, 80] == (0, 0, 255)).all(1))
    assert facts["visible_share"] == pytest.approx(1.0)
    assert len(rows) == pytest.approx(160 * 1.8 / 8, abs=3)  # focal x tall / away


EDITS = [
    {"do": "blur", "of": ["car"], "rest": True},
    {"do": "replace", "of": ["sky"]},
    {"do": "remove", "of": ["car"]},
    {"do": "move", "of": ["car"], "by": (0.1, 0.0)},
    {"do": "free_space", "obstacles": ["car"]},
    {"do": "place", "at": (0.0, 8.0), "camera": CAMERA},
]


@pytest.mark.parametrize("config", EDITS, ids=lambda e: e["do"])
def test_an_edit_after_a_cut_out_keeps_it_cut_out(config):
    segmentation, regions = street((50, 50, 40, 30))
    cut, _ = edit(do="cut_out", of=["car", "road"]).apply(segmentation.image, segmentation, regions)
    picture, _ = edit(**config).apply(cut, segmentation, regions)
    assert picture.shape == cut.shape and picture.dtype == np.uint8
    assert (picture[100:, :, 3] > 250).all()  # the road stays
    if config["do"] in ("remove", "move", "free_space"):
        assert np.array_equal(picture[..., 3], cut[..., 3])


@pytest.mark.parametrize("config", EDITS, ids=lambda e: e["do"])
def test_edits_of_what_is_not_there_leave_a_picture(config):
    segmentation, _ = street()
    picture, facts = edit(**config).apply(segmentation.image, segmentation, [])
    assert picture.shape == segmentation.image.shape and isinstance(facts, dict)
