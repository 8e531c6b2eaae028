"""A model that gives regions of one class finer labels: a timm encoder with mask pooling.

Images (B, 3, H, W) uint8 and region numbers (B, h, w) -> logits (R, num_classes) of the R regions.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.errors import ConfigError
from segtune.models.encoders import building, statistics, timm_name
from segtune.models.preprocessing import Normalizer, Preprocessing

ARCHITECTURES = ("MaskPool",)
_FORM_SIZE = 9  # numbers of `region_form`
_NUM_MEANS = 5  # means of features: over the region, its thirds, the image
_MIN_STRIDE = 4  # finer levels of the encoder are not used


class Encoded(NamedTuple):
    """Features (B, D, h, w); the images cover their first `rows` and `columns`, padding others."""

    features: Tensor
    rows: float
    columns: float


class RegionModel(nn.Module):
    """Pools features over regions and classifies the pooled features.

    The features of all levels from stride 4 on are projected to one width and summed. A small
    perceptron classifies each region by five means (over the region, over its upper, middle and
    lower third, over the image) and by the region's form. A second head classifies every place of
    the feature map: it finds borders inside regions that show several things.
    """

    def __init__(
        self, encoder: nn.Module, width: int, num_classes: int, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.encoder, self.preprocessing = encoder, preprocessing
        self.normalize = Normalizer(preprocessing)
        info: Any = encoder.feature_info
        strides, channels = info.reduction(), info.channels()
        self.levels = [n for n, stride in enumerate(strides) if stride >= _MIN_STRIDE]
        self.stride = min(int(strides[n]) for n in self.levels)  # of the places
        self.lateral = nn.ModuleList(nn.Conv2d(channels[n], width, 1) for n in self.levels)
        self.norm = nn.LayerNorm(_NUM_MEANS * width)
        self.form = nn.Sequential(nn.Linear(_FORM_SIZE, width), nn.GELU(), nn.Linear(width, width))
        self.head = nn.Sequential(
            nn.Linear((_NUM_MEANS + 1) * width, width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(width, num_classes),
        )
        self.places = nn.Conv2d(width, num_classes, 1)

    @property
    def class_layers(self) -> list[nn.Module]:
        """Layers whose weight and bias have one row per class."""
        return [self.head[-1], self.places]

    def forward(self, image: Tensor, regions: Tensor | None = None) -> Tensor:
        """Logits (R, num_classes) of the regions 1..R, numbered over the whole batch.

        Args:
            image: (B, 3, H, W) uint8.
            regions: (B, h, w) int32 of any size, 0 outside of all regions; the numbers rise from
                image to image. None makes each image one region.
        """
        if regions is None:
            numbers = torch.arange(1, len(image) + 1, dtype=torch.int32, device=image.device)
            regions = numbers.view(-1, 1, 1).expand(-1, *image.shape[-2:])
        return self.region_logits(self.encode(image), regions)

    def logits(self, image: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """The `region_logits` and the `place_logits` of a batch."""
        encoded = self.encode(image)
        return self.region_logits(encoded, regions), self.place_logits(encoded)

    def encode(self, image: Tensor) -> Encoded:
        """Features of images (B, 3, H, W) uint8, the input of both heads."""
        height, width = image.shape[-2:]
        x = self.normalize(image)
        levels = self.encoder(x)
        features = self.lateral[0](levels[self.levels[0]])
        for level, lateral in zip(self.levels[1:], list(self.lateral)[1:], strict=True):
            projected = lateral(levels[level])
            features = features + F.interpolate(projected, size=features.shape[-2:], mode="nearest")
        return Encoded(
            features,
            features.shape[-2] / x.shape[-2] * height,
            features.shape[-1] / x.shape[-1] * width,
        )

    def region_logits(self, encoded: Encoded, regions: Tensor) -> Tensor:
        """Logits (R, num_classes) of regions (B, h, w), see `forward`."""
        scale = encoded.rows, encoded.columns
        rows = [_pooled(f, r, scale) for f, r in zip(encoded.features, regions, strict=True)]
        pooled, forms = zip(*rows, strict=True)
        means, form = self.norm(torch.cat(pooled)), self.form(torch.cat(forms))
        logits: Tensor = self.head(torch.cat([means, form], 1))
        return logits

    def place_logits(self, encoded: Encoded) -> Tensor:
        """Logits (B, num_classes, H / s, W / s), rounded up; s is the finest stride."""
        logits: Tensor = self.places(encoded.features)
        return logits[..., : math.ceil(encoded.rows), : math.ceil(encoded.columns)]


def _pooled(features: Tensor, regions: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Mean features (R, 5 D) and forms (R, 9) of the regions of one image.

    Args:
        features: (D, h, w).
        regions: (H, W) int32, 0 outside of all regions.
        scale: rows and columns of the features that the image covers; the others are padding.
    """
    depth, rows, columns = features.shape
    y, x = torch.nonzero(regions, as_tuple=True)
    number = regions[y, x].long()
    number = number - (number.min() if len(number) else 0)
    count = int(number.max()) + 1 if len(number) else 0
    row = ((y + 0.5) * (scale[0] / regions.shape[0])).long().clamp(max=rows - 1)
    column = ((x + 0.5) * (scale[1] / regions.shape[1])).long().clamp(max=columns - 1)
    form = region_form(number, y, x, count, regions.shape)
    top, bottom = form[number, 3] * regions.shape[0], form[number, 5] * regions.shape[0]
    third = ((y + 0.5 - top) / (bottom - top) * 3).long().clamp(0, 2)
    # pixels of each third of each region in each cell of the features
    cells, cell = rows * columns, row * columns + column
    index = (number * 3 + third) * cells + cell
    thirds = torch.bincount(index, minlength=3 * count * cells).view(count, 3, cells).float()
    total = thirds.sum(1, keepdim=True)
    # the whole region replaces a third without a pixel, as a ring or a line has
    thirds = torch.where(thirds.sum(2, keepdim=True) > 0, thirds, total)
    weight = torch.cat([total, thirds], 1)
    weight = (weight / weight.sum(2, keepdim=True)).view(4 * count, cells)
    means = (weight.to(features.dtype) @ features.reshape(depth, cells).T).view(count, 4 * depth)
    image_mean = features.mean((1, 2)).expand(count, -1)
    return torch.cat([means, image_mean], 1), form.to(means.dtype)


