"""The loss of models that predict a set of masks: each true mask is given to one query, which then has to fit it."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.models.eomt import Masks

_OVERSAMPLED, _UNCERTAIN = 3, 0.75


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
        self.register_buffer("weight", torch.tensor([1.0] * num_classes + [no_object]), persistent=False)

    def forward(self, predictions: Sequence[Masks], mask: Tensor) -> Tensor:
        """Scalar loss, summed over the predictions of a model, against mask (B, H, W) of ids and 255."""
        return torch.stack([self._one(Masks(p.classes.float(), p.masks.float()), mask) for p in predictions]).sum()

    def _one(self, found: Masks, mask: Tensor) -> Tensor:
        shown = [torch.unique(m[m != IGNORE_INDEX]).long() for m in mask]
        target = torch.full(found.classes.shape[:2], self.num_classes, device=mask.device)
        images, queries, labels = [], [], []
        for row, classes in enumerate(shown):
            chosen, order = self._match(Masks(found.classes[row], found.masks[row]), mask[row], classes)
            target[row, chosen] = classes[order]
            images += [row] * len(chosen)
            queries.append(chosen)
            labels.append(classes[order])
        total = self.factors[0] * F.cross_entropy(found.classes.transpose(1, 2), target, self.weight)
        if not images:
            return total + 0.0 * found.masks.sum()
        rows = torch.tensor(images, device=mask.device)
        logits, label = found.masks[rows, torch.cat(queries)], torch.cat(labels)
        points = self._points(logits)
        values, ids = _at(logits[:, None], points)[:, 0], _ids_at(mask[rows], points)
        truth, counted = (ids == label[:, None]).float(), (ids != IGNORE_INDEX).float()
        cross = F.binary_cross_entropy_with_logits(values, truth, counted, reduction="none").sum(1)
        cross = (cross / counted.sum(1).clamp(min=1)).mean()
        share = values.sigmoid() * counted
        dice = 1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + (truth * counted).sum(1) + 1)
        return total + self.factors[1] * cross + self.factors[2] * dice.mean()

    @torch.no_grad()
    def _match(self, found: Masks, mask: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """(query, place among `classes`) pairs of least cost, each (M,); found has (Q, C + 1) and (Q, H, W)."""
        if not len(classes):
            return classes, classes
        points = torch.rand(1, self.num_points, 2, device=mask.device)
        values, ids = _at(found.masks[None], points)[0], _ids_at(mask[None], points)[0]
        values, ids = values[:, ids != IGNORE_INDEX], ids[ids != IGNORE_INDEX]
        truth = (ids[None] == classes[:, None]).float()
        number = max(1, len(ids))
        cross = (F.softplus(-values) @ truth.T + F.softplus(values) @ (1 - truth).T) / number
        share = values.sigmoid()
        dice = 1 - (2 * share @ truth.T + 1) / (share.sum(1)[:, None] + truth.sum(1)[None] + 1)
        by_class = -found.classes.softmax(-1)[:, classes]
        cost = self.factors[0] * by_class + self.factors[1] * cross + self.factors[2] * dice
        rows, columns = linear_sum_assignment(np.nan_to_num(cost.cpu().numpy(), nan=1e6, posinf=1e6, neginf=-1e6))
        return torch.as_tensor(rows, device=mask.device), torch.as_tensor(columns, device=mask.device)

    @torch.no_grad()
    def _points(self, logits: Tensor) -> Tensor:
        """(M, P, 2) places in [0, 1] as (x, y): of three times as many, those of least certainty, and others."""
        many = torch.rand(len(logits), self.num_points * _OVERSAMPLED, 2, device=logits.device)
        uncertain = -_at(logits[:, None], many)[:, 0].abs()
        number = int(self.num_points * _UNCERTAIN)
        chosen = uncertain.topk(number, 1).indices
        kept = many.gather(1, chosen[..., None].expand(-1, -1, 2))
        return torch.cat([kept, torch.rand(len(logits), self.num_points - number, 2, device=logits.device)], 1)


def _at(values: Tensor, points: Tensor) -> Tensor:
    """(N, C, P) bilinear values of maps (N, C, H, W) at points (N, P, 2)."""
    found: Tensor = F.grid_sample(values, 2 * points[:, None] - 1, align_corners=False, padding_mode="border")
    return found[:, :, 0]


def _ids_at(mask: Tensor, points: Tensor) -> Tensor:
    """(N, P) ids of masks (N, H, W) at points (N, P, 2)."""
    height, width = mask.shape[-2:]
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return mask.flatten(1).gather(1, y * width + x).long()
