"""The margin of a label issue, counted by hand."""

import pytest
import torch

from segtune.evaluation.label_issues import _margin


def test_the_margin_is_the_mean_distance_from_the_labelled_to_the_predicted_class():
    # agreement, another class, an ignored pixel, a tie
    probabilities = torch.tensor([[[0.9, 0.2, 0.1, 0.5]], [[0.1, 0.8, 0.9, 0.5]]])
    labels = torch.tensor([[0, 0, 255, 0]])
    margin, worst = _margin(probabilities, labels)
    assert margin == pytest.approx((0.8 - 0.2) / 3) and worst == (0, 1)


@pytest.mark.parametrize("label", [1, 255])
def test_an_image_without_a_contradiction_has_no_worst_class(label):
    probabilities = torch.tensor([[[0.3]], [[0.7]]])
    assert _margin(probabilities, torch.tensor([[label]])) == (0.0, None)
