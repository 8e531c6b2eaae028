"""Videos: smoothing lowers flicker and keeps mIoU; tracks follow objects."""

import cv2
import numpy as np
import pytest
import torch

from segtune.classes import ClassTable
from segtune.data.street.canvas import CLASSES as STREET
from segtune.data.street.scenes import Scene
from segtune.errors import ConfigError
from segtune.inference.regions.regions import find_regions
from segtune.inference.smoothing import Smoother, Tracker
from segtune.measure.metrics import count_pairs, score


def drive(method: str, seed: int, frames: int = 24) -> tuple[float, float, float, float]:
    """Return flicker before and after, and mIoU before and after, of a noisy model of a street.

    The model knows the truth; each frame adds new noise in spots of a few pixels.
    """
    scene, smoother, rng = Scene(seed), Smoother(method), np.random.default_rng(seed)
    matrices = torch.zeros(2, len(STREET), len(STREET), dtype=torch.int64)
    for number in range(frames):
        view = scene.render(96, 128, number / 12.5)
        noise = rng.normal(0, 1, (len(STREET), 96, 128)).astype(np.float32)
        spots = np.stack([cv2.GaussianBlur(n, (0, 0), 2) for n in noise]) * 4
        truth = torch.from_numpy(view.mask)
        logits = torch.nn.functional.one_hot(truth.long(), len(STREET)).permute(
            2, 0, 1
        ) * 2.0 + torch.from_numpy(spots)
        smoothed = smoother.step(logits[None], view.image)
        for matrix, scores in zip(matrices, (logits, smoothed[0]), strict=True):
            matrix += count_pairs(scores.argmax(0).to(torch.uint8), truth, len(STREET))
    before, after = (score(m).miou for m in matrices)
    return smoother.before.share, smoother.after.share, before, after


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_smoothing_along_the_flow_lowers_flicker_by_a_third_at_no_loss_of_miou(seed):
    before, after, miou, smoothed_miou = drive("flow", seed)
    assert before > 0.02  # there is something to smooth
    assert after <= 0.7 * before
    assert smoothed_miou >= miou - 0.002


def test_a_pixel_that_changes_its_appearance_forgets_its_history():
    smoother = Smoother("flow")
    image = np.full((32, 32, 3), 200, np.uint8)
    old, new = torch.tensor([5.0, 0.0]), torch.tensor([0.0, 1.0])
    smoother.step(old.view(1, 2, 1, 1).expand(1, 2, 32, 32), image)
    kept = smoother.step(new.view(1, 2, 1, 1).expand(1, 2, 32, 32), image)
    torch.testing.assert_close(kept[0, :, 16, 16], 0.5 * old + 0.5 * new)
    other = smoother.step(
        new.view(1, 2, 1, 1).expand(1, 2, 32, 32), np.full((32, 32, 3), 40, np.uint8)
    )
    torch.testing.assert_close(other[0, :, 16, 16], new)


def test_smoothing_follows_moving_objects():
    smoother = Smoother("flow")
    texture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (64, 160), dtype=np.uint8), (0, 0), 2
    )
    square = torch.zeros(1, 2, 64, 160)
    square[:, 1, 20:44, 60:84] = 1
    for step in range(6):
        image = np.repeat(np.roll(texture, 4 * step, 1)[..., None], 3, 2)
        smoothed = smoother.step(square.roll(4 * step, -1), image)
    torch.testing.assert_close(
        smoothed[0, 1].argmax(1)[32].float(), torch.tensor(80.0), atol=3, rtol=0
    )
    assert smoother.after.share < 0.01


def test_an_unknown_smoothing_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'exponential'"):
        Smoother("exponentail")


CLASSES = ClassTable.parse(["road", "car"])


def frame(*boxes: tuple[int, int, int, int]) -> list:
    mask = np.full((60, 100), 255, np.uint8)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = 1
    return find_regions(mask, np.ones(mask.shape, np.float32), CLASSES, "components")


def test_tracks_follow_two_cars_that_change_their_order_by_size():
    tracker = Tracker()
    first = tracker.update(frame((5, 10, 20, 20), (60, 30, 18, 18)))
    second = tracker.update(frame((8, 10, 17, 17), (62, 30, 21, 21)))
    by_place = {r.box[0] < 40: r.track for r in first}
    assert {r.box[0] < 40: r.track for r in second} == by_place and len(set(by_place.values())) == 2


def test_a_car_hidden_for_some_frames_keeps_its_number_and_one_gone_for_long_does_not():
    tracker = Tracker()
    (car,) = tracker.update(frame((5, 10, 20, 20)))
    for _ in range(3):
        tracker.update(frame())
    assert tracker.update(frame((7, 10, 20, 20)))[0].track == car.track
    for _ in range(20):
        tracker.update(frame())
    assert tracker.update(frame((7, 10, 20, 20)))[0].track != car.track


@pytest.mark.parametrize("gone", [range(2, 3), range(1, 12)], ids=["for a frame", "for long"])
def test_a_resumed_tracker_continues_its_tracks(gone):
    frames = [
        frame((5 + n, 10, 20, 20), (60, 30, 18, 18))[: 1 + (n not in gone)] for n in range(16)
    ]
    whole = Tracker()
    expected = [whole.update(f) for f in frames]
    resumed = Tracker()
    for stored in expected[:12]:
        resumed.resume(stored)
    assert [resumed.update(f) for f in frames[12:]] == expected[12:]
    assert (len({r.track for f in expected for r in f}) == 3) == (len(gone) > 8)
