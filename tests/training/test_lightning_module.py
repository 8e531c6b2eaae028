"""The moving average of the weights."""

import pytest
from torch import nn

from segtune.config.schema import OptimizerConfig, SchedulerConfig
from segtune.training.lightning_module import FineTuning, UpdateSettings


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 0.0), (32, 0.875), (243, 1 - 1 / 27), (10_000, 0.99)]
)
def test_the_moving_average_of_a_short_run_spans_few_steps(step, decay):
    settings = UpdateSettings(
        part_size=1,
        num_classes=2,
        lr=0.1,
        optimizer=OptimizerConfig(name="sgd"),
        scheduler=SchedulerConfig(name="cosine"),
        ema_decay=0.99,
    )
    module = FineTuning(nn.Linear(2, 2), loss=None, task=None, settings=settings)
    assert module.ema.get_decay(step) == pytest.approx(decay)
