"""From the bytes of an image to the input of a network: normalised, and padded to whole strides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """The treatment of an image before the first layer of a network.

    Attributes:
        mean: of each RGB channel, in [0, 1].
        std: standard deviation of each RGB channel, in [0, 1].
        multiple: height and width are padded to a multiple of this many pixels.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    multiple: int = 32

    def padded(self, size: Sequence[int]) -> tuple[int, int]:
        """The (H, W) that an image of `size` (H, W) is padded to, below and on the right.

        >>> Preprocessing(multiple=32).padded((64, 70))
        (64, 96)
        """
        # not size + -size % multiple: the ONNX exporter takes a quarter longer over remainders
        height, width = ((side + self.multiple - 1) // self.multiple for side in size)
        return height * self.multiple, width * self.multiple


class Normalizer(nn.Module):
    """Images (B, 3, H, W) uint8 -> normalised and padded images (B, 3, H', W') float.

    Padding is 0, the mean colour. `mean` and `std` are buffers that no state dict holds.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        for name, share in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            values = torch.tensor(share).mul(255.0).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image: Tensor, always_pad: bool = False) -> Tensor:
        """Normalise and pad.

        Args:
            always_pad: pad even by nothing: a traced graph must not depend on the image's size.
        """
        x = (image - self.mean) / self.std
        height, width = image.shape[-2:]
        rows, columns = self.preprocessing.padded((height, width))
        if always_pad or rows > height or columns > width:
            x = F.pad(x, (0, columns - width, 0, rows - height))
        return x
