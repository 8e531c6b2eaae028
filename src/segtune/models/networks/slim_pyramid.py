"""A slim feature pyramid over any encoder of four stages: the decoder of swift and lite."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.models.networks.network import Network


class SlimPyramid(Network):
    """Normalised image (B, 3, H, W) -> logits (B, num_classes, H/4, W/4), rounded up.

    Pyramid pooling on the last stage (Zhao et al., 2017) and a light feature pyramid (Lin et al.,
    2017).

    Args:
        encoder: image -> features whose last four have strides 4, 8, 16 and 32.
        channels: of these four features.
        neck: channels of the pyramid.
        dropout: share of the channels that are dropped before the classifier, in [0, 1).
    """

    is_separable = True

    def __init__(
        self,
        encoder: nn.Module,
        channels: Sequence[int],
        num_classes: int,
        neck: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = PyramidPooling(channels[-1], neck)
        self.lateral = nn.ModuleList(nn.Conv2d(c, neck, 1) for c in channels[:-1])
        self.smooth = nn.ModuleList(conv_bn_relu(neck, neck, 3) for _ in channels[:-1])
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(neck, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        return list(self.encoder(x))[-4:]

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the features of the encoder's four stages."""
        skips = list(features)
        top = self.context(skips.pop())
        for skip, lateral, smooth in zip(
            reversed(skips), reversed(self.lateral), reversed(self.smooth), strict=True
        ):
            # exactly two times, then cut: resizing to an odd size would shift it against the skip
            doubled = F.interpolate(top, scale_factor=2, mode="bilinear")
            doubled = doubled[..., : skip.shape[-2], : skip.shape[-1]]
            top = smooth(doubled + lateral(skip))
        logits: Tensor = self.head(top)
        return logits


class PyramidPooling(nn.Module):
    """Features (B, C, H, W) -> the same features with context, (B, D, H, W).

    Their means over grids of 1x1, 2x2, 3x3 and 6x6 cells are concatenated to them.
    """

    def __init__(
        self, in_channels: int, out_channels: int, grids: tuple[int, ...] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        self.grids = grids
        # no batch norm: a 1x1 grid in a batch of one image has a single value per channel
        self.reduce = nn.ModuleList(nn.Conv2d(in_channels, out_channels // 4, 1) for _ in grids)
        self.fuse = conv_bn_relu(in_channels + out_channels // 4 * len(grids), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        levels = [x]
        for grid, reduce in zip(self.grids, self.reduce, strict=True):
            pooled = F.relu(reduce(F.adaptive_avg_pool2d(x, grid)))
            levels.append(F.interpolate(pooled, size=size, mode="bilinear"))
        fused: Tensor = self.fuse(torch.cat(levels, 1))
        return fused


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps height and width, then batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
