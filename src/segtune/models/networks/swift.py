"""Swift: a small segmenter for CPUs, made of plain convolutions.

A narrow timm ResNet below a slim pyramid. Depthwise and squeeze-excite blocks need fewer
multiplications but gain little from bf16 and channels_last.
"""

from typing import Any, Literal

from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from segtune.errors import ConfigError
from segtune.models.networks.slim_pyramid import SlimPyramid
from segtune.models.preprocessing import Preprocessing


class Stages(ResNet):
    """A ResNet that returns the features of its four stages, at strides 4 to 32."""

    def forward(self, x: Tensor) -> Any:
        return self.forward_intermediates(x, indices=[1, 2, 3, 4], intermediates_only=True)


class Swift(SlimPyramid):
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

    preprocessing: Preprocessing = Preprocessing(multiple=4)

    def __init__(
        self,
        num_classes: int,
        width: int = 32,
        depth: int = 2,
        stem: Literal["deep", "single"] = "deep",
        dropout: float = 0.1,
    ) -> None:
        channels = (width, width * 2, width * 4, width * 6)
        encoder = Stages(
            BasicBlock,  # type: ignore[arg-type]  # timm annotates an instance, but takes the class
            layers=(depth,) * 4,
            channels=channels,
            stem_type="deep",
            stem_width=width // 2,
            num_classes=0,
        )
        if stem == "single":
            conv = nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False)
            encoder.conv1 = nn.Sequential(conv, encoder.maxpool)
            encoder.register_module("maxpool", nn.Identity())
        super().__init__(encoder, channels, num_classes, width * 2, dropout)


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
