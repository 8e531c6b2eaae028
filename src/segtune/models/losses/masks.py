"""The loss of query-based models: each true mask is matched to one query, which must fit it."""

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

_OVERSAMPLING, _UNCERTAIN_SHARE = 3, 0.75
_MAX_COST = 1e6  # in place of costs that are not finite

Shares = tuple[Tensor | float, Tensor | float]
"""Share of a part of a batch in the batch's mean over queries, and over matched queries."""


class MaskClassificationLoss(nn.Module):
    """Match queries to the classes of an image, then compare class and mask.

    Mask2Former (Cheng et al., 2022). Masks are compared on points (section 3.3): some where the
    mask is least certain, the others anywhere. Points on ignored pixels do not count.

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
        weight = torch.tensor([1.0] * num_classes + [no_object])
        self.register_buffer("weight", weight, persistent=False)

    def forward(
        self, predictions: Sequence[Masks], mask: Tensor, batch_mask: Tensor | None = None
    ) -> Tensor:
        """Scalar loss against mask (B, H, W) of ids and 255, summed over the predictions.

        A GPU waits for the CPU once, for all images and predictions together.

        Args:
            batch_mask: the mask (N, H, W) of the batch that `mask` is a part of. The losses of the
                parts then sum to the loss of the batch.
        """
        # fp32: sums over thousands of points
        with torch.autocast(mask.device.type, enabled=False):
            predictions = [Masks(p.classes.float(), p.masks.float()) for p in predictions]
            costs = torch.stack([self._costs(p, mask) for p in predictions])
            matches = assign(costs.cpu().numpy())
            num_queries = predictions[0].classes.shape[1]
            shares = self._shares(mask, mask if batch_mask is None else batch_mask, num_queries)
            losses = [
                self._loss_of_one(p, mask, m, shares)
                for p, m in zip(predictions, matches, strict=True)
            ]
            return torch.stack(losses).sum()

    def _shares(self, mask: Tensor, batch_mask: Tensor, num_queries: int) -> Shares:
        if mask is batch_mask:
            return 1.0, 1.0
        matched, all_matched = (
            self._shown(m).sum(1).clamp(max=num_queries).sum() for m in (mask, batch_mask)
        )
        no_object = self.weight[-1]
        queries = matched + no_object * (len(mask) * num_queries - matched)
        all_queries = all_matched + no_object * (len(batch_mask) * num_queries - all_matched)
        return queries / all_queries, matched / all_matched.clamp(min=1)

    def _loss_of_one(
        self, prediction: Masks, mask: Tensor, match: NDArray[np.int64], shares: Shares
    ) -> Tensor:
        """The loss of one prediction with its (image, query, class) triples (3, M)."""
        class_weight, mask_weight, dice_weight = self.factors
        images, queries, labels = torch.from_numpy(match).to(mask.device, non_blocking=True)
        target = torch.full(prediction.classes.shape[:2], self.num_classes, device=mask.device)
        target[images, queries] = labels
        classes = F.cross_entropy(prediction.classes.transpose(1, 2), target, self.weight)
        class_loss = shares[0] * class_weight * classes
        if not match.size:
            return class_loss + 0.0 * prediction.masks.sum()
        logits = prediction.masks[images, queries]
        points = self._points(logits)
        values, ids = _values_at(logits[:, None], points)[:, 0], _ids_at(mask[images], points)
        truth, counted = (ids == labels[:, None]).float(), (ids != IGNORE_INDEX).float()
        cross = F.binary_cross_entropy_with_logits(values, truth, counted, reduction="none").sum(1)
        cross = (cross / counted.sum(1).clamp(min=1)).mean()
        share = values.sigmoid() * counted
        dice = 1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + (truth * counted).sum(1) + 1)
        loss: Tensor = class_loss + shares[1] * (mask_weight * cross + dice_weight * dice.mean())
        return loss

    def _shown(self, mask: Tensor) -> Tensor:
        """Which classes each image of a mask (B, H, W) shows, (B, C) bool."""
        shown = torch.zeros(len(mask), IGNORE_INDEX + 1, dtype=torch.bool, device=mask.device)
        shown.scatter_(1, mask.flatten(1).long(), True)
        return shown[:, : self.num_classes]

    @torch.no_grad()
    def _costs(self, prediction: Masks, mask: Tensor) -> Tensor:
        """Cost of each query as each class, (B, Q, C); infinity for classes an image lacks."""
        class_weight, mask_weight, dice_weight = self.factors
        points = torch.rand(len(mask), self.num_points, 2, device=mask.device)
        values, ids = _values_at(prediction.masks, points), _ids_at(mask, points)
        truth = (ids[..., None] == torch.arange(self.num_classes, device=mask.device)).float()
        counted = (ids != IGNORE_INDEX).float()[:, None]
        number = counted.sum(2, keepdim=True).clamp(min=1)
        outside = counted.transpose(1, 2) - truth
        cross = (F.softplus(-values) @ truth + F.softplus(values) @ outside) / number
        share = values.sigmoid() * counted
        size = share.sum(2, keepdim=True) + truth.sum(1, keepdim=True)
        dice = 1 - (2 * share @ truth + 1) / (size + 1)
        by_class = -prediction.classes.softmax(-1)[..., :-1]
        costs: Tensor = class_weight * by_class + mask_weight * cross + dice_weight * dice
        # weights that diverge give NaN, which SciPy refuses
        costs = costs.nan_to_num(_MAX_COST, _MAX_COST, -_MAX_COST)
        return costs.masked_fill(~self._shown(mask)[:, None], math.inf)

    @torch.no_grad()
    def _points(self, logits: Tensor) -> Tensor:
        """Points (M, P, 2) as (x, y) in [0, 1]: the least certain of three times P, and others."""
        number = int(self.num_points * _UNCERTAIN_SHARE)
        candidates = torch.rand(
            len(logits), self.num_points * _OVERSAMPLING, 2, device=logits.device
        )
        certainty = _values_at(logits[:, None], candidates)[:, 0].abs()
        index = (-certainty).topk(number, 1).indices
        uncertain = candidates.gather(1, index[..., None].expand(-1, -1, 2))
        others = torch.rand(len(logits), self.num_points - number, 2, device=logits.device)
        return torch.cat([uncertain, others], 1)


def assign(costs: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """The cheapest match of one query to each class that an image shows.

    Args:
        costs: (L, B, Q, C) of L predictions; infinity for a class that an image does not show.

    Returns:
        for each prediction, (image, query, class) triples (3, M).

    >>> costs = np.array([[[[0.9, 0.1, np.inf], [0.2, 0.3, np.inf]]]], np.float32)
    >>> assign(costs)[0].tolist()
    [[0, 0], [0, 1], [1, 0]]
    """
    matches = []
    for prediction in costs:
        triples = [np.zeros((3, 0), np.int64)]
        for image, cost in enumerate(prediction):
            classes = np.flatnonzero(np.isfinite(cost[0]))
            queries, order = linear_sum_assignment(cost[:, classes])
            triples.append(np.stack([np.full_like(queries, image), queries, classes[order]]))
        matches.append(np.concatenate(triples, axis=1))
    return matches


def _values_at(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values (N, C, P) of maps (N, C, H, W) at points (N, P, 2)."""
    values: Tensor = F.grid_sample(
        maps, 2 * points[:, None] - 1, align_corners=False, padding_mode="border"
    )
    return values[:, :, 0]


def _ids_at(mask: Tensor, points: Tensor) -> Tensor:
    """Ids (N, P) of masks (N, H, W) at points (N, P, 2)."""
    height, width = mask.shape[-2:]
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return mask.flatten(1).gather(1, y * width + x).long()
