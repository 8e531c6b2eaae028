"""How pretrained weights are treated: slower in early layers, frozen, or changed by low-rank updates alone."""

import re
from collections.abc import Mapping
from typing import Any, cast

import timm
import torch
from segmentation_models_pytorch.encoders.mix_transformer import MixVisionTransformerEncoder
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn
from torch.nn.utils import parametrize

from segtune.config.schema import TuningConfig
from segtune.errors import ConfigError

_ATTENTION = re.compile(r"(^|\.)(attn|attention|self_attn)\.\w*(qkv|q|k|v|kv|proj|out)\w*$")


def apply_tuning(config: TuningConfig, model: nn.Module, weights: str) -> None:
    """Makes a built model train as configured.

    Args:
        weights: where its weights came from, for messages.

    Raises:
        ConfigError: an encoder that is to stay as it is, but was never trained; or one without attention for LoRA.
    """
    if config.encoder == "train":
        return
    if weights == "none":
        raise ConfigError(
            f"tuning.encoder={config.encoder}: hp.pretrained_weights=none leaves the encoder at random numbers. Give "
            "imagenet, a safetensors file or a registered segmenter (models:/…), or take tuning=full."
        )
    freeze_encoder(model, True)
    if config.encoder == "lora" and not add_lora(
        encoder_of(model), config.lora_rank, config.lora_alpha
    ):
        raise ConfigError(
            "tuning.encoder=lora: this encoder has no attention; take a transformer, or tuning=gentle."
        )


def encoder_of(model: nn.Module) -> nn.Module:
    """The part of a model that pretrained weights fill."""
    encoder = getattr(getattr(model, "net", model), "encoder", None)
    assert isinstance(encoder, nn.Module), "every architecture has one"
    return encoder


def freeze_encoder(model: nn.Module, frozen: bool) -> None:
    """Keeps the encoder's weights as they are, or lets them go; LoRA's updates are trained anyway."""
    for name, parameter in encoder_of(model).named_parameters():
        parameter.requires_grad_(not frozen or _is_update(name))


def is_frozen(model: nn.Module) -> bool:
    """Whether the encoder's weights stay as they are, but for LoRA's updates."""
    return not any(
        p.requires_grad for n, p in encoder_of(model).named_parameters() if not _is_update(n)
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
    """Puts a low-rank update on every linear layer of the encoder's attention; returns on how many."""
    found = [
        m for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and _ATTENTION.search(n)
    ]
    for linear in found:
        parametrize.register_parametrization(
            linear, "weight", LowRank(linear.out_features, linear.in_features, rank, alpha)
        )
    return len(found)


def merged_state(model: nn.Module) -> Mapping[str, Tensor]:
    """The state of the plain model: low-rank updates are part of the weights that they change."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            inside = f"{name}.parametrizations.weight."
            state = {k: v for k, v in state.items() if not k.startswith(inside)}
            state[f"{name}.weight"] = cast(Tensor, module.weight).detach()
    return state


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Factor on the learning rate of each parameter: decay ** (layers above it); 1 in the last layer and in the head.

    An encoder's layers are those of timm's `param_groups_layer_decay` (Clark et al., 2020; Bao et al., 2022): the stem,
    then each block; what brings a stage to its resolution belongs to the stage's first block, a norm to the block
    before it.

    Raises:
        ConfigError: an encoder whose layers timm does not know.
    """
    encoder = encoder_of(model)
    prefix = next(n for n, m in model.named_modules() if m is encoder)
    layers = _layers(encoder)
    last = max(layers.values())
    scales = {n: 1.0 for n, _ in model.named_parameters()}
    return scales | {f"{prefix}.{name}": decay ** (last - layer) for name, layer in layers.items()}


_MIX_TRANSFORMER = {
    "stem": r"^patch_embed1\.",
    "blocks": [
        (r"^patch_embed(\d+)\.", (0,)),
        (r"^block(\d+)\.(\d+)", None),
        (r"^norm(\d+)\.", (99999,)),  # timm's mark for: as the block before it
    ],
}
"""The layers of smp's Mix Transformers, which have no `group_matcher`, in its form."""


def _layers(encoder: nn.Module) -> dict[str, int]:
    """The layer of each of an encoder's parameters, from 0, the one that sees the image."""
    names = [name for name, _ in encoder.named_parameters()]
    inner = getattr(encoder, "model", encoder)  # smp's encoders hold timm's
    own_prefix = "" if inner is encoder else "model."
    net, renamed = _with_groups(inner)
    matcher = (
        _MIX_TRANSFORMER if isinstance(encoder, MixVisionTransformerEncoder) else _matcher_of(net)
    )
    timms = {_original(name.removeprefix(own_prefix), renamed): name for name in names}
    found = group_with_matcher(iter([(name, None) for name in timms]), matcher, reverse=True)
    return {timms[name]: int(layer) for name, layer in found.items()}


def _matcher_of(net: Any) -> Any:
    """Raises ConfigError: timm does not know the net's layers."""
    if not hasattr(net, "group_matcher"):
        raise ConfigError(
            "tuning.layer_decay: timm does not say which layers this encoder has. Set tuning.layer_decay=1.0, or take "
            "another hp.encoder."
        )
    return net.group_matcher(coarse=False)


def _with_groups(inner: nn.Module) -> tuple[Any, set[str]]:
    """A net that knows its layers, and the names of its modules that `inner`, which gives features, has flattened."""
    if hasattr(inner, "group_matcher"):
        return inner, set()
    config: Any = getattr(inner, "pretrained_cfg", None)
    if not config:
        return None, set()
    try:
        with torch.device("meta"):  # its weights are not needed
            net = timm.create_model(config["architecture"], num_classes=0)
    except (RuntimeError, NotImplementedError):  # some read numbers while they are built
        net = timm.create_model(config["architecture"], num_classes=0)
    pairs = {n.replace(".", "_", 1) for n, _ in net.named_modules() if n.count(".") == 1}
    return net, pairs & {n for n, _ in inner.named_children()}


def _original(name: str, renamed: set[str]) -> str:
    """Timm's own name of a parameter of a net for features, which calls `stages.0` `stages_0`.

    >>> _original("stages_0.blocks.1.norm.weight", {"stages_0"})
    'stages.0.blocks.1.norm.weight'
    """
    first, dot, rest = name.partition(".")
    return ".".join(first.rsplit("_", 1)) + dot + rest if first in renamed else name


def _is_update(name: str) -> bool:
    return "lora_" in name


def trainable(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
