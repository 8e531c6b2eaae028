"""Models in bf16 with folded batch norms, and a check whether this CPU gains from them."""

import copy
import functools
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segtune.models.networks.network import Network
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.timing import call_seconds, fastest

MARGIN = 0.9  # a faster alternative must save a tenth of the time; less may be noise


class _Bf16(Network):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x.to(torch.bfloat16))
        return logits.float()


def in_bf16(model: SegmentationModel) -> SegmentationModel:
    """Return a copy in bf16 with folded batch norms; its logits are fp32."""
    net = fold(copy.deepcopy(model.net).eval()).to(torch.bfloat16)
    copied = SegmentationModel(_Bf16(net), model.preprocessing).to(model.normalize.mean.device)
    return copied.to(memory_format=torch.channels_last).eval()


def fold(model: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, in place.

    A norm follows a convolution as the next layer of a sequence, or by name (conv1, bn1).
    """
    for module in model.modules():
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, norm = module._modules[first], module._modules[second]
            follows = isinstance(module, nn.Sequential) or second == first.replace("conv", "bn")
            if follows and type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                module._modules[first] = fuse_conv_bn_eval(conv, norm)
                module._modules[second] = nn.Identity()
    return model


@functools.cache
def gains_from_bf16() -> bool:
    """Whether this CPU convolves faster in bf16 than in fp32, measured once per process.

    The instructions alone decide nothing: with AVX-512 but no AMX, Intel's CPUs take twice as long
    as with fp32 (LOG.md).
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    if not supported():
        return False
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    image = torch.rand(1, 64, 96, 96).to(memory_format=torch.channels_last)
    fp32 = _fastest_call(layer, image)
    bf16 = _fastest_call(layer.to(torch.bfloat16), image.to(torch.bfloat16))
    return bf16 < MARGIN * fp32


def _fastest_call(layer: nn.Module, image: Tensor) -> float:
    """Return the seconds of the fastest of five calls, after one for warm-up."""
    with torch.inference_mode():
        return fastest(lambda: call_seconds(lambda: layer(image), image.device), calls=5)
