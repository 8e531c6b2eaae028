"""How pretrained weights are treated: slower in early layers, frozen, or changed by low-rank updates alone."""

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from segtune.errors import ConfigError
from segtune.settings import TuningConfig

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
    if config.encoder == "lora" and not add_lora(encoder_of(model), config.lora_rank, config.lora_alpha):
        raise ConfigError("tuning.encoder=lora: this encoder has no attention; take a transformer, or tuning=gentle.")


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
    return not any(p.requires_grad for n, p in encoder_of(model).named_parameters() if not _is_update(n))


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
    found = [m for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and _ATTENTION.search(n)]
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

    An encoder's layers are its blocks in the order in which it defines them; what comes before the first is one more,
    as in timm's `param_groups_layer_decay` (Clark et al., 2020; Bao et al., 2022).
    """
    encoder = encoder_of(model)
    prefix = next(n for n, m in model.named_modules() if m is encoder)
    names = [n for n, _ in encoder.named_parameters()]
    blocks = list(dict.fromkeys(b for b in map(_block, names) if b))
    last = len(blocks)
    scales = {n: 1.0 for n, _ in model.named_parameters()}
    for name in names:
        block = _block(name)
        depth = blocks.index(block) + 1 if block else last if _ends(name) else 0
        scales[f"{prefix}.{name}"] = decay ** (last - depth)
    return scales


def _block(name: str) -> str | None:
    """The block that a parameter belongs to: up to the last number among the first parts of its name.

    >>> [_block(n) for n in ("model.blocks.3.attn.qkv.weight", "layer1.0.conv1.weight", "model.patch_embed.proj.bias")]
    ['model.blocks.3', 'layer1.0', None]
    """
    found = re.match(r"((?:[A-Za-z]\w*\.){1,2}\d+(?:\.blocks\.\d+)?|(?:\w+\.)?\w*_\d+\.blocks\.\d+)\.", name)
    return found.group(1) if found else None


def _ends(name: str) -> bool:
    """Whether a parameter outside of the blocks comes after them: the last norm."""
    return bool(re.search(r"(^|\.)(norm|fc_norm|norm_head)\.\w+$", name))


def _is_update(name: str) -> bool:
    return "lora_" in name


def trainable(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
