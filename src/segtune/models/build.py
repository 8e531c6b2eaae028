"""Architectures by name: every model is bytes (B, 3, H, W) -> logits (B, num_classes, H, W) at input size.

The table below is the only way from a name in a config or a segmenter folder to code: nothing is imported by name.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest
from segtune.models.eomt import Eomt, Masks
from segtune.models.pretrained import hub_or_cache
from segtune.models.swift import Swift

_STRIDE = 4  # the coarsest at which a loss compares: padded sides are multiples of it, so that its grid spans them

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
ARCHITECTURES = ("Swift", "Eomt", *_SMP)


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
        return self.at_size(self.coarse(image), image.shape[-2:], stride)

    def coarse(self, image: Tensor) -> Tensor:
        """The net's own logits (B, num_classes, h, w) of uint8 images (B, 3, H, W); they span `padded` (H, W)."""
        found: Tensor = self.net(self._prepared(image))
        return found

    @property
    def is_separable(self) -> bool:
        """Whether `encode` and `decode` are what `forward` does: not where queries or prefix tokens go through both."""
        return not isinstance(self.net, Eomt | smp.DPT)

    @property
    def classifier(self) -> nn.Conv2d | None:
        """The last convolution, whose bias is a number on each class's logits; None of a query-based net."""
        if isinstance(self.net, Eomt):
            return None
        return [m for m in self.net.modules() if isinstance(m, nn.Conv2d)][-1]

    @property
    def class_layers(self) -> list[nn.Module]:
        """Layers of which each class has a row; of a query-based net, the row after them stands for no object."""
        classifier = self.net.class_head if isinstance(self.net, Eomt) else self.classifier
        assert classifier is not None, "every other net has one"
        return [classifier]

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's features of uint8 images (B, 3, H, W), each (B, C, h, w), as the head takes them."""
        encoder: Any = self.net.encoder
        return list(encoder(self._prepared(image)))

    def decode(self, features: Sequence[Tensor], size: Sequence[int], stride: int = 1) -> Tensor:
        """What `forward` gives of images of `size` (H, W) that have these features."""
        net: Any = self.net
        logits = (
            net.decode(features)
            if isinstance(net, Swift)
            else net.segmentation_head(net.decoder(list(features)))
        )
        return self.at_size(logits, size, stride)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """The (H, W) that images of `size` are padded to, below and on the right."""
        multiple = self.preprocessing.multiple
        return size[0] + -size[0] % multiple, size[1] + -size[1] % multiple

    def at_size(self, logits: Tensor, size: Sequence[int], stride: int = 1) -> Tensor:
        """Logits as the net gives them of images of `size` (H, W), brought to a stride, without what was padded."""
        height, width = size
        grid = tuple(side // stride for side in self.padded(size))
        if logits.shape[-2:] != grid:
            logits = F.interpolate(logits, size=grid, mode="bilinear", align_corners=False)
        return logits[..., : -(-height // stride), : -(-width // stride)]

    def predictions(self, image: Tensor) -> tuple[list[Masks], tuple[int, int]]:
        """What the queries of a query-based net say of uint8 images (B, 3, H, W), and the (height, width) it spans.

        Images are padded below and on the right, so that the size is at least theirs.
        """
        x = self._prepared(image)
        return self.net.predictions(x), (x.shape[-2], x.shape[-1])  # type: ignore[operator]  # Eomt's

    def compile(self, *args: Any, **options: Any) -> None:
        """As any module's; of a query-based net the blocks alone, whose masks come and go between them."""
        if isinstance(self.net, Eomt):
            for block in self.net.encoder.blocks:
                block.compile(*args, **options)
        else:
            super().compile(*args, **options)

    def advance(self, progress: float) -> None:
        """Tells the net how far the training is, in [0, 1]; only Eomt's masked attention wants to know."""
        if isinstance(self.net, Eomt):
            self.net.advance(progress)

    def _prepared(self, image: Tensor) -> Tensor:
        """Normalised, and padded to a multiple of what the net asks for."""
        x = (image - self.mean) / self.std
        height, width = self.padded(image.shape[-2:])
        below, right = height - image.shape[-2], width - image.shape[-1]
        return F.pad(x, (0, right, 0, below)) if below or right else x


def build(
    model: Mapping[str, Any], num_classes: int, pretrained: bool = False
) -> SegmentationModel:
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
        raise ConfigError(
            f"model.architecture={architecture}: not known; {nearest(architecture, ARCHITECTURES)}"
        )
    encoder = str(options.pop("encoder", ""))
    if architecture == "Swift":
        if pretrained:
            raise ConfigError(
                "hp.pretrained_weights=imagenet: swift has no ImageNet weights; use none, a file or models:/…"
            )
        return SegmentationModel(Swift(num_classes, **options), Preprocessing(multiple=4))
    if not encoder.startswith("mit_"):
        encoder = timm_name(encoder)
    mean, std = statistics(encoder)
    if architecture == "Eomt":
        queries = _made(
            "eomt",
            encoder,
            pretrained,
            lambda: Eomt(num_classes, encoder, pretrained=pretrained, **options),
        )
        return SegmentationModel(
            queries, Preprocessing(mean, std, math.lcm(queries.patch_size, _STRIDE))
        )
    net = _build_smp(architecture, encoder, num_classes, pretrained, options)
    multiple = int(net.encoder.output_stride)  # type: ignore[union-attr, arg-type]  # every smp encoder has it
    if architecture == "DPT":  # one of its levels halves the grid of patches, and is doubled again
        multiple *= 2
    return SegmentationModel(net, Preprocessing(mean, std, math.lcm(multiple, _STRIDE)))


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
    net = _made(
        architecture.lower(), encoder, pretrained,
        lambda: _SMP[architecture](encoder_name=name, encoder_weights=weights, classes=num_classes, **options),
    )  # fmt: skip
    if (
        architecture == "DPT"
    ):  # the classifier of the transformer is not used: no weight of it is kept or trained
        transformer: Any = net.encoder
        patch = int(transformer.output_stride)
        if patch & (patch - 1):  # the decoder's levels are powers of two apart
            raise ConfigError(
                f"hp.encoder={encoder}: its patches are {patch} pixels wide, and dpt takes 8, 16 or 32. Choose one as "
                "vit_small_patch16_224, or template=eomt, which takes any plain vision transformer."
            )
        transformer.model.norm = transformer.model.head = nn.Identity()
    head = getattr(net, "segmentation_head", None)
    if isinstance(head, nn.Sequential) and isinstance(head[1], nn.Upsample):
        head[1] = (
            nn.Identity()
        )  # logits stay at the decoder's stride: the wrapper upsamples once, to where they are needed
    return net


Net = TypeVar("Net", bound=nn.Module)


def _made(template: str, encoder: str, pretrained: bool, make: Callable[[], Net]) -> Net:
    """What `make` gives; whatever timm, smp and the hub raise becomes one ConfigError that names the ways out."""
    try:
        with hub_or_cache() if pretrained else nullcontext():
            return make()
    except ConfigError:
        raise
    except Exception as error:
        if pretrained:
            raise ConfigError(
                f"hp.pretrained_weights=imagenet: the weights of '{encoder}' cannot be loaded "
                f"({type(error).__name__}: {_first_line(error)}). Without a network: hp.pretrained_weights=none, a "
                "safetensors file, or a registered segmenter (models:/NAME@champion)."
            ) from error
        raise ConfigError(
            f"hp.encoder={encoder}: {template} cannot be built on it ({_first_line(error)}). "
            f"Choose one from: segtune templates {template}"
        ) from error


def encoder_name(encoder: str) -> str:
    """Smp's name for an encoder: its own Mix Transformers (which timm lacks), and all of timm's behind `tu-`.

    Raises:
        ConfigError: a name that neither knows.
    """
    if encoder in smp.encoders.get_encoder_names() and encoder.startswith("mit_"):
        return encoder
    return f"tu-{timm_name(encoder)}"


def timm_name(encoder: str) -> str:
    """Timm's name for an encoder, without the prefixes that smp (`tu-`) and the model hub give it.

    Raises:
        ConfigError: a name, or a tag behind its dot, that timm does not know.

    >>> timm_name("hf-hub:timm/resnet18.a1_in1k")
    'resnet18.a1_in1k'
    """
    name = re.sub(r"^(tu-|(hf[-_]hub:)?timm/)", "", encoder)
    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        known = [*timm.list_models(), *(f"mit_b{i}" for i in range(6))]
        raise ConfigError(
            f"hp.encoder={encoder}: timm knows no such encoder; {_nearest_encoder(name, known)}"
        )
    tags = timm.list_pretrained(f"{bare}.*")
    if tag and name not in tags:
        hint = nearest(name, tags or [bare])
        raise ConfigError(f"hp.encoder={encoder}: timm knows no such weights of {bare}; {hint}")
    return name


def _nearest_encoder(name: str, known: Sequence[str]) -> str:
    hint = nearest(name, known)
    return (
        hint if hint.startswith("did you mean") else "segtune templates unet names the usual ones"
    )


def statistics(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that an encoder's pretrained weights expect; ImageNet's where timm knows none."""
    found = (
        timm.get_pretrained_cfg(encoder, allow_unregistered=True)
        if timm.is_model(encoder.split(".")[0])
        else None
    )
    return (tuple(found.mean), tuple(found.std)) if found else (IMAGENET_MEAN, IMAGENET_STD)  # type: ignore[return-value]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
