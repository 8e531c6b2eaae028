"""The training step's own parts."""

import pytest
from torch import nn

from segtune.config.schema import OptimizerConfig, SchedulerConfig
from segtune.training.lightning_module import FineTuning


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 0.0), (32, 0.875), (243, 1 - 1 / 27), (10_000, 0.99)]
)
def test_the_moving_average_of_few_steps_reaches_back_over_few(step, decay):
    parts = (
        nn.Linear(2, 2),
        None,
        None,
        1,
        2,
        0.1,
        OptimizerConfig(name="sgd"),
        SchedulerConfig(name="cosine"),
    )
    assert FineTuning(*parts, ema_decay=0.99).ema.get_decay(step) == pytest.approx(decay)
