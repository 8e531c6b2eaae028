"""Losses equal torch's, smp's and NumPy's; ignored pixels change nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import LovaszLoss

from segtune.config.schema import LossConfig
from segtune.models.losses.cross_entropy import class_weights
from segtune.models.losses.lovasz import lovasz_softmax
from segtune.models.losses.masks import MaskClassificationLoss
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.networks.network import Masks

LOGITS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
TERMS = ["cross_entropy", "dice", "focal", "lovasz"]


def loss_of(terms, **options):
    return SegmentationLoss(LossConfig(terms=terms, **options), [0.7, 0.1, 0.1, 0.1])


def test_cross_entropy_equals_torchs_with_and_without_weights():
    ours = loss_of({"cross_entropy": 1.0})(LOGITS, MASK)
    torch.testing.assert_close(ours, F.cross_entropy(LOGITS, MASK.long()))
    weighted = loss_of({"cross_entropy": 1.0}, class_weights="enet")
    expected = F.cross_entropy(
        LOGITS, MASK.long(), weight=class_weights("enet", [0.7, 0.1, 0.1, 0.1])
    )
    torch.testing.assert_close(weighted(LOGITS, MASK), expected)


@pytest.mark.parametrize("term", TERMS)
def test_predictions_on_ignored_pixels_change_nothing(term):
    mask = MASK.clone()
    mask[:, :4] = 255
    changed = LOGITS.clone()
    changed[:, :, :4] += torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(2)) * 9
    torch.testing.assert_close(
        loss_of({term: 1.0})(LOGITS, mask), loss_of({term: 1.0})(changed, mask)
    )


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
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss = lovasz_softmax(ours, mask)
    expected = LovaszLoss("multiclass", ignore_index=255)(theirs, mask)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_terms_are_summed_with_their_factors():
    both = loss_of({"cross_entropy": 2.0, "dice": 0.5})(LOGITS, MASK)
    cross_entropy = loss_of({"cross_entropy": 1.0})(LOGITS, MASK)
    dice = loss_of({"dice": 1.0})(LOGITS, MASK)
    torch.testing.assert_close(both, 2 * cross_entropy + 0.5 * dice)


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


def test_only_hard_pixels_count_and_borders_count_more():
    logits, mask = torch.zeros(1, 2, 1, 4), torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    logits[0, 0] = torch.tensor([3.0, 1.0, 1.0, 0.0])
    each = torch.nn.functional.cross_entropy(
        logits[..., :3], mask[..., :3].long(), reduction="none"
    )[0, 0]

    def loss(**more):
        return SegmentationLoss(LossConfig(terms={"cross_entropy": 1.0}, **more), [0.5, 0.5])(
            logits, mask
        )

    assert torch.allclose(loss(ohem_ratio=0.34), each[2])  # one of three
    assert torch.allclose(loss(ohem_ratio=0.67), each[1:].mean())
    assert torch.allclose(loss(boundary=2.0), (each * torch.tensor([1.0, 3.0, 3.0])).sum() / 7)
    nothing = SegmentationLoss(LossConfig(terms={"cross_entropy": 1.0}, ohem_ratio=0.5), [0.5, 0.5])
    assert float(nothing(logits, torch.full_like(mask, 255))) == 0.0


SHARES = [0.4, 0.3, 0.2, 0.1, 0.0]
SHOWN = torch.tensor(
    [[[0, 0, 1, 1, 255, 255], [0, 3, 3, 1, 1, 255], [0, 3, 3, 3, 1, 1]]] * 2, dtype=torch.uint8
)
NUMBERS = torch.randn(2, 5, 3, 6, generator=torch.Generator().manual_seed(3)) * 3


class ByHand:
    """The terms in NumPy, pixel by pixel as their papers write them, in fp64."""

    def __init__(self, logits: torch.Tensor, mask: torch.Tensor) -> None:
        x = np.moveaxis(logits.double().numpy(), 1, -1).reshape(-1, logits.shape[1])
        ids = mask.numpy().reshape(-1).astype(int)
        self.x, self.ids = x[ids != 255], ids[ids != 255]
        shifted = np.exp(self.x - self.x.max(1, keepdims=True))
        self.p = shifted / shifted.sum(1, keepdims=True)
        self.own = np.arange(len(self.ids)), self.ids
        self.shown = sorted(set(self.ids.tolist()))
        self.weight = 1 / np.log(1.10 + np.array(SHARES))

    def cross_entropy(self) -> float:
        return float(np.mean(-np.log(self.p[self.own])))

    def weighted(self) -> float:
        weight = self.weight[self.ids]
        return float(np.sum(weight * -np.log(self.p[self.own])) / weight.sum())

    def each_smoothed(self) -> np.ndarray:
        """With class weights and a smoothing of 0.1, as torch documents it."""
        logs = -np.log(self.p)
        return 0.9 * self.weight[self.ids] * logs[self.own] + 0.1 / 5 * (logs * self.weight).sum(1)

    def smoothed(self) -> float:
        return float(self.each_smoothed().sum() / self.weight[self.ids].sum())

    def ohem_ratio(self) -> float:
        """Half of the pixels, by their cross-entropy without weights."""
        losses = -np.log(self.p[self.own])
        chosen = np.argsort(-losses)[: len(losses) // 2]
        weight = self.weight[self.ids]
        return float((losses * weight)[chosen].sum() / weight[chosen].sum())

    def dice(self) -> float:
        scores = []
        for c in self.shown:
            truth = self.ids == c
            scores.append(1 - 2 * self.p[truth, c].sum() / (self.p[:, c].sum() + truth.sum()))
        return float(np.mean(scores))

    def focal(self) -> float:
        """Each class against all others (Lin et al., 2017, eq. 4): mean over classes and pixels."""
        chance = 1 / (1 + np.exp(-self.x))
        truth = self.ids[:, None] == np.arange(5)
        right = np.where(truth, chance, 1 - chance)
        return float(np.mean((1 - right) ** 2 * -np.log(right)))

    def lovasz(self) -> float:
        """Sorted errors times their increase of the Jaccard loss (Berman et al., 2018, eq. 8)."""
        losses = []
        for c in self.shown:
            truth = self.ids == c
            errors = np.where(truth, 1 - self.p[:, c], self.p[:, c])
            order, before, total = np.argsort(-errors), 0.0, 0.0
            for count in range(1, len(order) + 1):
                wrong = order[:count]
                missed, added = truth[wrong].sum(), (~truth[wrong]).sum()
                jaccard = 1 - (truth.sum() - missed) / (truth.sum() + added)
                total += errors[order[count - 1]] * (jaccard - before)
                before = jaccard
            losses.append(total)
        return float(np.mean(losses))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("by_hand", "terms", "options"),
    [
        ("cross_entropy", {"cross_entropy": 1.0}, {}),
        ("weighted", {"cross_entropy": 1.0}, {"class_weights": "enet"}),
        ("smoothed", {"cross_entropy": 1.0}, {"class_weights": "enet", "label_smoothing": 0.1}),
        (
            "smoothed",
            {"cross_entropy": 1.0},
            {"class_weights": "enet", "label_smoothing": 0.1, "boundary": 1e-9},
        ),
        ("ohem_ratio", {"cross_entropy": 1.0}, {"class_weights": "enet", "ohem_ratio": 0.5}),
        ("dice", {"dice": 1.0}, {}),
        ("focal", {"focal": 1.0}, {}),
        ("lovasz", {"lovasz": 1.0}, {}),
    ],
)
def test_each_term_equals_numpys_with_ignored_pixels_and_absent_classes(
    by_hand, terms, options, dtype
):
    """Classes 2 and 4 do not occur. A step in bf16 gives bf16 logits, under its autocast."""
    logits = NUMBERS.to(dtype)
    loss = SegmentationLoss(LossConfig(terms=terms, **options), SHARES)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        ours = loss(logits, SHOWN)
    assert ours.dtype == torch.float32
    assert float(ours) == pytest.approx(getattr(ByHand(logits, SHOWN), by_hand)(), rel=1e-5)


@pytest.mark.parametrize("shown", [1, 2, 11])
def test_dice_of_a_wholly_wrong_crop_is_one_however_many_classes_it_shows(shown):
    mask = (torch.arange(64).view(1, 8, 8) % shown).to(torch.uint8)
    wrong = F.one_hot((mask.long() + 1) % 12, 12).permute(0, 3, 1, 2) * 60.0
    loss = SegmentationLoss(LossConfig(terms={"dice": 1.0}), [1 / 12] * 12)
    assert float(loss(wrong, mask)) == pytest.approx(1.0)


def test_the_loss_of_masks_is_the_same_under_autocast():
    predictions = [Masks(torch.randn(2, 6, 4), 9 * torch.randn(2, 6, 16, 16))]
    mask = torch.randint(0, 3, (2, 64, 64)).to(torch.uint8)
    loss, costs = MaskClassificationLoss(3, 512), []
    plain = loss._costs
    loss._costs = lambda *arguments: costs.append(plain(*arguments)) or costs[-1]
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss(predictions, mask)
    assert torch.equal(*costs)


@pytest.mark.parametrize(
    ("term", "options"),
    [(t, {}) for t in TERMS]
    + [("cross_entropy", {"boundary": 1.0}), ("cross_entropy", {"ohem_ratio": 0.5})],
)
def test_a_batch_without_a_region_costs_nothing(term, options):
    """A labeler's regions are (1, C, 1, R) and may be none."""
    loss = SegmentationLoss(LossConfig(terms={term: 1.0}, **options), [0.25] * 4)
    assert float(loss(torch.zeros(1, 4, 1, 0), torch.zeros(1, 1, 0, dtype=torch.uint8))) == 0.0


@pytest.mark.parametrize(
    ("terms", "options"),
    [({term: 1.0}, {}) for term in TERMS]
    + [({"cross_entropy": 1.0}, {"class_weights": "enet", "boundary": 2.0, "ohem_ratio": 0.5})],
)
def test_no_term_depends_on_the_place_of_pixels(terms, options):
    """The loss stays when images are mirrored, reordered or padded with ignored pixels."""
    loss = SegmentationLoss(LossConfig(terms=terms, **options), SHARES)
    expected = loss(NUMBERS, SHOWN)
    for dims in ((-1,), (-2,), (0,)):
        torch.testing.assert_close(loss(NUMBERS.flip(dims), SHOWN.flip(dims)), expected)
    padded = F.pad(NUMBERS, (2, 3, 1, 4)), F.pad(SHOWN, (2, 3, 1, 4), value=255)
    torch.testing.assert_close(loss(*padded), expected)
