"""The loss of a run: a weighted sum of registered terms, on logits and mask of one size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segtune.classes import IGNORE_INDEX
from segtune.config.part_options import checked_options
from segtune.config.schema import LossConfig
from segtune.errors import ConfigError
from segtune.models.losses.context import LossContext
from segtune.models.losses.distillation import Distillation
from segtune.models.losses.masks import MaskClassificationLoss
from segtune.plugins.registry import find


class SegmentationLoss(nn.Module):
    """Sum of the configured terms.

    Attributes:
        mask_loss: the loss of a query-based model's predictions; None if it is not configured.
        is_additive: whether the losses of the parts of a batch sum to the loss of the batch. Dice
            and Lovasz, for example, are ratios over all pixels.
        distillation: the comparison with a teacher; None without one.

    Args:
        shares: share of each class among the counted pixels of the train masks, for class weights.
    """

    def __init__(
        self,
        config: LossConfig,
        shares: Sequence[float] | NDArray[np.float64],
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.config, self.distillation = config, distillation
        self.mask_loss: MaskClassificationLoss | None = None
        if "masks" in config.terms:  # it stands alone
            self.mask_loss = MaskClassificationLoss(len(shares), config.points)
        context, names = LossContext(config, shares), [n for n in config.terms if n != "masks"]
        self.terms = nn.ModuleList(
            build_term(name, config.options.get(name, {}), context) for name in names
        )
        self.is_additive = all(getattr(term, "is_additive", False) for term in self.terms)

    def draw_shift(self) -> tuple[int, int]:
        """Draw the row and column at which a strided loss starts; call it once per batch.

        A logit lies between the two middle pixels of its cell. A fixed choice of one of them would
        shift all predictions by half a pixel.
        """
        stride = self.config.stride
        if stride == 1:
            return 0, 0
        return stride // 2 - int(torch.randint(2, ())), stride // 2 - int(torch.randint(2, ()))

    def forward(self, logits: Tensor, mask: Tensor, batch_mask: Tensor | None = None) -> Tensor:
        """Scalar loss of logits (B, C, H, W) against mask (B, H, W) of ids and 255.

        Our own terms are 0 if every pixel is ignored.

        Args:
            batch_mask: the mask (N, H, W) of the batch that `mask` is a part of, for a loss that
                `is_additive`. The terms are then divided by the counted pixels of the batch.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, target = logits.float(), mask.long()
            batch_mask = target if batch_mask is None else batch_mask.long()
            total = logits.new_zeros(())
            for term, (name, factor) in zip(self.terms, self.config.terms.items(), strict=True):
                is_part = getattr(term, "is_additive", False)
                more = {"batch_mask": batch_mask} if is_part else {}
                value = term(logits, target, IGNORE_INDEX, **more)
                _check_scalar(name, value)
                total = total + factor * value
        return total


def build_term(name: str, options: Mapping[str, Any], context: LossContext) -> nn.Module:
    """Build a registered loss: a class with its options, or a function that takes them.

    Raises:
        ConfigError: no such loss, or an option that it does not take.
    """
    part = find("loss", name, "loss.terms")
    loss, values = part.load(), checked_options(part, options, f"loss.options.{name}")
    if not isinstance(loss, type):
        return _FunctionLoss(loss, values)
    if part.declares("context"):
        values["context"] = context
    built = loss(**values)
    return built if isinstance(built, nn.Module) else _FunctionLoss(built, {})


class _FunctionLoss(nn.Module):
    """A function (logits, mask, ignore_index, **options) as a module."""

    def __init__(self, function: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.options = function, dict(options)

    def forward(self, logits: Tensor, mask: Tensor, ignore_index: int) -> Tensor:
        return self.function(logits, mask, ignore_index, **self.options)


def _check_scalar(name: str, value: Any) -> None:
    """Refuse the result of a term that is no scalar.

    Raises:
        ConfigError: it is a tensor of another shape, or no tensor.
    """
    if not isinstance(value, Tensor) or value.ndim:
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"loss '{name}' returns {found}; expected is a tensor with one number, ()."
        )
