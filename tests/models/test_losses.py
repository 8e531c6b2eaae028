"""Losses against torch's own, by hand, and what ignored pixels may not do."""

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import LovaszLoss

from segtune.models.losses import SegmentationLoss, class_weights
from segtune.models.lovasz import lovasz_softmax
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
    expected = F.cross_entropy(LOGITS, MASK.long(), weight=class_weights("enet", [0.7, 0.1, 0.1, 0.1]))
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


def test_lovasz_of_a_quarter_equals_that_of_all_where_neighbours_agree():
    logits, mask = (x.repeat_interleave(2, -1).repeat_interleave(2, -2) for x in (LOGITS, MASK))
    whole, quarter = loss_of({"lovasz": 1.0}), loss_of({"lovasz": 1.0}, lovasz_stride=2)
    for seed in range(4):
        torch.manual_seed(seed)
        torch.testing.assert_close(quarter(logits, mask), whole(logits, mask))
    alone = torch.full((1, 1, 3), 255, dtype=torch.uint8)
    assert float(quarter(LOGITS[:1, :, :1, :3], alone)) == 0.0


@pytest.mark.parametrize("ignored", [0, 3])
def test_lovasz_equals_smps_and_so_do_its_gradients(ignored):
    mask = MASK.long().clone()
    mask[mask == 2] = 1  # a class that no pixel shows
    mask[:, :ignored] = 255
    ours, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    loss, expected = lovasz_softmax(ours, mask), LovaszLoss("multiclass", ignore_index=255)(theirs, mask)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_terms_are_summed_with_their_factors():
    both = loss_of({"cross_entropy": 2.0, "dice": 0.5})(LOGITS, MASK)
    apart = 2 * loss_of({"cross_entropy": 1.0})(LOGITS, MASK) + 0.5 * loss_of({"dice": 1.0})(LOGITS, MASK)
    torch.testing.assert_close(both, apart)


@pytest.mark.parametrize("rule", ["enet", "inverse", "effective"])
def test_rarer_classes_weigh_more_and_the_mean_is_one(rule):
    weights = class_weights(rule, [0.6, 0.3, 0.09, 0.01])
    assert (weights.diff() >= 0).all() and weights[-1] > weights[0]
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert weights.max() <= 10.001 * weights.min()


def test_effective_weights_are_those_of_the_paper():
    """Cui et al., 2019, equation 2, in plain Python: (1 - b) / (1 - b ** n)."""
    n = [0.8 * 1e5, 0.2 * 1e5]
    plain = [(1 - 0.9999) / (1 - 0.9999**k) for k in n]
    ours = class_weights("effective", [0.8, 0.2])
    assert float(ours[1] / ours[0]) == pytest.approx(plain[1] / plain[0], rel=1e-5)


def test_an_absent_class_does_not_shrink_the_weights_of_the_others():
    weights = class_weights("inverse", [0.5, 0.5, 0.0])
    assert weights[0] == weights[1] and weights[2] <= 10.001 * weights[0]


def test_hard_pixels_alone_count_and_borders_count_more():
    logits, mask = torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    logits[0, 0] = torch.tensor([3.0, 1.0, 1.0, 0.0])
    each = torch.nn.functional.cross_entropy(logits[..., :3], mask[..., :3].long(), reduction="none")[0, 0]

    def loss(**more):
        return SegmentationLoss(LossConfig(terms={"cross_entropy": 1.0}, **more), [0.5, 0.5])(logits, mask)

    assert torch.allclose(loss(hardest=0.34), each[2])  # one of three
    assert torch.allclose(loss(hardest=0.67), each[1:].mean())
    assert torch.allclose(loss(boundary=2.0), (each * torch.tensor([1.0, 3.0, 3.0])).sum() / 7)
    nothing = SegmentationLoss(LossConfig(terms={"cross_entropy": 1.0}, hardest=0.5), [0.5, 0.5])
    assert float(nothing(logits, torch.full_like(mask, 255))) == 0.0
