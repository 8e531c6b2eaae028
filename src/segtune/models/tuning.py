"""How to train pretrained weights: slower in early layers, frozen, or by low-rank updates alone."""

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from segmentation_models_pytorch.encoders.mix_transformer import MixVisionTransformerEncoder
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from segtune.config.schema import TuningConfig
from segtune.errors import ConfigError
from segtune.models.networks.foreign import ForeignNetwork

_ATTENTION = re.compile(r"(^|\.)(attn|attention|self_attn)\.\w*(qkv|q|k|v|kv|proj|out)\w*$")


def apply_tuning(config: TuningConfig, model: nn.Module, weights: str) -> None:
    """Freeze the encoder of a model, or add low-rank updates to it, as configured.

    Args:
        weights: the source of the model's weights, for messages.

    Raises:
        ConfigError: the encoder would stay frozen at random numbers, or has no attention for LoRA;
            or the network of a plugin names no encoder.
    """
    net = getattr(model, "net", None)
    if isinstance(net, ForeignNetwork) and not net.has_encoder and config != TuningConfig():
        raise ConfigError(
            "tuning: this architecture names no encoder. Take tuning=full, or give the module that "
            "its factory returns an attribute `encoder`, the part that starts pretrained."
        )
    if config.encoder == "train":
        return
    if weights == "none":
        raise ConfigError(
            f"tuning.encoder={config.encoder}: hp.pretrained_weights=none leaves the encoder at "
            "random numbers. Give imagenet, a safetensors file or a registered segmenter "
            "(models:/…), or take tuning=full."
        )
    freeze_encoder(model, True)
    if config.encoder != "lora":
        return
    if not add_lora(encoder_of(model), config.lora_rank, config.lora_alpha):
        raise ConfigError(
            "tuning.encoder=lora: this encoder has no attention; take a transformer, or "
            "tuning=gentle."
        )


def without_pretraining(config: TuningConfig) -> TuningConfig:
    """The config for an encoder of random numbers, which must learn as fast as the head."""
    if config.encoder != "train":
        return config
    return TuningConfig()


def first_trained_epoch(config: TuningConfig, num_epochs: int) -> int:
    """The epoch, from 0, at which the encoder begins to learn.

    >>> first_trained_epoch(TuningConfig(frozen_share=0.1), 25)
    3
    >>> first_trained_epoch(TuningConfig(frozen_share=0.1), 1)
    0
    """
    share = min(math.ceil(config.frozen_share * num_epochs), num_epochs - 1)
    return max(config.frozen_epochs, share)


def encoder_of(model: nn.Module) -> nn.Module:
    """The part of a model that pretrained weights fill."""
    encoder = getattr(getattr(model, "net", model), "encoder", None)
    assert isinstance(encoder, nn.Module), "every architecture has an encoder"
    return encoder


def keep_statistics(config: TuningConfig, model: nn.Module) -> None:
    """Put the parts of a model that keep their running statistics back into evaluation.

    Call it after `model.train()`.
    """
    if config == TuningConfig():
        return
    if is_frozen(model):
        encoder_of(model).eval()
    elif config.norms == "frozen":
        for module in encoder_of(model).modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def freeze_encoder(model: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze the encoder's weights; LoRA's updates stay trainable."""
    for name, parameter in encoder_of(model).named_parameters():
        parameter.requires_grad_(not frozen or _is_low_rank(name))


def is_frozen(model: nn.Module) -> bool:
    """Whether no weight of the encoder is trained, apart from LoRA's updates."""
    return not any(
        p.requires_grad for n, p in encoder_of(model).named_parameters() if not _is_low_rank(n)
    )


class LowRank(nn.Module):
    """W + alpha / rank * B A, with B zero at first (Hu et al., 2021, "LoRA", section 4.1)."""

    def __init__(self, out_features: int, in_features: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, in_features))
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.lora_b @ self.lora_a


def add_lora(encoder: nn.Module, rank: int, alpha: float) -> int:
    """Add a low-rank update to every linear layer of the attention; return their number."""
    layers = [
        m for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and _ATTENTION.search(n)
    ]
    for linear in layers:
        update = LowRank(linear.out_features, linear.in_features, rank, alpha)
        parametrize.register_parametrization(linear, "weight", update)
    return len(layers)


