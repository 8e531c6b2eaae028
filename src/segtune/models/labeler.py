"""A model that tells regions of one class apart: a timm encoder whose features are pooled over each region's mask.

bytes (B, 3, H, W) and region numbers (B, h, w) -> logits (R, num_classes), a row per region.
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
_FORM = 9  # figures of `region_form`
_PARTS = 5  # means of features: region, its thirds, image


class Encoded(NamedTuple):
    """Features (B, D, h, w), and how many of their rows and columns the images cover: what lies beyond is padding."""

    features: Tensor
    rows: float
    columns: float


class RegionModel(nn.Module):
    """Pools features over regions, and classifies what it pooled.

    Features of all levels from stride 4 on are brought to one width and summed. Their mean over each region, over its
    upper, middle and lower third, and over the image, beside the region's form, goes through a small perceptron. A
    second head says of each place what would be seen there: it finds the seams of regions that show several things.
    """

    def __init__(
        self, encoder: nn.Module, width: int, num_classes: int, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.encoder, self.preprocessing = encoder, preprocessing
        self.normalize = Normalizer(preprocessing)
        told: Any = encoder.feature_info
        self.stride = int(
            min(stride for stride in told.reduction() if stride >= 4)
        )  # of the places
        self.levels = [n for n, stride in enumerate(told.reduction()) if stride >= 4]
        self.lateral = nn.ModuleList(nn.Conv2d(told.channels()[n], width, 1) for n in self.levels)
        self.norm = nn.LayerNorm(_PARTS * width)
        self.form = nn.Sequential(nn.Linear(_FORM, width), nn.GELU(), nn.Linear(width, width))
        self.head = nn.Sequential(
            nn.Linear((_PARTS + 1) * width, width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(width, num_classes),
        )
        self.places = nn.Conv2d(width, num_classes, 1)

    @property
    def class_layers(self) -> list[nn.Module]:
        """Layers of which each class has a row."""
        return [self.head[-1], self.places]

    def forward(self, image: Tensor, regions: Tensor | None = None) -> Tensor:
        """Logits (R, num_classes) of the regions numbered 1..R over the whole batch; 0 stands for no region.

        Args:
            image: (B, 3, H, W) uint8.
            regions: (B, h, w) int32, of any size, in the same order over the batch as their numbers; None takes each
                image as one region.
        """
        if regions is None:
            each = torch.arange(1, len(image) + 1, dtype=torch.int32, device=image.device)
            regions = each.view(-1, 1, 1).expand(-1, *image.shape[-2:])
        return self.region_logits(self.encode(image), regions)

    def logits(self, image: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the regions (R, num_classes) and of the places, see `place_logits`."""
        encoded = self.encode(image)
        return self.region_logits(encoded, regions), self.place_logits(encoded)

    def encode(self, image: Tensor) -> Encoded:
        """Features of images (B, 3, H, W) uint8, which both heads look at."""
        height, width = image.shape[-2:]
        x = self.normalize(image)
        found = self.encoder(x)
        features = self.lateral[0](found[self.levels[0]])
        for level, lateral in zip(self.levels[1:], list(self.lateral)[1:], strict=True):
            features = features + F.interpolate(
                lateral(found[level]), size=features.shape[-2:], mode="nearest"
            )
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
        logits: Tensor = self.head(
            torch.cat([self.norm(torch.cat(pooled)), self.form(torch.cat(forms))], 1)
        )
        return logits

    def place_logits(self, encoded: Encoded) -> Tensor:
        """Logits (B, num_classes, H / s, W / s), rounded up, at the stride s of the finest level, mostly 4."""
        logits: Tensor = self.places(encoded.features)
        return logits[..., : math.ceil(encoded.rows), : math.ceil(encoded.columns)]


def _pooled(features: Tensor, regions: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Of each region of one image, a row of mean features (D, h, w), (R, 5 D), and one of its form, (R, 9).

    Args:
        scale: rows and columns of the features that the image covers; what lies beyond is padding.
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
    cells, place = rows * columns, row * columns + column
    thirds = torch.bincount((number * 3 + third) * cells + place, minlength=3 * count * cells).view(
        count, 3, cells
    )
    thirds = thirds.float()
    whole = thirds.sum(1, keepdim=True)
    # a third without a pixel, as of a ring or of something one pixel high, stands for the whole
    weight = torch.cat([whole, torch.where(thirds.sum(2, keepdim=True) > 0, thirds, whole)], 1)
    weight = (weight / weight.sum(2, keepdim=True)).view(4 * count, cells)
    means = (weight.to(features.dtype) @ features.reshape(depth, cells).T).view(count, 4 * depth)
    around = features.mean((1, 2)).expand(count, -1)
    return torch.cat([means, around], 1), form.to(means.dtype)


def region_form(number: Tensor, y: Tensor, x: Tensor, count: int, shape: tuple[int, ...]) -> Tensor:
    """Where regions lie and how they are shaped, (count, 9).

    Centre, box (left, top, right, bottom), share of the box that is filled, logarithms of area and of height to width;
    coordinates and areas are shares of the image's.

    Args:
        number: of the region, from 0, at each pixel (y, x) of any.
        shape: (height, width) of the image.
    """
    height, width = shape[-2:]
    place = torch.stack([(x + 0.5) / width, (y + 0.5) / height], 1)
    start, zeros = place.new_full((count, 2), 1.0), place.new_zeros(count, 2)
    index = number[:, None].expand(-1, 2)
    half = place.new_tensor([0.5 / width, 0.5 / height])
    low = start.scatter_reduce(0, index, place, "amin") - half
    high = zeros.scatter_reduce(0, index, place, "amax") + half
    pixels = torch.bincount(number, minlength=count).to(place.dtype)
    centre = zeros.index_add(0, number, place) / pixels[:, None]
    area = pixels / (height * width)
    box = (high - low).clamp(min=1e-6)
    tall = torch.log(box[:, 1] * height / (box[:, 0] * width))
    return torch.cat(
        [centre, low, high, (area / box.prod(1))[:, None], torch.log(area)[:, None], tall[:, None]],
        1,
    )


def build_labeler(
    model: Mapping[str, Any], num_classes: int, pretrained: bool = False
) -> RegionModel:
    """Builds a labeler template's `model` section: architecture, encoder, width.

    Raises:
        ConfigError: unknown architecture or encoder, or pretrained weights that cannot be fetched.
    """
    options = dict(model)
    architecture, encoder = str(options.pop("architecture", "")), str(options.pop("encoder", ""))
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"model.architecture={architecture}: labelers are {', '.join(ARCHITECTURES)}."
        )
    encoder = timm_name(encoder)
    with building("mask_pool", encoder, pretrained):
        net = timm.create_model(encoder, pretrained=pretrained, features_only=True)
    mean, std = statistics(encoder)
    strides: list[int] = net.feature_info.reduction()  # type: ignore[union-attr, operator]  # timm adds it
    return RegionModel(
        net, int(options["width"]), num_classes, Preprocessing(mean, std, max(strides))
    )
