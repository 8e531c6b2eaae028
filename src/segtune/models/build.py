"""Architectures by name: every model is bytes (B, 3, H, W) -> logits (B, num_classes, H, W) at input size.

The table below is the only way from a name in a config or a segmenter folder to code: nothing is imported by name.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest
from segtune.models.pretrained import hub_or_cache
from segtune.models.swift import Swift

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SMP: dict[str, Callable[..., nn.Module]] = {
    "Unet": smp.Unet,
    "UnetPlusPlus": smp.UnetPlusPlus,
    "FPN": smp.FPN,
    "DeepLabV3Plus": smp.DeepLabV3Plus,
    "UPerNet": smp.UPerNet,
    "PSPNet": smp.PSPNet,
    "Linknet": smp.Linknet,
    "Segformer": smp.Segformer,
    "DPT": smp.DPT,
}
ARCHITECTURES = ("Swift", *_SMP)


@dataclass(frozen=True)
class Preprocessing:
    """What the model does to bytes before its first layer.

    Attributes:
        mean: of each RGB channel, as a share of 255.
        std: likewise.
        multiple: height and width are padded to a multiple of this many pixels, and cropped back.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    multiple: int = 32


class SegmentationModel(nn.Module):
    """An architecture with its normalisation inside, so that inference cannot forget it."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name)).mul(255.0).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image: Tensor, stride: int = 1) -> Tensor:
        """Logits (B, num_classes, H / stride, W / stride), rounded up, of uint8 images (B, 3, H, W)."""
        height, width = image.shape[-2:]
        x = (image - self.mean) / self.std
        multiple = self.preprocessing.multiple
        below, right = -height % multiple, -width % multiple
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        logits: Tensor = self.net(x)
        size = ((height + below) // stride, (width + right) // stride)
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits[..., : -(-height // stride), : -(-width // stride)]


def build(model: Mapping[str, Any], num_classes: int, pretrained: bool = False) -> SegmentationModel:
    """Builds a template's `model` section.

    Args:
        model: architecture, encoder, and the architecture's own options.
        pretrained: load timm's ImageNet weights into the encoder (from the hub or its cache).

    Raises:
        ConfigError: unknown architecture or encoder (with the nearest name), an encoder that this architecture
            cannot take, or pretrained weights that cannot be fetched.
    """
    options = dict(model)
    architecture = str(options.pop("architecture", ""))
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"model.architecture={architecture}: not known; {nearest(architecture, ARCHITECTURES)}")
    encoder = str(options.pop("encoder", ""))
    if architecture == "Swift":
        if pretrained:
            raise ConfigError(
                "hp.pretrained_weights=imagenet: swift has no ImageNet weights; use none, a file or models:/…"
            )
        return SegmentationModel(Swift(num_classes, **options), Preprocessing(multiple=4))
    net = _build_smp(architecture, encoder, num_classes, pretrained, options)
    multiple = int(net.encoder.output_stride)  # type: ignore[union-attr, arg-type]  # every smp encoder has it
    mean, std = statistics(encoder)
    return SegmentationModel(net, Preprocessing(mean, std, multiple))


def _build_smp(
    architecture: str, encoder: str, num_classes: int, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    name = encoder_name(encoder)
    if architecture == "DPT":
        options.setdefault("dynamic_img_size", True)
        if not name.startswith("tu-vit"):
            raise ConfigError(
                f"hp.encoder={encoder}: dpt takes vision transformers; {nearest(encoder, timm.list_models('vit_*'))}"
            )
    weights = None if not pretrained else True if name.startswith("tu-") else "imagenet"
    try:
        with hub_or_cache() if pretrained else nullcontext():
            net = _SMP[architecture](encoder_name=name, encoder_weights=weights, classes=num_classes, **options)
    except Exception as error:  # timm, smp and the hub raise whatever they like
        if pretrained:
            raise ConfigError(
                f"hp.pretrained_weights=imagenet: the weights of '{encoder}' cannot be loaded "
                f"({type(error).__name__}: {_first_line(error)}). Without a network: hp.pretrained_weights=none, a "
                "safetensors file, or a registered segmenter (models:/NAME@champion)."
            ) from error
        raise ConfigError(
            f"hp.encoder={encoder}: {architecture} cannot be built on it ({_first_line(error)}). "
            "Choose one from: segtune templates " + architecture.lower()
        ) from error
    if architecture == "DPT":  # the classifier of the transformer is not used: no weight of it is kept or trained
        transformer: Any = net.encoder
        transformer.model.norm = transformer.model.head = nn.Identity()
    head = getattr(net, "segmentation_head", None)
    if isinstance(head, nn.Sequential) and isinstance(head[1], nn.Upsample):
        head[1] = (
            nn.Identity()
        )  # logits stay at the decoder's stride: the wrapper upsamples once, to where they are needed
    return net


def encoder_name(encoder: str) -> str:
    """Smp's name for an encoder: its own Mix Transformers (which timm lacks), and all of timm's behind `tu-`.

    Raises:
        ConfigError: a name that neither knows.
    """
    if encoder in smp.encoders.get_encoder_names() and encoder.startswith("mit_"):
        return encoder
    bare = encoder.split(".")[0]
    if not timm.is_model(bare):
        known: Sequence[str] = [*timm.list_models(), *(f"mit_b{i}" for i in range(6))]
        raise ConfigError(f"hp.encoder={encoder}: timm knows no such encoder; {nearest(encoder, known)}")
    return f"tu-{encoder}"


def statistics(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that an encoder's pretrained weights expect; ImageNet's where timm knows none."""
    found = timm.get_pretrained_cfg(encoder, allow_unregistered=True) if timm.is_model(encoder.split(".")[0]) else None
    return (tuple(found.mean), tuple(found.std)) if found else (IMAGENET_MEAN, IMAGENET_STD)  # type: ignore[return-value]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
