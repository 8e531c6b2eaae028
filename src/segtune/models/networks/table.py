"""The table of architectures: the only way from a name in a config or a segmenter folder to code.

Nothing is imported by name.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from segtune.errors import ConfigError
from segtune.models.encoders import building, is_mix_transformer, statistics, timm_name
from segtune.models.networks.eomt import Eomt
from segtune.models.networks.network import Network
from segtune.models.networks.smp import SMP, build_smp
from segtune.models.networks.swift import Swift
from segtune.models.preprocessing import Preprocessing

LARGEST_STRIDE = 4
"""The largest stride of a loss: padded sides are multiples of it, so that its grid spans them."""

Builder = Callable[[int, str, bool, Mapping[str, Any]], tuple[Network, Preprocessing]]
"""(num_classes, encoder, pretrained, options) -> a network and the preprocessing that it needs."""


def _build_swift(
    num_classes: int, encoder: str, pretrained: bool, options: Mapping[str, Any]
) -> tuple[Network, Preprocessing]:
    """Build Swift, which has an encoder of its own: `encoder` is not read."""
    if pretrained:
        raise ConfigError(
            "hp.pretrained_weights=imagenet: swift has no ImageNet weights; use none, a file or "
            "models:/…"
        )
    return Swift(num_classes, **options), Preprocessing(multiple=4)


def _build_eomt(
    num_classes: int, encoder: str, pretrained: bool, options: Mapping[str, Any]
) -> tuple[Network, Preprocessing]:
    encoder = timm_name(encoder)
    with building("eomt", encoder, pretrained):
        net = Eomt(num_classes, encoder, pretrained=pretrained, **options)
    return net, _preprocessing(encoder, net.patch_size)


def _build_smp(
    architecture: str, num_classes: int, encoder: str, pretrained: bool, options: Mapping[str, Any]
) -> tuple[Network, Preprocessing]:
    if not is_mix_transformer(encoder):
        encoder = timm_name(encoder)
    net = build_smp(architecture, num_classes, encoder, pretrained, dict(options))
    return net, _preprocessing(encoder, net.stride)


def _preprocessing(encoder: str, stride: int) -> Preprocessing:
    mean, std = statistics(encoder)
    return Preprocessing(mean, std, math.lcm(stride, LARGEST_STRIDE))


ARCHITECTURES: dict[str, Builder] = {
    "Swift": _build_swift,
    "Eomt": _build_eomt,
    **{name: partial(_build_smp, name) for name in SMP},
}
