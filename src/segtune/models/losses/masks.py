"""The loss of models that predict a set of masks: each true mask is given to one query, which then has to fit it."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.networks.network import Masks

_OVERSAMPLED, _UNCERTAIN = 3, 0.75
_BAD = 1e6


class MaskClassificationLoss(nn.Module):
    """Matches queries to the classes that an image shows and compares class and mask (Mask2Former, Cheng et al., 2022).

    Masks are compared on points: some drawn where the mask is least certain, the rest anywhere (section 3.3 there). A
    point whose pixel is ignored counts nowhere.

    Args:
        num_points: per mask.
        class_weight: of the cross-entropy over classes.
        mask_weight: of the binary cross-entropy over points.
        dice_weight: of the Dice loss over points.
        no_object: weight of the class that stands for no object.
    """

    weight: Tensor

    def __init__(
        self,
        num_classes: int,
        num_points: int = 12544,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_points = num_classes, num_points
        self.factors = class_weight, mask_weight, dice_weight
        self.register_buffer(
            "weight", torch.tensor([1.0] * num_classes + [no_object]), persistent=False
        )

    def forward(
        self, predictions: Sequence[Masks], mask: Tensor, whole: Tensor | None = None
    ) -> Tensor:
        """Scalar loss, summed over the predictions of a model, against mask (B, H, W) of ids and 255.

        A GPU waits for the CPU once, for all images and predictions together.

        Args:
            whole: the mask (N, H, W) of the batch that these are a part of: the losses of its parts sum to its own.
        """
        with torch.autocast(
            mask.device.type, enabled=False
        ):  # sums over thousands of points need fp32
            found = [Masks(p.classes.float(), p.masks.float()) for p in predictions]
            matched = assign(torch.stack([self._costs(p, mask) for p in found]).cpu().numpy())
            shares = self._shares(mask, mask if whole is None else whole, found[0].classes.shape[1])
            return torch.stack(
                [self._one(p, mask, m, shares) for p, m in zip(found, matched, strict=True)]
            ).sum()

    def _shares(
        self, mask: Tensor, whole: Tensor, num_queries: int
    ) -> tuple[Tensor | float, Tensor | float]:
        """What a part of a batch counts in the mean over queries, and in that over matched ones."""
        if mask is whole:
            return 1.0, 1.0
        matched, all_matched = (
            self._shown(m).sum(1).clamp(max=num_queries).sum() for m in (mask, whole)
        )
        no_object = self.weight[-1]
        queries = matched + no_object * (len(mask) * num_queries - matched)
        all_queries = all_matched + no_object * (len(whole) * num_queries - all_matched)
        return queries / all_queries, matched / all_matched.clamp(min=1)

    def _one(
        self,
        found: Masks,
        mask: Tensor,
        matched: NDArray[np.int64],
        shares: tuple[Tensor | float, Tensor | float],
    ) -> Tensor:
        """Of one prediction, with its (image, query, class) triples (3, M)."""
        images, queries, labels = torch.from_numpy(matched).to(mask.device, non_blocking=True)
        target = torch.full(found.classes.shape[:2], self.num_classes, device=mask.device)
        target[images, queries] = labels
        total = (
            shares[0]
            * self.factors[0]
            * F.cross_entropy(found.classes.transpose(1, 2), target, self.weight)
        )
        if not matched.size:
            return total + 0.0 * found.masks.sum()
        logits = found.masks[images, queries]
        points = self._points(logits)
        values, ids = _at(logits[:, None], points)[:, 0], _ids_at(mask[images], points)
        truth, counted = (ids == labels[:, None]).float(), (ids != IGNORE_INDEX).float()
        cross = F.binary_cross_entropy_with_logits(values, truth, counted, reduction="none").sum(1)
        cross = (cross / counted.sum(1).clamp(min=1)).mean()
        share = values.sigmoid() * counted
        dice = 1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + (truth * counted).sum(1) + 1)
        summed: Tensor = total + shares[1] * (
            self.factors[1] * cross + self.factors[2] * dice.mean()
        )
        return summed

    def _shown(self, mask: Tensor) -> Tensor:
        """Which classes each image of a mask (B, H, W) shows, (B, C) bool."""
        found = torch.zeros(len(mask), IGNORE_INDEX + 1, dtype=torch.bool, device=mask.device)
        found.scatter_(1, mask.flatten(1).long(), True)
        return found[:, : self.num_classes]

    @torch.no_grad()
    def _costs(self, found: Masks, mask: Tensor) -> Tensor:
        """(B, Q, C): what each query would cost as each class; infinity for a class that an image does not show."""
        points = torch.rand(len(mask), self.num_points, 2, device=mask.device)
        values, ids = _at(found.masks, points), _ids_at(mask, points)
        truth = (ids[..., None] == torch.arange(self.num_classes, device=mask.device)).float()
        counted = (ids != IGNORE_INDEX).float()[:, None]
        number = counted.sum(2, keepdim=True).clamp(min=1)
        elsewhere = counted.transpose(1, 2) - truth
        cross = (F.softplus(-values) @ truth + F.softplus(values) @ elsewhere) / number
        share = values.sigmoid() * counted
        dice = 1 - (2 * share @ truth + 1) / (
            share.sum(2, keepdim=True) + truth.sum(1, keepdim=True) + 1
        )
        by_class = -found.classes.softmax(-1)[..., :-1]
        costs: Tensor = (
            self.factors[0] * by_class + self.factors[1] * cross + self.factors[2] * dice
        )
        costs = costs.nan_to_num(_BAD, _BAD, -_BAD)  # of weights that diverge: SciPy wants numbers
        return costs.masked_fill(~self._shown(mask)[:, None], math.inf)

    @torch.no_grad()
    def _points(self, logits: Tensor) -> Tensor:
        """(M, P, 2) places in [0, 1] as (x, y): of three times as many, those of least certainty, and others."""
        many = torch.rand(len(logits), self.num_points * _OVERSAMPLED, 2, device=logits.device)
        uncertain = -_at(logits[:, None], many)[:, 0].abs()
        number = int(self.num_points * _UNCERTAIN)
        chosen = uncertain.topk(number, 1).indices
        kept = many.gather(1, chosen[..., None].expand(-1, -1, 2))
        return torch.cat(
            [kept, torch.rand(len(logits), self.num_points - number, 2, device=logits.device)], 1
        )


def assign(costs: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """For each of L predictions, (image, query, class) triples (3, M) of least cost: each class shown gets one query.

    Args:
        costs: (L, B, Q, C); infinity for a class that an image does not show.

    >>> costs = np.array([[[[0.9, 0.1, np.inf], [0.2, 0.3, np.inf]]]], np.float32)
    >>> assign(costs)[0].tolist()
    [[0, 0], [0, 1], [1, 0]]
    """
    found = []
    for prediction in costs:
        triples = [np.zeros((3, 0), np.int64)]
        for image, cost in enumerate(prediction):
            classes = np.flatnonzero(np.isfinite(cost[0]))
            queries, order = linear_sum_assignment(cost[:, classes])
            triples.append(np.stack([np.full_like(queries, image), queries, classes[order]]))
        found.append(np.concatenate(triples, axis=1))
    return found


def _at(values: Tensor, points: Tensor) -> Tensor:
    """(N, C, P) bilinear values of maps (N, C, H, W) at points (N, P, 2)."""
    found: Tensor = F.grid_sample(
        values, 2 * points[:, None] - 1, align_corners=False, padding_mode="border"
    )
    return found[:, :, 0]


def _ids_at(mask: Tensor, points: Tensor) -> Tensor:
    """(N, P) ids of masks (N, H, W) at points (N, P, 2)."""
    height, width = mask.shape[-2:]
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return mask.flatten(1).gather(1, y * width + x).long()
