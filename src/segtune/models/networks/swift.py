"""Swift: a small segmenter for CPUs, made of plain convolutions.

A narrow timm ResNet, pyramid pooling on its last stage (Zhao et al., 2017) and a light feature
pyramid (Lin et al., 2017). Depthwise and squeeze-excite blocks need fewer multiplications but gain
little from bf16 and channels_last.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from segtune.errors import ConfigError
from segtune.models.networks.network import Network
from segtune.models.preprocessing import Preprocessing


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


class Stages(ResNet):
    """A ResNet that returns the features of its four stages, at strides 4 to 32."""

    def forward(self, x: Tensor) -> Any:
        return self.forward_intermediates(x, indices=[1, 2, 3, 4], intermediates_only=True)


class Swift(Network):
    """Normalised image (B, 3, H, W) -> logits (B, num_classes, H/4, W/4), rounded up.

    Args:
        width: channels at stride 4; the deeper stages have 2, 4 and 6 times as many. At least 16:
            training a 1x1 convolution of stride 2 over fewer channels writes past its memory in
            torch 2.14 on a CPU (LOG.md).
        depth: residual blocks per stage, of two 3x3 convolutions each. One block per stage learns
            faster but reaches less (LOG.md).
        stem: the layers before stride 4. "deep": three 3x3 convolutions and pooling; segmenters
            that were saved before `stem` existed have it. "single": one 5x5 convolution, pooled
            before its batch norm, which then normalises a quarter of the pixels. It is a seventh
            cheaper to train and as accurate (LOG.md).
        dropout: share of the channels that are dropped before the classifier, in [0, 1).
    """

    is_separable = True
    preprocessing: Preprocessing = Preprocessing(multiple=4)

    def __init__(
        self,
        num_classes: int,
        width: int = 32,
        depth: int = 2,
        stem: Literal["deep", "single"] = "deep",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        channels = (width, width * 2, width * 4, width * 6)
        self.encoder = Stages(
            BasicBlock,  # type: ignore[arg-type]  # timm annotates an instance, but takes the class
            layers=(depth,) * 4,
            channels=channels,
            stem_type="deep",
            stem_width=width // 2,
            num_classes=0,
        )
        if stem == "single":
            conv = nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False)
            self.encoder.conv1 = nn.Sequential(conv, self.encoder.maxpool)
            self.encoder.register_module("maxpool", nn.Identity())
        neck = width * 2
        self.context = PyramidPooling(channels[-1], neck)
        self.lateral = nn.ModuleList(nn.Conv2d(c, neck, 1) for c in channels[:-1])
        self.smooth = nn.ModuleList(conv_bn_relu(neck, neck, 3) for _ in channels[:-1])
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(neck, num_classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> list[Tensor]:
        return list(self.encoder(x))

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


def build_swift(
    num_classes: int, encoder: str = "", pretrained: bool = False, **options: Any
) -> Swift:
    """Build Swift, which has an encoder of its own: `encoder` is not read.

    Raises:
        ConfigError: pretrained weights, of which there are none.
    """
    if pretrained:
        raise ConfigError(
            "hp.pretrained_weights=imagenet: swift has no ImageNet weights; use none, a file or "
            "models:/…"
        )
    return Swift(num_classes, **options)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """A convolution that keeps height and width, then batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
