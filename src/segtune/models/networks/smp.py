"""Architectures of segmentation_models_pytorch (smp) on encoders of timm."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest
from segtune.models.encoders import (
    building,
    encoder_name,
    encoder_preprocessing,
    is_mix_transformer,
    timm_name,
)
from segtune.models.networks.network import Network


class SmpNetwork(Network):
    """Encoder, decoder and head of an smp model; the logits keep the decoder's stride.

    Attributes:
        stride: the sides of an image must be multiples of this many pixels.
    """

    is_separable = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.decoder = model.decoder
        self.segmentation_head = model.segmentation_head
        self.stride = int(model.encoder.output_stride)
        head = self.segmentation_head
        if isinstance(head, nn.Sequential) and isinstance(head[1], nn.Upsample):
            head[1] = nn.Identity()  # the segmentation model resizes logits once, to any stride

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        return list(self.encoder(x))

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoder(list(features)))
        return logits


class Dpt(SmpNetwork):
    """smp's DPT, whose decoder also reads the encoder's prefix tokens."""

    is_separable = False

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.stride *= 2  # one level halves the grid of patches and doubles it again
        # the transformer's own classifier is not used: no weight of it is kept or trained
        model.encoder.model.norm = model.encoder.model.head = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        features, prefix_tokens = self.encoder(x)
        logits: Tensor = self.segmentation_head(self.decoder(features, prefix_tokens))
        return logits


def build_smp(
    architecture: Callable[..., nn.Module],
    num_classes: int,
    encoder: str,
    pretrained: bool = False,
    **options: Any,
) -> SmpNetwork:
    """Build an smp architecture with the preprocessing of its encoder.

    Raises:
        ConfigError: an encoder that this architecture cannot take, or weights that cannot be
            loaded.
    """
    if not is_mix_transformer(encoder):
        encoder = timm_name(encoder)
    name = encoder_name(encoder)
    is_dpt = architecture is smp.DPT
    if is_dpt:
        options = {"dynamic_img_size": True, **options}
        if not name.startswith("tu-vit"):
            hint = nearest(encoder, timm.list_models("vit_*"))
            raise ConfigError(f"hp.encoder={encoder}: dpt takes vision transformers; {hint}")
    weights: bool | str | None = None
    if pretrained:
        weights = True if name.startswith("tu-") else "imagenet"
    with building(architecture.__name__.lower(), encoder, pretrained):
        model: Any = architecture(
            encoder_name=name, encoder_weights=weights, classes=num_classes, **options
        )
    if is_dpt:
        _check_patches(encoder, int(model.encoder.output_stride))
    net = Dpt(model) if is_dpt else SmpNetwork(model)
    net.preprocessing = encoder_preprocessing(encoder, net.stride)
    return net


unet = partial(build_smp, smp.Unet)
unet_plus_plus = partial(build_smp, smp.UnetPlusPlus)
fpn = partial(build_smp, smp.FPN)
deeplab_v3_plus = partial(build_smp, smp.DeepLabV3Plus)
upernet = partial(build_smp, smp.UPerNet)
pspnet = partial(build_smp, smp.PSPNet)
linknet = partial(build_smp, smp.Linknet)
segformer = partial(build_smp, smp.Segformer)
dpt = partial(build_smp, smp.DPT)


def _check_patches(encoder: str, patch: int) -> None:
    """Raise ConfigError unless the patch size is a power of two, as DPT's levels are."""
    if patch & (patch - 1):
        raise ConfigError(
            f"hp.encoder={encoder}: its patches are {patch} pixels wide, and dpt takes 8, 16 or "
            "32. Choose one as vit_small_patch16_224, or template=eomt, which takes any plain "
            "vision transformer."
        )
