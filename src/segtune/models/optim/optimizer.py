"""Optimizers by name."""

from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from segtune.config.schema import OptimizerConfig, TuningConfig
from segtune.errors import ConfigError
from segtune.models.optim.muon import BatchedMuon
from segtune.models.tuning import layer_scales
from segtune.plugins.registry import built, find


@dataclass(frozen=True)
class OptimizerContext:
    """The facts of a run that our own optimizers need.

    Attributes:
        bf16: whether the steps compute in bf16.
    """

    config: OptimizerConfig
    bf16: bool


def build_optimizer(
    config: OptimizerConfig,
    model: nn.Module,
    lr: float,
    tuning: TuningConfig | None = None,
    bf16: bool = True,
) -> Optimizer:
    """The optimizer of the model's trainable parameters; biases and norms have no weight decay.

    Args:
        tuning: gives the encoder's layers lower learning rates; see `tuning.layer_scales`.
        bf16: whether the steps compute in bf16; muon then orthogonalises in bf16, too.

    Raises:
        ConfigError: no such optimizer, or a plugin's factory that returns something else.
    """
    groups = _parameter_groups(model, config.weight_decay, lr, tuning or TuningConfig())
    part = find("optimizer", config.name, "optimizer.name")
    context = OptimizerContext(config, bf16)
    optimizer = built(part, groups, lr, context=context, **config.options)
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(
            f"optimizer '{config.name}' returns a {type(optimizer).__name__}; expected is a "
            "torch.optim.Optimizer."
        )
    return optimizer


Groups = list[dict[str, Any]]
"""Parameters with their lr and weight decay, as torch's optimizers take them."""


def adamw(groups: Groups, lr: float) -> Optimizer:
    """AdamW (Loshchilov and Hutter, 2019)."""
    return _clippable(AdamW(groups, lr=lr, fused=True))


def sgd(groups: Groups, lr: float, context: OptimizerContext) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum."""
    momentum = context.config.momentum
    return _clippable(SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True))


def muon(groups: Groups, lr: float, context: OptimizerContext) -> Optimizer:
    """Muon, which orthogonalises the momentum of matrices and convolutions.

    It flattens convolutions to matrices, and scales the update to the size of AdamW's (Liu et al.,
    2025, arXiv 2502.16982), so that one lr suits both. AdamW updates the other parameters.
    """
    config = context.config
    optimizer = BatchedMuon(
        groups,
        lr=lr,
        momentum=config.momentum,
        nesterov=True,
        ns_steps=config.ns_steps,
        adjust_lr_fn="match_rms_adamw",
        fallback_lr_scale=config.fallback_lr_scale,
    )
    optimizer.dtype = torch.bfloat16 if context.bf16 else torch.float32
    return optimizer


def _clippable(optimizer: Optimizer) -> Optimizer:
    """Let Lightning clip gradients: it refuses fused optimizers, which may undo a loss scale.

    In bf16 and fp32 there is no loss scale.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # no stub
    return optimizer


def _parameter_groups(
    model: nn.Module, weight_decay: float, lr: float, tuning: TuningConfig
) -> list[dict[str, Any]]:
    if tuning.layer_decay == tuning.encoder_lr == 1.0:
        return list(param_groups_weight_decay(model, weight_decay))
    scales = layer_scales(model, tuning.layer_decay, tuning.encoder_lr)
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
