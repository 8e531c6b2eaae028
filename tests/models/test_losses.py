"""Losses against torch's own, by hand, and what ignored pixels may not do."""

import pytest
import torch
import torch.nn.functional as F

from segtune.models.losses import SegmentationLoss, enet_weights
from segtune.settings import LossConfig

LOGITS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
TERMS = ["cross_entropy", "dice", "focal", "lovasz"]


def loss_of(terms, **options):
    return SegmentationLoss(LossConfig(terms=terms, **options), [0.7, 0.1, 0.1, 0.1])


def test_cross_entropy_equals_torchs_with_and_without_weights():
    ours = loss_of({"cross_entropy": 1.0})(LOGITS, MASK)
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, MASK.long()))
    weighted = loss_of({"cross_entropy": 1.0}, class_weights="enet")
    expected = F.cross_entropy(LOGITS, MASK.long(), weight=enet_weights([0.7, 0.1, 0.1, 0.1]))
    torch.testing.assert_close(weighted(LOGITS, MASK), expected)


@pytest.mark.parametrize("term", TERMS)
def test_what_is_predicted_on_ignored_pixels_changes_nothing(term):
    mask = MASK.clone()
    mask[:, :4] = 255
    changed = LOGITS.clone()
    changed[:, :, :4] += torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(2)) * 9
    torch.testing.assert_close(loss_of({term: 1.0})(LOGITS, mask), loss_of({term: 1.0})(changed, mask))


@pytest.mark.parametrize("term", TERMS)
def test_a_perfect_prediction_costs_almost_nothing(term):
    perfect = F.one_hot(MASK.long(), 4).permute(0, 3, 1, 2).float() * 60 - 30
    worst = float(loss_of({term: 1.0})(-perfect, MASK))
    assert float(loss_of({term: 1.0})(perfect, MASK)) < 0.01 * worst


@pytest.mark.parametrize("term", TERMS)
def test_a_batch_of_ignored_pixels_alone_gives_a_finite_loss_and_gradient(term):
    logits = LOGITS.clone().requires_grad_()
    loss = loss_of({term: 1.0})(logits, torch.full_like(MASK, 255))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_terms_are_summed_with_their_factors():
    both = loss_of({"cross_entropy": 2.0, "dice": 0.5})(LOGITS, MASK)
    apart = 2 * loss_of({"cross_entropy": 1.0})(LOGITS, MASK) + 0.5 * loss_of({"dice": 1.0})(LOGITS, MASK)
    torch.testing.assert_close(both, apart)
