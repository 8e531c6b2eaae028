"""Optimisers and schedules."""

import pytest
import torch
from torch import nn

from segtune.models.optim import build_optimizer, lr_factor
from segtune.settings import OptimizerConfig, SchedulerConfig


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


@pytest.mark.parametrize("name", ["constant", "poly", "cosine"])
def test_schedules_warm_up_linearly_and_end_where_they_should(name):
    config = SchedulerConfig(name=name, warmup=0.1, final=0.2)
    factors = [lr_factor(config, s, 100) for s in range(101)]
    assert factors[:10] == sorted(factors[:10]) and factors[0] < 0.1
    assert factors[10] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(1.0 if name == "constant" else 0.2)
