"""The cost of a model equals figures counted by hand."""

import time

import pytest
import torch
from torch import nn

from segtune.models.cost import measure_cost

CPU = torch.device("cpu")


class Slow(nn.Module):
    """One 3x3 convolution without bias, and a pause."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.conv, self.seconds = nn.Conv2d(3, 8, 3, padding=1, bias=False), seconds

    def forward(self, image):
        time.sleep(self.seconds)
        return self.conv(image.float())


def test_parameters_and_latency():
    cost = measure_cost(Slow(0.02), (1, 3, 8, 8), (8, 8), CPU, ("params_m", "latency_ms"))
    assert set(cost) == {"params_m", "latency_ms"}
    assert cost["params_m"] == 216e-6 and cost["latency_ms"] >= 20


def test_operations_counted_by_hand():
    cost = measure_cost(Slow(), (1, 3, 8, 8), (8, 8), CPU, ["gflops"])
    assert cost == {"gflops": 2 * 8 * (3 * 3 * 3) * (8 * 8) / 1e9}


def test_memory_of_a_step_is_four_times_the_weights_and_the_kept_input():
    model = Slow().eval()
    cost = measure_cost(model, (2, 3, 16, 32), (8, 8), CPU, ["memory_mb"])
    assert cost["memory_mb"] == pytest.approx((4 * 216 + 2 * 3 * 16 * 32) * 4 / 1e6)
    assert not model.training


def test_measuring_keeps_batch_norm_and_the_random_state():
    model = nn.Sequential(Slow(), nn.BatchNorm2d(8), nn.Dropout(0.5))
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    measure_cost(model, (2, 3, 16, 32), (8, 8), CPU, ["memory_mb"])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
