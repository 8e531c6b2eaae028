"""The confusion matrix and its scores against a case counted by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from segtune.measure.metrics import ConfusionMatrix, count_pairs, score
from segtune.measure.table import EpochCounts, metrics_of


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 180), st.integers(0, 10**6), st.floats(0, 1))
def test_the_matrix_equals_scikit_learns(num_classes, seed, ignored):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 9)), int(rng.integers(1, 9)))
    target = rng.integers(0, num_classes, shape)
    target[rng.random(shape) < ignored] = 255
    prediction = rng.integers(0, num_classes, shape)
    ours = count_pairs(torch.tensor(prediction), torch.tensor(target).to(torch.uint8), num_classes)
    counted = target != 255
    labels = range(num_classes)
    if counted.any():
        expected = confusion_matrix(target[counted], prediction[counted], labels=labels)
    else:
        expected = np.zeros((num_classes, num_classes), int)
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_scores_counted_by_hand():
    #           predicted:   road car  (car is never right, sky absent)
    matrix = torch.tensor([[6, 2, 0], [1, 0, 0], [0, 0, 0]])
    scores = score(matrix)
    assert scores.iou == (6 / 9, 0.0, None)
    assert scores.miou == pytest.approx((6 / 9 + 0) / 2)
    assert scores.pixel_accuracy == pytest.approx(6 / 9)
    assert scores.pixels == (8, 1, 0)


def test_absent_class_does_not_change_miou():
    two = score(torch.tensor([[3, 1], [0, 4]]))
    three = score(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert two.miou == three.miou


def test_batches_add_up_to_the_whole_split():
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (6, 5, 7), generator=rng).to(torch.uint8)
    prediction = torch.randint(0, 4, (6, 5, 7), generator=rng)
    parts = ConfusionMatrix(4)
    for start in range(0, 6, 2):
        parts.update(prediction[start : start + 2], target[start : start + 2])
    assert torch.equal(parts.compute(), count_pairs(prediction, target, 4))


def test_the_inputs_are_not_changed():
    target = torch.tensor([[1, 255]], dtype=torch.uint8)
    count_pairs(torch.tensor([[1, 0]]), target, 2)
    assert target.tolist() == [[1, 255]]


def test_named_metrics_leave_absent_classes_out():
    matrix = np.array([[2, 0], [0, 0]])
    named = metrics_of(EpochCounts(matrix, ("road", "car")), "val/", each_epoch=True)
    means = {"val/miou": 1.0, "val/pixel_accuracy": 1.0, "val/mean_dice": 1.0, "val/fwiou": 1.0}
    assert named == means | {"val/iou/road": 1.0}


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 150), st.integers(0, 10**9), st.floats(0, 1), st.integers(1, 40))
def test_every_figure_equals_plain_numpy(num_classes, seed, ignored, side):
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, num_classes + 1))
    used = rng.permutation(num_classes)[:number]  # the others are absent
    target, prediction = rng.choice(used, (side, side)), rng.choice(used, (side, side))
    target[rng.random(target.shape) < ignored] = 255
    scores = score(
        count_pairs(torch.tensor(prediction), torch.tensor(target).to(torch.uint8), num_classes)
    )
    keep = target != 255
    t, p = target[keep], prediction[keep]
    rows = {"iou": [], "dice": [], "precision": [], "recall": []}
    weighted = 0.0
    for c in range(num_classes):
        is_true, is_predicted = t == c, p == c
        tp = (is_true & is_predicted).sum()
        fp, fn = (~is_true & is_predicted).sum(), (is_true & ~is_predicted).sum()
        rows["iou"].append(tp / (tp + fp + fn) if tp + fp + fn else None)
        rows["dice"].append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None)
        rows["precision"].append(tp / (tp + fp) if tp + fp else None)
        rows["recall"].append(tp / (tp + fn) if tp + fn else None)
        weighted += (tp + fn) * (rows["iou"][-1] or 0.0)
    for name, expected in rows.items():
        figures = getattr(scores, name)
        assert [v is None for v in figures] == [v is None for v in expected]
        defined = [[v for v in row if v is not None] for row in (figures, expected)]
        np.testing.assert_allclose(*defined, atol=1e-9)
    for mean, name in ((scores.miou, "iou"), (scores.mean_dice, "dice")):
        defined = [v for v in rows[name] if v is not None]
        assert mean == pytest.approx(np.mean(defined) if defined else 0.0, abs=1e-9)
    assert scores.pixel_accuracy == pytest.approx((t == p).mean() if t.size else 0.0, abs=1e-9)
    assert scores.fwiou == pytest.approx(weighted / t.size if t.size else 0.0, abs=1e-9)
