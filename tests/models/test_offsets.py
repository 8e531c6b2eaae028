"""Class offsets raise the mIoU of other pixels, stay 0 without a gain, and change nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from segtune.measure.metrics import count_pairs, score
from segtune.models.build import build
from segtune.models.labeler import build_labeler
from segtune.models.offsets import best_offsets, class_bias, offset_classes

SHARES = torch.tensor([0.7, 0.2, 0.07, 0.03])


def noisy(number: int = 40_000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a target with a rare class, the target, and two halves."""
    draw = torch.Generator().manual_seed(seed)
    target = torch.multinomial(SHARES, number, replacement=True, generator=draw)
    logits = (
        torch.nn.functional.one_hot(target, 4) * 2.5
        + torch.randn(number, 4, generator=draw)
        + SHARES.log()
    )
    return logits, target, torch.arange(number) % 2


def miou(logits: Tensor, target: Tensor) -> float:
    return score(count_pairs(logits.argmax(1), target, 4)).miou


@pytest.mark.parametrize(
    "shift", [[0.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.5, 1.0], [0.0, 2.0, 0.0, -1.5]]
)
def test_offsets_correct_any_shift_on_other_pixels(shift):
    logits, target, half = noisy()
    offsets = best_offsets(logits + torch.tensor(shift), target, half)
    fresh, truth, _ = noisy(seed=1)
    corrected = miou(fresh + torch.tensor(shift) + offsets, truth)
    assert corrected > miou(fresh + torch.tensor(shift), truth) + 0.005
    assert corrected > miou(fresh, truth) + 0.005  # more than without the shift
    assert abs(float(offsets.sum())) < 1e-5


def test_the_best_step_is_taken():
    logits, target, half = noisy(4_000)
    two = torch.stack([logits[:, 0], logits[:, 1:].max(1).values], 1)
    truth = (target > 0).long()
    offsets = best_offsets(two, truth, half)
    scores = {
        k / 8: score(count_pairs((two[:, 1] + k / 8 > two[:, 0]).long(), truth, 2)).miou
        for k in range(-16, 17)
    }
    # the cost of such offsets is at most two hundredths of a point
    assert scores[float(offsets[1] - offsets[0])] >= max(scores.values()) - 2e-4


def test_a_gain_in_one_half_only_is_not_taken():
    logits, target = torch.zeros(400, 2), torch.zeros(400, dtype=torch.long)
    logits[:, 0] = 0.3
    target[:150] = 1  # an offset predicts them, but costs the other half
    logits[:150, 1] = 0.2
    logits[200:300, 1] = 0.2
    half = (torch.arange(400) >= 200).long()
    assert not best_offsets(logits, target, half).any()
    assert best_offsets(logits, target, torch.arange(400) % 2).any()


def test_logits_that_are_right_stay_as_they_are():
    _, target, half = noisy(1_000)
    assert not best_offsets(torch.nn.functional.one_hot(target, 4) * 9.0, target, half).any()


def test_only_the_bias_of_the_last_layer_changes_and_ignored_pixels_do_not_count():
    torch.manual_seed(0)
    model = build({"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}, 3).eval()
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(4)]
    masks = [draw.integers(0, 3, (40, 56)).astype(np.uint8) for _ in range(4)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    offsets = offset_classes(model, images, masks)
    after = model.state_dict()
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert changed == ["net.head.1.bias"]
    torch.testing.assert_close(after["net.head.1.bias"], before["net.head.1.bias"] + offsets)
    assert not offset_classes(model, images, [np.full_like(m, 255) for m in masks]).any()


def test_logits_are_compared_with_masks_at_the_size_of_the_masks():
    torch.manual_seed(0)
    model = build({"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}, 3).eval()
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(2)]
    masks = [draw.integers(0, 3, size).astype(np.uint8) for size in ((100, 140), (40, 56))]
    with torch.inference_mode():
        logits = [model(torch.from_numpy(i).permute(2, 0, 1)[None]) for i in images]
    sized = [
        torch.nn.functional.interpolate(f, size=m.shape, mode="bilinear")
        for f, m in zip(logits, masks, strict=True)
    ]
    logits = torch.cat([s[0].flatten(1).T for s in sized])
    target = torch.cat([torch.from_numpy(m).flatten().long() for m in masks])
    half = torch.repeat_interleave(torch.tensor([0, 1]), torch.tensor([m.size for m in masks]))
    expected = best_offsets(logits, target, half)
    assert expected.any()
    torch.testing.assert_close(offset_classes(model, images, masks), expected)


def test_models_without_a_bias_for_each_class_take_no_offsets_and_stay_as_they_are():
    swift = build({"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}, 3)
    eomt = {"architecture": "Eomt", "encoder": "test_vit", "num_queries": 6, "num_blocks": 3}
    queries = build(eomt, 3).eval()
    labeler = build_labeler({"architecture": "MaskPool", "encoder": "resnet10t", "width": 16}, 3)
    assert [class_bias(m) is None for m in (swift, queries, labeler)] == [False, True, True]
    image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    assert offset_classes(queries, [image], [mask]) is None
