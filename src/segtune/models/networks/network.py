"""The protocol of every architecture: how a segmentation model talks to its network."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from segtune.models.preprocessing import Preprocessing


class Masks(NamedTuple):
    """The predictions of Q queries.

    Attributes:
        classes: logits (B, Q, num_classes + 1); the last one stands for no object.
        masks: logits (B, Q, H', W'), about a quarter of the image's size.
    """

    classes: Tensor
    masks: Tensor


class Network(nn.Module):
    """Normalised images (B, 3, H, W) float -> logits (B, num_classes, h, w) of any smaller size.

    The logits span the whole image. An architecture defines `forward` and `encoder`; the defaults
    below suit a network without queries whose last convolution gives the logits.

    Attributes:
        encoder: the part that pretrained weights fill.
        preprocessing: the treatment of images that the network needs.
        is_separable: whether `decode(encode(x))` equals `forward(x)`.
    """

    encoder: nn.Module
    preprocessing: Preprocessing = Preprocessing()
    is_separable = False

    @property
    def classifier(self) -> nn.Conv2d | None:
        """The convolution whose bias adds a constant to each class's logits; None without one."""
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        return convolutions[-1] if convolutions else None

    @property
    def class_layers(self) -> list[nn.Module]:
        """Layers whose weight and bias have one row per class; further rows may follow."""
        return [] if self.classifier is None else [self.classifier]

    @property
    def compile_units(self) -> list[nn.Module]:
        """Modules to compile one by one; empty to compile the whole model at once."""
        return []

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of the encoder, each (B, C, h, w), as `decode` takes them."""
        raise NotImplementedError(f"{type(self).__name__} is not separable")

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the features that `encode` returns."""
        raise NotImplementedError(f"{type(self).__name__} is not separable")

    def predictions(self, x: Tensor) -> list[Masks]:
        """Class and mask of each query, one entry per prediction that the loss compares."""
        raise NotImplementedError(f"{type(self).__name__} has no queries")

    def advance(self, progress: float) -> None:
        """Adapt to the progress of the training, in [0, 1]; most architectures ignore it."""
