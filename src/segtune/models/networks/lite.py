"""Lite: a slim pyramid on a pretrained encoder of timm, made for CPUs and few images."""

from typing import Any

import timm

from segtune.errors import ConfigError
from segtune.models.encoders import building, encoder_preprocessing, timm_name
from segtune.models.networks.slim_pyramid import SlimPyramid

_STRIDES = [4, 8, 16, 32]


def build_lite(
    num_classes: int, encoder: str, width: int = 64, dropout: float = 0.1, pretrained: bool = False
) -> SlimPyramid:
    """Build Lite.

    Args:
        encoder: timm's name of any encoder whose last four stages have strides 4, 8, 16 and 32.
        width: channels of the pyramid.
        dropout: share of the channels that are dropped before the classifier, in [0, 1).
        pretrained: load timm's weights of the encoder, from the hub or its cache.

    Raises:
        ConfigError: an encoder with other strides, or weights that cannot be loaded.
    """
    name = timm_name(encoder)
    with building("lite", name, pretrained):
        stages: Any = timm.create_model(name, pretrained=pretrained, features_only=True)
    strides, channels = stages.feature_info.reduction(), stages.feature_info.channels()
    if strides[-4:] != _STRIDES:
        raise ConfigError(
            f"hp.encoder={encoder}: its features have strides {', '.join(map(str, strides))}, and "
            "lite takes 4, 8, 16, 32. Choose one from: segtune templates lite"
        )
    net = SlimPyramid(stages, channels[-4:], num_classes, width, dropout)
    net.preprocessing = encoder_preprocessing(name, _STRIDES[-1])
    return net
