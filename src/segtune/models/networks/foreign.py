"""Networks of plugins: any module that maps normalised images to logits."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segtune.errors import ConfigError
from segtune.models.encoders import LARGEST_STRIDE
from segtune.models.networks.network import Network
from segtune.models.preprocessing import Preprocessing
from segtune.plugins.registry import Part

_DEFAULT_STRIDE = 32


class ForeignNetwork(Network):
    """A module of a plugin: normalised images (B, 3, H, W) float -> logits (B, C, h, w).

    Of the module's own attributes, `stride` (the sides of images are padded to multiples of it, 32
    by default), `encoder` (the part that `tuning` freezes, and that pretrained weights fill) and
    `preprocessing` are read.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        stride = getattr(module, "stride", None)
        stride = stride if isinstance(stride, int) else _DEFAULT_STRIDE
        preprocessing = getattr(module, "preprocessing", None)
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing(multiple=math.lcm(stride, LARGEST_STRIDE))
        self.preprocessing = preprocessing

    @property
    def has_encoder(self) -> bool:
        """Whether the module names a part as its encoder."""
        return isinstance(getattr(self.module, "encoder", None), nn.Module)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]  # a part of the module, not a second one
        """The module's `encoder`; the whole module if it has none."""
        encoder = getattr(self.module, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else self.module

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x)
        return logits


def as_network(part: Part, built: Any, num_classes: int) -> Network:
    """Return what a plugin's factory built as a network, after a forward pass of one image.

    Raises:
        ConfigError: it is no module, or its logits have another shape.
    """
    assert part.plugin is not None
    where = f"architecture '{part.name}' of plugin '{part.plugin.name}'"
    if not isinstance(built, nn.Module):
        raise ConfigError(f"{where} returns a {type(built).__name__}; expected is a torch module.")
    net = built if isinstance(built, Network) else ForeignNetwork(built)
    side = 2 * net.preprocessing.multiple
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            logits = copy.deepcopy(net).cpu().eval()(torch.zeros(1, 3, side, side))
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"{where} cannot process an image (1, 3, {side}, {side}): "
                f"{type(error).__name__}: {reason}"
            ) from error
    _check_logits(where, logits, num_classes, side)
    return net


def _check_logits(where: str, logits: Any, num_classes: int, side: int) -> None:
    expected = f"(1, {num_classes}, h, w) with h and w of 1..{side}"
    found: Any = type(logits).__name__
    if isinstance(logits, Tensor):
        found = tuple(logits.shape)
        is_right = len(found) == 4 and found[:2] == (1, num_classes)
        if is_right and all(1 <= length <= side for length in found[2:]):
            return
    elif isinstance(logits, Mapping | Sequence):
        found = f"a {found} of {len(logits)}"
    raise ConfigError(
        f"{where} returns {found} for an image (1, 3, {side}, {side}) and {num_classes} classes; "
        f"expected are logits {expected}."
    )