def region_form(number: Tensor, y: Tensor, x: Tensor, count: int, shape: tuple[int, ...]) -> Tensor:
    """Position and shape of regions, (count, 9).

    Centre (x, y), box (left, top, right, bottom), filled share of the box, logarithm of the area,
    logarithm of height / width. Coordinates and areas are shares of the image's.

    Args:
        number: of the region, from 0, at each pixel (y, x) of all regions.
        shape: (height, width) of the image.
    """
    height, width = shape[-2:]
    place = torch.stack([(x + 0.5) / width, (y + 0.5) / height], 1)
    ones, zeros = place.new_full((count, 2), 1.0), place.new_zeros(count, 2)
    index = number[:, None].expand(-1, 2)
    half_pixel = place.new_tensor([0.5 / width, 0.5 / height])
    low = ones.scatter_reduce(0, index, place, "amin") - half_pixel
    high = zeros.scatter_reduce(0, index, place, "amax") + half_pixel
    pixels = torch.bincount(number, minlength=count).to(place.dtype)
    centre = zeros.index_add(0, number, place) / pixels[:, None]
    area = pixels / (height * width)
    box = (high - low).clamp(min=1e-6)
    filled = area / box.prod(1)
    ratio = torch.log(box[:, 1] * height / (box[:, 0] * width))
    figures = torch.stack([filled, torch.log(area), ratio], 1)
    return torch.cat([centre, low, high, figures], 1)


def build_labeler(
    model: Mapping[str, Any], num_classes: int, pretrained: bool = False
) -> RegionModel:
    """Build a labeler template's `model` section: architecture, encoder, width.

    Raises:
        ConfigError: unknown architecture or encoder, or pretrained weights that cannot be loaded.
    """
    architecture = str(model.get("architecture", ""))
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"model.architecture={architecture}: labelers are {', '.join(ARCHITECTURES)}."
        )
    encoder = timm_name(str(model.get("encoder", "")))
    with building("mask_pool", encoder, pretrained):
        net: Any = timm.create_model(encoder, pretrained=pretrained, features_only=True)
    mean, std = statistics(encoder)
    preprocessing = Preprocessing(mean, std, max(net.feature_info.reduction()))
    return RegionModel(net, int(model["width"]), num_classes, preprocessing)
