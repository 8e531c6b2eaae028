"""The encoder-only mask transformer: schedule, attention, matching of queries, logits."""

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.models.build import build
from segtune.models.losses.masks import MaskClassificationLoss, assign
from segtune.models.networks.eomt import Eomt, Masks, mask_probability

TINY = {"architecture": "Eomt", "encoder": "test_vit", "num_queries": 6, "num_blocks": 3}


def test_the_mask_schedule_is_the_papers():
    # ADE20K panoptic, 31 epochs of 1,263 steps: block i is annealed with power 0.9 from step
    # 6520 (i + 1) to 6520 (i + 2)
    total, starts, ends = 39120, (6520, 13040, 19560, 26080), (13040, 19560, 26080, 32600)
    for block, (start, end) in enumerate(zip(starts, ends, strict=True)):
        for step in range(0, total, 1630):
            progress = min(1.0, max(0.0, (step - start) / (end - start)))
            probability = mask_probability(block, 4, step / total)
            assert probability == pytest.approx((1 - progress) ** 0.9, abs=1e-9)


def test_masked_attention_of_a_query_covers_its_patches_and_all_other_tokens():
    net = Eomt(3, "test_vit", num_queries=2, num_blocks=2)
    masks = torch.full((1, 2, 8, 12), -9.0)
    masks[0, 0, :4, :8] = 9.0  # the first query's mask: the upper left; the second's is empty
    before = net._first_patch
    allowed = net._attention_mask(masks, (2, 3), before + 6, probability=1.0)
    assert allowed.shape == (1, 1, before + 6, before + 6)
    assert allowed[0, 0, 0, before:].tolist() == [True, True, False, False, False, False]
    assert allowed[0, 0, 1:].all() and allowed[0, 0, 0, :before].all()
    assert net._attention_mask(masks, (2, 3), before + 6, probability=0.0) is None


def test_no_attention_is_masked_at_the_end_of_the_training():
    net = Eomt(3, "test_vit", num_queries=2, num_blocks=3).train()
    net.advance(0.0)
    assert net.mask_probabilities == (1.0, 1.0, 1.0)
    net.advance(1.0)
    assert net.mask_probabilities == (0.0, 0.0, 0.0)


def test_logits_are_log_semantic_scores():
    torch.manual_seed(0)
    model = build(TINY, 4).eval()
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        last = model.predictions(image)[0][-1]
        logits = model.net(model.normalize(image))
    expected = torch.zeros(2, 4, *last.masks.shape[-2:])
    for query in range(6):
        share = last.classes[:, query].softmax(-1)[:, :-1]
        expected += share[..., None, None] * last.masks[:, query].sigmoid()[:, None]
    assert torch.allclose(logits.exp(), expected, rtol=1e-4)


def test_images_of_any_size_give_logits_of_that_size():
    model = build(TINY, 4).eval()
    image = torch.zeros(1, 3, 50, 75, dtype=torch.uint8)
    assert model(image).shape == (1, 4, 50, 75)
    predictions, _ = model.train().predictions(image)
    assert len(predictions) == 4  # before three blocks, and at the end


def test_queries_are_matched_at_the_least_cost():
    torch.manual_seed(1)
    loss = MaskClassificationLoss(3, num_points=400)
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[:, 3:] = 1
    mask[:2] = 2
    prediction = Masks(torch.randn(4, 4), torch.randn(4, 8, 8))
    costs = loss._costs(Masks(prediction.classes[None], prediction.masks[None]), mask[None])
    _, queries, labels = assign(costs[None].numpy())[0].tolist()
    query_of = dict(zip(labels, queries, strict=True))

    def cost(query: int, label: int) -> float:
        truth = (mask == label).float()
        values = F.interpolate(prediction.masks[None, query : query + 1], (8, 8))[0, 0]
        cross = F.binary_cross_entropy_with_logits(values, truth)
        share = values.sigmoid()
        dice = 1 - (2 * (share * truth).mean() + 1 / 400) / (share.mean() + truth.mean() + 1 / 400)
        by_class = prediction.classes[query].softmax(-1)[label]
        return float(-2 * by_class + 5 * cross + 5 * dice)

    costs = {p: sum(cost(q, label) for label, q in enumerate(p)) for p in permutations(range(4), 3)}
    ours = costs[tuple(query_of[label] for label in range(3))]
    # the points are random: another assignment may be almost as cheap
    assert ours <= min(costs.values()) + 0.2


def test_a_perfect_prediction_costs_almost_nothing_and_ignored_pixels_do_not_count():
    mask = torch.zeros(1, 16, 16, dtype=torch.uint8)
    mask[0, 8:] = 1
    classes = torch.full((1, 3, 3), -20.0)
    classes[0, 0, 1] = classes[0, 1, 0] = classes[0, 2, 2] = 20.0
    masks = torch.full((1, 3, 16, 16), -20.0)
    masks[0, 0, 8:] = masks[0, 1, :8] = 20.0
    loss = MaskClassificationLoss(2, num_points=256)
    torch.manual_seed(0)
    # not 0: points between two pixels of the border are uncertain
    assert float(loss([Masks(classes, masks)], mask)) < 0.5
    spoilt = mask.clone()
    spoilt[0, 4:12] = 255
    masks[0, :, 4:12] = 0.0  # uncertain on ignored pixels
    assert float(loss([Masks(classes, masks)], spoilt)) < 0.5
    nothing = loss([Masks(classes, masks)], torch.full_like(mask, 255))
    assert torch.isfinite(nothing)


def test_a_mask_loss_without_queries_and_unfit_encoders_are_refused():
    with pytest.raises(ConfigError, match="take eomt"):
        compose(["template=unet", "loss=masks"])
    with pytest.raises(ConfigError, match="known|did you mean"):
        Eomt(3, "resnet18")
    with pytest.raises(ConfigError, match="6 blocks"):
        Eomt(3, "test_vit", num_blocks=7)
