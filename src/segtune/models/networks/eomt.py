"""EoMT: a plain vision transformer whose last blocks also process queries.

Each query predicts a class and a mask (Kerssies et al., "Your ViT is Secretly an Image Segmentation
Model", CVPR 2025, arXiv 2503.19108). There is no pixel decoder and no transformer decoder: in the
last blocks, learned queries take part in the self-attention of the patch tokens.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from segtune.errors import ConfigError, nearest
from segtune.models.encoders import building, encoder_preprocessing, timm_name
from segtune.models.networks.network import Masks, Network

_POWER = 0.9
_LEAST_SCORE = 1e-4


class Eomt(Network):
    """Normalised image (B, 3, H, W) -> logits (B, num_classes, H', W').

    H and W are multiples of the patch size. The logits are the logarithms of MaskFormer's semantic
    scores (Cheng et al., 2021, section 3.4): the sum over queries of class probability times mask
    probability. Their softmax is each class's share of the total score.

    Args:
        encoder: a vision transformer of timm.
        num_queries: Q.
        num_blocks: the number of the encoder's last blocks that see the queries.

    Raises:
        ConfigError: the encoder is no vision transformer, or has fewer blocks.
    """

    encoder: VisionTransformer
    classifier = None  # no convolution holds one bias per class

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
        self.mask_probabilities: tuple[float, ...] = (1.0,) * num_blocks
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

    @property
    def class_layers(self) -> list[nn.Module]:
        """The class head; the row after the classes stands for no object."""
        return [self.class_head]

    @property
    def compile_units(self) -> list[nn.Module]:
        """The blocks: masks are built between them, which a compiled graph cannot do."""
        return list(self.encoder.blocks)

    def advance(self, progress: float) -> None:
        """Set the share of queries in masked attention for a progress in [0, 1]."""
        self.mask_probabilities = tuple(
            mask_probability(i, self.num_blocks, progress) for i in range(self.num_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        last = self.predictions(x)[-1]
        class_shares = last.classes.softmax(-1)[..., :-1]
        scores = torch.einsum("bqc,bqhw->bchw", class_shares, last.masks.sigmoid())
        return scores.float().clamp(min=_LEAST_SCORE).log()

    def predictions(self, x: Tensor) -> list[Masks]:
        """Class and mask of each query after the last block.

        In training the predictions before each block that sees the queries come first.
        """
        encoder = self.encoder
        grid = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(x)))
        first = len(encoder.blocks) - self.num_blocks
        predictions = []
        for number, block in enumerate(encoder.blocks):
            if number == first:
                queries = self.queries.expand(len(tokens), -1, -1).to(tokens.dtype)
                tokens = torch.cat([queries, tokens], 1)
            attention_mask = None
            if number >= first and self.training:
                predictions.append(self._predict(tokens, grid))
                attention_mask = self._attention_mask(
                    predictions[-1].masks,
                    grid,
                    tokens.shape[1],
                    self.mask_probabilities[number - first],
                )
            tokens = block(tokens, attn_mask=attention_mask)
        return [*predictions, self._predict(tokens, grid)]

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

    def _attention_mask(
        self, masks: Tensor, grid: tuple[int, int], length: int, probability: float
    ) -> Tensor | None:
        """Where attention is allowed, (B, 1, N, N) bool with N = length; None for everywhere.

        With this probability a query attends to the patches inside its own mask only.
        """
        if probability <= 0.0:
            return None
        inside = F.interpolate(masks.detach().float(), grid, mode="bilinear").flatten(2) > 0
        free = torch.rand(inside.shape[:2], device=masks.device) > probability
        free |= ~inside.any(-1)  # attention over no patch is not defined
        allowed = torch.ones(len(masks), 1, length, length, dtype=torch.bool, device=masks.device)
        allowed[:, 0, : self.num_queries, self._first_patch :] = inside | free[..., None]
        return allowed


def build_eomt(num_classes: int, encoder: str, pretrained: bool = False, **options: Any) -> Eomt:
    """Build EoMT with the preprocessing of its encoder."""
    encoder = timm_name(encoder)
    with building("eomt", encoder, pretrained):
        net = Eomt(num_classes, encoder, pretrained=pretrained, **options)
    net.preprocessing = encoder_preprocessing(encoder, net.patch_size)
    return net


def mask_probability(block: int, num_blocks: int, progress: float) -> float:
    """Share of a block's queries in masked attention at a progress in [0, 1] (section 3.3).

    The training has num_blocks + 2 equal parts. In the first part the share is 1 in every block.
    Then it falls to 0 along (1 - t)^0.9 in one block per part, the earliest block first. In the
    last part it is 0 in every block.

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
    candidates: Sequence[str] = timm.list_models(["vit_*", "deit*", "test_vit*"])
    encoder: Any = None
    if name.split(".")[0] in candidates:
        with suppress(TypeError):  # other kinds of transformers take no dynamic_img_size
            encoder = timm.create_model(
                name, pretrained=pretrained, num_classes=0, dynamic_img_size=True
            )
    if not isinstance(encoder, VisionTransformer) or not isinstance(encoder.blocks[0], Block):
        hint = nearest(name, candidates)
        raise ConfigError(f"hp.encoder={name}: eomt takes timm's plain vision transformers; {hint}")
    return encoder
