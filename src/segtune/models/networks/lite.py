"""Lite: a slim pyramid on a pretrained encoder of timm, made for CPUs and few images."""

from typing import Any

import timm
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

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
    _pad_statically(stages)
    net = SlimPyramid(stages, channels[-4:], num_classes, width, dropout)
    net.preprocessing = encoder_preprocessing(name, _STRIDES[-1])
    return net


class StridedSame(nn.Conv2d):
    """A convolution of stride 2 on even sides, padded as TensorFlow does: the rest comes last.

    timm computes the same padding from each input's size, which graphs of any size cannot hold.
    """

    def forward(self, x: Tensor) -> Tensor:
        rest = self.kernel_size[0] - self.stride[0]
        first, last = rest // 2, rest - rest // 2
        return super().forward(F.pad(x, (first, last, first, last)))


def _pad_statically(encoder: nn.Module) -> None:
    """Replace timm's convolutions of stride 2: sides are multiples of 32, so all are even."""
    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv2dSame):
                conv = StridedSame(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]  # of two sides
                    stride=child.stride,  # type: ignore[arg-type]
                    groups=child.groups,
                    bias=child.bias is not None,
                )
                conv.load_state_dict(child.state_dict())
                setattr(parent, name, conv)
