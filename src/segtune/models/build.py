"""Build the model of a template's `model` section, or of the one that a segmenter folder holds."""

from collections.abc import Mapping
from typing import Any

from segtune.errors import ConfigError, nearest
from segtune.models.networks.table import ARCHITECTURES
from segtune.models.segmentation_model import SegmentationModel


def build(
    model: Mapping[str, Any], num_classes: int, pretrained: bool = False
) -> SegmentationModel:
    """Build a template's `model` section.

    Args:
        model: architecture, encoder, and the architecture's own options.
        pretrained: load timm's ImageNet weights into the encoder (from the hub or its cache).

    Raises:
        ConfigError: unknown architecture or encoder (with the nearest name), an encoder that this
            architecture cannot take, or pretrained weights that cannot be loaded.
    """
    options = dict(model)
    architecture = str(options.pop("architecture", ""))
    encoder = str(options.pop("encoder", ""))
    if architecture not in ARCHITECTURES:
        hint = nearest(architecture, ARCHITECTURES)
        raise ConfigError(f"model.architecture={architecture}: not known; {hint}")
    net, preprocessing = ARCHITECTURES[architecture](num_classes, encoder, pretrained, options)
    return SegmentationModel(net, preprocessing)
