"""Expected calibration error against torchmetrics, and a case counted by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from segtune.measure.calibration import Calibration


def test_ten_pixels_counted_by_hand():
    confidence = np.full(10, 0.8, np.float32)
    target = np.zeros(10, np.uint8)
    prediction = np.array([0] * 6 + [1] * 4, np.uint8)
    counts = Calibration.count(confidence, prediction, target)
    assert counts.error == pytest.approx(0.2) and counts.points() == [(pytest.approx(0.8), 0.6, 10)]


@pytest.mark.parametrize("seed", range(10))
def test_it_equals_torchmetrics(seed):
    rng = torch.Generator().manual_seed(seed)
    probabilities = (torch.randn(500, 7, generator=rng) * 3).softmax(1)
    target = torch.randint(0, 7, (500,), generator=rng)
    target[:40] = 255
    expected = multiclass_calibration_error(
        probabilities, target, 7, n_bins=15, norm="l1", ignore_index=255
    )
    top, ids = probabilities.max(1)
    found = Calibration.count(top.numpy(), ids.byte().numpy(), target.byte().numpy())
    assert found.error == pytest.approx(float(expected), abs=1e-6)


def test_parts_add_up_and_ignored_pixels_do_not_count():
    rng = np.random.default_rng(0)
    confidence = rng.random((4, 50), np.float32)
    prediction = rng.integers(0, 3, (4, 50)).astype(np.uint8)
    target = rng.integers(0, 3, (4, 50)).astype(np.uint8)
    target[0] = 255
    whole = Calibration.count(confidence, prediction, target)
    rows = zip(confidence, prediction, target, strict=True)
    ignored, *others = [Calibration.count(*row) for row in rows]
    assert sum(others, start=ignored).error == pytest.approx(whole.error)
    assert whole.pixels.sum() == 150 and ignored.error == 0.0
