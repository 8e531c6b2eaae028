"""Build the model of a template's `model` section, or of the one that a segmenter folder holds.

The registry is the only way from a name to code: nothing is imported by name.
"""

from collections.abc import Mapping
from typing import Any

from segtune.config.part_options import checked_options
from segtune.errors import ConfigError
from segtune.models.networks.foreign import as_network
from segtune.models.segmentation_model import SegmentationModel
from segtune.plugins.registry import find


def build(
    model: Mapping[str, Any], num_classes: int, pretrained: bool = False
) -> SegmentationModel:
    """Build a template's `model` section.

    Args:
        model: architecture, encoder, and the architecture's own options.
        pretrained: load timm's ImageNet weights into the encoder (from the hub or its cache).

    Raises:
        ConfigError: unknown architecture or encoder (with the nearest name), an encoder that this
            architecture cannot take, pretrained weights that cannot be loaded, or a network of a
            plugin that returns the wrong shape.
    """
    options: dict[str, Any] = dict(model)
    part = find("architecture", str(options.pop("architecture", "")), "model.architecture")
    factory = part.load()
    if part.declares("pretrained"):
        options["pretrained"] = pretrained
    elif pretrained:
        raise ConfigError(
            f"hp.pretrained_weights=imagenet: the architecture '{part.name}' has no parameter "
            "'pretrained'; use none, a safetensors file or models:/…"
        )
    if part.plugin is None:
        net = factory(num_classes, **options)
    else:
        options = checked_options(part, options, "model")
        net = as_network(part, factory(num_classes, **options), num_classes)
    return SegmentationModel(net, net.preprocessing)
