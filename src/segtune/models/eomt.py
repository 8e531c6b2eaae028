"""EoMT: a plain vision transformer whose last blocks also carry queries, each of which becomes a class and a mask.

Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025 (arXiv 2503.19108). No pixel decoder and
no transformer decoder: in the last blocks, learned queries stand beside the patch tokens in the same self-attention.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest

_POWER = 0.9
_LEAST_SCORE = 1e-4


class Masks(NamedTuple):
    """What the queries say.

    Attributes:
        classes: logits (B, Q, num_classes + 1); the last one stands for no object.
        masks: logits (B, Q, H', W'), about a quarter of the image's size.
    """

    classes: Tensor
    masks: Tensor


class Eomt(nn.Module):
    """Normalised image (B, 3, H, W), sides a multiple of the patch size -> logits (B, num_classes, H', W').

    The logits are logarithms of the semantic scores of MaskFormer (Cheng et al., 2021, section 3.4): the sum over
    queries of class probability times mask probability; their softmax is each class's share of the score.

    Args:
        encoder: one of timm's vision transformers.
        num_queries: Q.
        num_blocks: how many of the encoder's last blocks see the queries.

    Raises:
        ConfigError: an encoder that is no vision transformer, or has fewer blocks.
    """

    def __init__(
        self,
        num_classes: int,
        encoder: str,
        num_queries: int = 100,
        num_blocks: int = 4,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = _vision_transformer(encoder, pretrained)
        width, depth = self.encoder.embed_dim, len(self.encoder.blocks)
        if not 1 <= num_blocks <= depth:
            raise ConfigError(
                f"hp.num_blocks={num_blocks}: {encoder} has {depth} blocks; allowed is 1..{depth}."
            )
        self.num_queries, self.num_blocks = num_queries, num_blocks
        self.probabilities: tuple[float, ...] = (1.0,) * num_blocks
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.class_head = nn.Linear(width, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, width),
        )
        doublings = max(1, int(math.log2(self.patch_size)) - 2)
        self.upscale = nn.Sequential(*(_upscale(width) for _ in range(doublings)))

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.encoder.patch_embed.patch_size[0])

    def advance(self, progress: float) -> None:
        """Sets how often queries are kept to their masks, for a point in [0, 1] of the training."""
        self.probabilities = tuple(
            mask_probability(i, self.num_blocks, progress) for i in range(self.num_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        found = self.predictions(x)[-1]
        scores = torch.einsum(
            "bqc,bqhw->bchw", found.classes.softmax(-1)[..., :-1], found.masks.sigmoid()
        )
        return scores.float().clamp(min=_LEAST_SCORE).log()

    def predictions(self, x: Tensor) -> list[Masks]:
        """Class and mask of each query: after the last block; when training, before each block that sees them, too."""
        encoder = self.encoder
        grid = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(x)))
        first = len(encoder.blocks) - self.num_blocks
        found = []
        for number, block in enumerate(encoder.blocks):
            if number == first:
                tokens = torch.cat(
                    [self.queries.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], 1
                )
            allowed = None
            if number >= first and self.training:
                found.append(self._predict(tokens, grid))
                allowed = self._allowed(
                    found[-1].masks, grid, tokens.shape[1], self.probabilities[number - first]
                )
            tokens = block(tokens, attn_mask=allowed)
        return [*found, self._predict(tokens, grid)]

    def _predict(self, tokens: Tensor, grid: tuple[int, int]) -> Masks:
        tokens = self.encoder.norm(tokens)
        queries, patches = tokens[:, : self.num_queries], tokens[:, self._first_patch :]
        pixels = self.upscale(patches.transpose(1, 2).reshape(len(tokens), -1, *grid))
        return Masks(
            self.class_head(queries),
            torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), pixels),
        )

    @property
    def _first_patch(self) -> int:
        return self.num_queries + int(self.encoder.num_prefix_tokens)

    def _allowed(
        self, masks: Tensor, grid: tuple[int, int], length: int, probability: float
    ) -> Tensor | None:
        """What may look where, (B, 1, N, N) bool: with this probability a query sees the patches of its mask alone."""
        if probability <= 0.0:
            return None
        inside = F.interpolate(masks.detach().float(), grid, mode="bilinear").flatten(2) > 0
        free = torch.rand(inside.shape[:2], device=masks.device) > probability
        free |= ~inside.any(-1)  # attention over nothing is not defined
        allowed = torch.ones(len(masks), 1, length, length, dtype=torch.bool, device=masks.device)
        allowed[:, 0, : self.num_queries, self._first_patch :] = inside | free[..., None]
        return allowed


def mask_probability(block: int, num_blocks: int, progress: float) -> float:
    """Share of the queries that a block keeps to their masks at a point in [0, 1] of the training (section 3.3).

    The training has num_blocks + 2 equal parts: in the first all are kept; then one block after the other, the
    earliest first, gets free in a part of its own along (1 - t)^0.9; in the last part none is kept.

    >>> [round(mask_probability(1, 4, t / 12), 3) for t in (0, 4, 5, 6)]
    [1.0, 1.0, 0.536, 0.0]
    """
    t = min(1.0, max(0.0, progress * (num_blocks + 2) - (block + 1)))
    return float((1.0 - t) ** _POWER)


def _upscale(width: int) -> nn.Module:
    """(B, C, H, W) -> (B, C, 2H, 2W)."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, width, 2, stride=2),
        nn.GELU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        LayerNorm2d(width),
    )


def _vision_transformer(name: str, pretrained: bool) -> VisionTransformer:
    known: Sequence[str] = timm.list_models(["vit_*", "deit*", "test_vit*"])
    found: Any = None
    if name.split(".")[0] in known:
        with suppress(TypeError):  # those of another make take no dynamic_img_size
            found = timm.create_model(
                name, pretrained=pretrained, num_classes=0, dynamic_img_size=True
            )
    if not isinstance(found, VisionTransformer) or not isinstance(found.blocks[0], Block):
        raise ConfigError(
            f"hp.encoder={name}: eomt takes timm's plain vision transformers; {nearest(name, known)}"
        )
    return found
