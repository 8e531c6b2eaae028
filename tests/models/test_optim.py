"""Optimisers and schedules."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from timm.optim import Muon, param_groups_weight_decay
from timm.optim.muon import zeropower_via_newtonschulz
from torch import nn

import segtune
from segtune.config.schema import OptimizerConfig, SchedulerConfig
from segtune.models.build import build
from segtune.models.optim.muon import QUINTIC, gram_newton_schulz
from segtune.models.optim.optimizer import build_optimizer
from segtune.models.optim.schedule import lr_factor
from tests.conftest import TINY


@pytest.mark.parametrize("shape", [(3, 16, 144), (2, 144, 16), (1, 32, 32)])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_steps_on_gram_matrices_equal_timms_steps(shape, steps):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = zeropower_via_newtonschulz(matrices, steps, QUINTIC, eps=1e-7, dtype=torch.float32)
    torch.testing.assert_close(
        gram_newton_schulz(matrices, steps, 1e-7), expected, rtol=1e-3, atol=1e-4
    )
    assert not gram_newton_schulz(torch.zeros(shape), steps, 1e-7).any()


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_optimiser_lowers_a_loss_and_decays_no_bias(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.1), model, lr=0.01)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert all((decays[id(p)] > 0) == (p.ndim > 1) for p in model.parameters())
    x, y = torch.randn(4, 3, 8, 8), torch.randint(0, 2, (4, 6, 6))
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_muon_updates_equal_timms():
    torch.manual_seed(0)
    ours = build({"architecture": "Swift", "encoder": "narrow_resnet", "width": 16}, 3)
    theirs = copy.deepcopy(ours)
    config = OptimizerConfig(name="muon", weight_decay=0.1, momentum=0.9, ns_steps=3)
    optimizer = build_optimizer(config, ours, lr=0.01)
    expected = Muon(
        param_groups_weight_decay(theirs, 0.1),
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        ns_steps=3,
        adjust_lr_fn="match_rms_adamw",
    )
    for _ in range(3):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimizer.step()
        expected.step()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, msg=name)
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0, msg=f"gradient of {name}")


def test_muon_in_fp32_equals_bf16_but_for_rounding():
    moved = []
    for bf16 in (True, False):
        torch.manual_seed(0)
        model = nn.Conv2d(8, 16, 3, bias=False)
        before = model.weight.detach().clone()
        optimizer = build_optimizer(
            OptimizerConfig(name="muon", weight_decay=0.0), model, lr=0.01, bf16=bf16
        )
        for _ in range(3):
            model.weight.grad = torch.randn_like(model.weight)
            optimizer.step()
        moved.append((model.weight.detach() - before).flatten())
    assert torch.cosine_similarity(*moved, dim=0) > 0.999
    assert float(moved[1].norm() / moved[0].norm()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["constant", "poly", "cosine"])
def test_schedules_warm_up_linearly_and_end_at_their_final_value(name):
    config = SchedulerConfig(name=name, warmup=0.1, final=0.2)
    factors = [lr_factor(config, s, 100) for s in range(101)]
    assert factors[:10] == sorted(factors[:10]) and factors[0] < 0.1
    assert factors[10] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(1.0 if name == "constant" else 0.2)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_every_optimiser_clips_gradients_in_bf16(name, tmp_path):
    words = [*TINY, f"optimizer={name}", "trainer.precision=bf16", f"tracking.root='{tmp_path}'"]
    words += ["trainer.class_offsets=false", "tracking.overlays=0"]  # weights alone matter
    free, clipped = (
        segtune.train(*words, "++hp.num_epochs=1", *more, say=lambda _: None)
        for more in ([], ["trainer.gradient_clip=1e-3"])
    )
    assert free.state == clipped.state == "finished"
    weights = [load_file(done.segmenter / "model.safetensors") for done in (free, clipped)]
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