def merged_state(model: nn.Module) -> Mapping[str, Tensor]:
    """The state dict of the model without LoRA: low-rank updates are added to the weights."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            parts = f"{name}.parametrizations.weight."
            state = {k: v for k, v in state.items() if not k.startswith(parts)}
            state[f"{name}.weight"] = cast(Tensor, module.weight).detach()
    return state


def layer_scales(model: nn.Module, decay: float, last: float = 1.0) -> dict[str, float]:
    """Factor on the learning rate of each parameter.

    It is 1 in the head and last * decay ** (number of encoder layers above it) in the encoder. The
    layers are those of timm's
    `param_groups_layer_decay` (Clark et al., 2020; Bao et al., 2022): the stem, then each block.
    A downsampling layer belongs to the block after it, a norm to the block before it.

    Raises:
        ConfigError: timm does not know the layers of this encoder.
    """
    encoder = encoder_of(model)
    prefix = next(n for n, m in model.named_modules() if m is encoder)
    scales = {n: 1.0 for n, _ in model.named_parameters()}
    if decay == 1.0:
        return scales | {f"{prefix}.{name}": last for name, _ in encoder.named_parameters()}
    layers = _layers(encoder)
    above = max(layers.values())
    for name, layer in layers.items():
        scales[f"{prefix}.{name}"] = last * decay ** (above - layer)
    return scales


_MIX_TRANSFORMER = {
    "stem": r"^patch_embed1\.",
    "blocks": [
        (r"^patch_embed(\d+)\.", (0,)),
        (r"^block(\d+)\.(\d+)", None),
        (r"^norm(\d+)\.", (99999,)),  # timm's mark for the block before it
    ],
}
"""The layers of smp's Mix Transformers, in the form of timm's `group_matcher`, which they lack."""


def _layers(encoder: nn.Module) -> dict[str, int]:
    """The layer of each parameter of an encoder; layer 0 sees the image."""
    names = [name for name, _ in encoder.named_parameters()]
    inner = getattr(encoder, "model", encoder)  # smp's encoders hold a model of timm
    prefix = "" if inner is encoder else "model."
    net, renamed = _net_with_matcher(inner)
    if isinstance(encoder, MixVisionTransformerEncoder):
        matcher: Any = _MIX_TRANSFORMER
    else:
        matcher = _matcher_of(net)
    by_timm_name = {_timm_parameter(n.removeprefix(prefix), renamed): n for n in names}
    pairs = iter([(name, None) for name in by_timm_name])
    layers = group_with_matcher(pairs, matcher, reverse=True)
    return {by_timm_name[name]: int(layer) for name, layer in layers.items()}


def _matcher_of(net: Any) -> Any:
    """The layers of a net in timm's form.

    Raises:
        ConfigError: timm does not know them.
    """
    if not hasattr(net, "group_matcher"):
        raise ConfigError(
            "tuning.layer_decay: timm does not say which layers this encoder has. Set "
            "tuning.layer_decay=1.0, or take another hp.encoder."
        )
    return net.group_matcher(coarse=False)


def _net_with_matcher(inner: nn.Module) -> tuple[Any, set[str]]:
    """A net that has a `group_matcher`, and the modules whose names `inner` has flattened.

    timm's nets for features have none and call `stages.0` `stages_0`: then the net is built anew.
    """
    if hasattr(inner, "group_matcher"):
        return inner, set()
    config: Any = getattr(inner, "pretrained_cfg", None)
    if not config:
        return None, set()
    try:
        with torch.device("meta"):  # its weights are not needed
            net = timm.create_model(config["architecture"], num_classes=0)
    except (RuntimeError, NotImplementedError):  # some nets read numbers while they are built
        net = timm.create_model(config["architecture"], num_classes=0)
    flattened = {n.replace(".", "_", 1) for n, _ in net.named_modules() if n.count(".") == 1}
    return net, flattened & {n for n, _ in inner.named_children()}


def _timm_parameter(name: str, renamed: set[str]) -> str:
    """Timm's name of a parameter of a net for features, which calls `stages.0` `stages_0`.

    >>> _timm_parameter("stages_0.blocks.1.norm.weight", {"stages_0"})
    'stages.0.blocks.1.norm.weight'
    """
    first, dot, remainder = name.partition(".")
    if first not in renamed:
        return name
    return ".".join(first.rsplit("_", 1)) + dot + remainder


def _is_low_rank(name: str) -> bool:
    return "lora_" in name


def trainable(model: nn.Module) -> int:
    """The number of trained weights."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
