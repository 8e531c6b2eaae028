"""Optimizers and learning-rate schedules by name."""

import math
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtune.config.schema import OptimizerConfig, SchedulerConfig
from segtune.models.optim.muon import BatchedMuon
from segtune.models.tuning import layer_scales


def build_optimizer(
    config: OptimizerConfig,
    model: nn.Module,
    lr: float,
    layer_decay: float = 1.0,
    bf16: bool = True,
) -> Optimizer:
    """The optimizer of the model's trainable parameters; biases and norms have no weight decay.

    `muon` orthogonalises the momentum of matrices and convolutions (flattened to matrices) and
    scales the update to the size of AdamW's (Liu et al., 2025, arXiv 2502.16982), so that one lr
    suits both. AdamW updates the other parameters.

    Args:
        layer_decay: factor on lr from each layer of the encoder to the layer before it; see
            `tuning.layer_scales`.
        bf16: whether the steps compute in bf16; muon then orthogonalises in bf16, too.
    """
    groups = _parameter_groups(model, config.weight_decay, lr, layer_decay)
    if config.name == "adamw":
        return _clippable(AdamW(groups, lr=lr, fused=True))
    if config.name == "sgd":
        nesterov = config.momentum > 0
        sgd = SGD(groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True)
        return _clippable(sgd)
    muon = BatchedMuon(
        groups,
        lr=lr,
        momentum=config.momentum,
        nesterov=True,
        ns_steps=config.ns_steps,
        adjust_lr_fn="match_rms_adamw",
        fallback_lr_scale=config.fallback_lr_scale,
    )
    muon.dtype = torch.bfloat16 if bf16 else torch.float32
    return muon


def _clippable(optimizer: Optimizer) -> Optimizer:
    """Let Lightning clip gradients: it refuses fused optimizers, which may undo a loss scale.

    In bf16 and fp32 there is no loss scale.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # no stub
    return optimizer


def _parameter_groups(
    model: nn.Module, weight_decay: float, lr: float, layer_decay: float
) -> list[dict[str, Any]]:
    if layer_decay == 1.0:
        return list(param_groups_weight_decay(model, weight_decay))
    scales = layer_scales(model, layer_decay)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale, decays = scales[name], parameter.ndim > 1
        group = groups.setdefault(
            (scale, decays),
            {"params": [], "lr": lr * scale, "weight_decay": weight_decay if decays else 0.0},
        )
        group["params"].append(parameter)
    return list(groups.values())


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
    decay = {
        "constant": 1.0,
        "poly": (1 - progress) ** config.power,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[config.name]
    return float(config.final + (1 - config.final) * decay)
