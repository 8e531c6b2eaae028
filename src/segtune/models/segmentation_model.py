"""The model of every template: uint8 images (B, 3, H, W) -> logits (B, num_classes, H, W)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from segtune.models.networks.network import Masks, Network
from segtune.models.preprocessing import Normalizer, Preprocessing


class SegmentationModel(nn.Module):
    """A network with its preprocessing inside, so that inference cannot forget it."""

    def __init__(self, net: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        self.normalize = Normalizer(preprocessing)

    def forward(self, image: Tensor, stride: int = 1) -> Tensor:
        """Logits (B, num_classes, H / stride, W / stride), rounded up, of images (B, 3, H, W)."""
        return self.at_size(self.coarse(image), image.shape[-2:], stride)

    def coarse(self, image: Tensor) -> Tensor:
        """The network's own logits (B, num_classes, h, w); they span `padded` (H, W)."""
        logits: Tensor = self.net(self.normalize(image))
        return logits

    @property
    def is_separable(self) -> bool:
        """Whether `decode` of `encode` equals `forward`."""
        return self.net.is_separable

    @property
    def classifier(self) -> nn.Conv2d | None:
        """The convolution whose bias adds a constant to each class's logits; None without one."""
        return self.net.classifier

    @property
    def class_layers(self) -> list[nn.Module]:
        """Layers whose weight and bias have one row per class; further rows may follow."""
        return self.net.class_layers

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's features of uint8 images (B, 3, H, W), each (B, C, h, w)."""
        return self.net.encode(self.normalize(image))

    def decode(self, features: Sequence[Tensor], size: Sequence[int], stride: int = 1) -> Tensor:
        """The result of `forward` for images of `size` (H, W) that have these features."""
        return self.at_size(self.net.decode(features), size, stride)

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """The (H, W) that images of `size` are padded to, below and on the right."""
        return self.preprocessing.padded(size)

    def at_size(self, logits: Tensor, size: Sequence[int], stride: int = 1) -> Tensor:
        """Resize the network's own logits to a stride and cut off the padding.

        Args:
            logits: (B, C, h, w), see `coarse`.
            size: (H, W) of the images.
        """
        height, width = size
        grid = tuple(side // stride for side in self.padded(size))
        if logits.shape[-2:] != grid:
            logits = F.interpolate(logits, size=grid, mode="bilinear", align_corners=False)
        return logits[..., : -(-height // stride), : -(-width // stride)]

    def predictions(self, image: Tensor) -> tuple[list[Masks], tuple[int, int]]:
        """The predictions of a network with queries, and the padded (H, W) that they span.

        Args:
            image: (B, 3, h, w) uint8.
        """
        x = self.normalize(image)
        return self.net.predictions(x), (x.shape[-2], x.shape[-1])

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the model, or only the `compile_units` of a network that names some."""
        if not self.net.compile_units:
            super().compile(*args, **options)
        for module in self.net.compile_units:
            module.compile(*args, **options)

    def advance(self, progress: float) -> None:
        """Tell the network the progress of the training, in [0, 1]."""
        self.net.advance(progress)
