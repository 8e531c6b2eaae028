"""The precision and memory layout of training steps, for every task."""

from functools import partial

import torch

from segtune.config.schema import RunConfig
from segtune.data.source.files import cache_dir
from segtune.models.probe import StepFormat, fastest_format
from segtune.tasks.task import Task


def step_format(
    task: Task,
    config: RunConfig,
    num_classes: int,
    shape: tuple[int, int, int, int],
    device: torch.device,
) -> StepFormat:
    """Choose the fastest precision and memory layout that the config allows.

    It is measured once per model and machine.

    Args:
        shape: (B, 3, H, W) of a training batch.
    """
    trainer = config.trainer
    return fastest_format(
        partial(task.build, config.template["model"], num_classes),
        shape,
        task.loss_stride(config),
        device,
        keep=cache_dir() / "step_formats.json",
        bf16=None if trainer.precision == "auto" else trainer.precision == "bf16",
        channels_last=None if trainer.channels_last == "auto" else trainer.channels_last,
    )
