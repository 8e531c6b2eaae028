"""Learning-rate schedules by name: a linear warm-up, then a decay in [0, 1]."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtune.config.schema import SchedulerConfig
from segtune.plugins.registry import built, find


def build_scheduler(config: SchedulerConfig, optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The schedule as a factor on lr, advanced once per step."""
    return LambdaLR(optimizer, lambda step: lr_factor(config, step, total_steps))


def lr_factor(config: SchedulerConfig, step: int, total_steps: int) -> float:
    """Factor on the base lr at a step in [0, total_steps).

    >>> half = SchedulerConfig(name="cosine", warmup=0.0)
    >>> [round(lr_factor(half, s, 100), 3) for s in (0, 50, 100)]
    [1.0, 0.5, 0.0]
    """
    warmup = max(1, round(config.warmup * total_steps)) if config.warmup else 0
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    part = find("scheduler", config.name, "scheduler.name")
    decay = built(part, progress, context=config, **config.options)
    return float(config.final + (1 - config.final) * decay)


def constant(progress: float) -> float:
    """No decay."""
    return 1.0


def poly(progress: float, context: SchedulerConfig) -> float:
    """(1 - progress) ** power."""
    return float((1 - progress) ** context.power)


def cosine(progress: float) -> float:
    """Half a cosine (Loshchilov and Hutter, 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))
