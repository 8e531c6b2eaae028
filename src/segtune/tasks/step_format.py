"""The precision and memory layout of training steps, for every task."""

from collections.abc import Callable

import torch
from torch import nn

from segtune.config.schema import RunConfig
from segtune.data.source.files import cache_dir
from segtune.models.probe import StepFormat, fastest_format


def step_format(
    config: RunConfig,
    make_model: Callable[[], nn.Module],
    shape: tuple[int, int, int, int],
    stride: int | None,
    device: torch.device,
) -> StepFormat:
    """Choose the fastest precision and memory layout that the config allows.

    It is measured once per model and machine.

    Args:
        shape: (B, 3, H, W) of a training batch.
        stride: stride of the loss; None for models whose outputs have no stride.
    """
    trainer = config.trainer
    return fastest_format(
        make_model,
        shape,
        stride,
        device,
        keep=cache_dir() / "step_formats.json",
        bf16=None if trainer.precision == "auto" else trainer.precision == "bf16",
        channels_last=None if trainer.channels_last == "auto" else trainer.channels_last,
    )
