"""The contract of a loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segtune.classes import IGNORE_INDEX

_CLASSES = 4


def check_loss(loss: Callable[..., Any], **options: Any) -> None:
    """Check a loss: a function (logits, mask, ignore_index, **options), or a class of the options.

    It is a finite scalar with a finite gradient. Ignored pixels change nothing. It is finite for a
    batch of ignored pixels alone, and smaller for right logits than for wrong ones.

    Raises:
        AssertionError: one of these does not hold.
    """
    term = loss(**options) if isinstance(loss, type) else loss
    more = {} if isinstance(loss, type) else options

    def value(logits: Tensor, mask: Tensor) -> Tensor:
        result: Tensor = term(logits, mask, IGNORE_INDEX, **more)
        return result

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, _CLASSES, 12, 16, generator=generator, requires_grad=True)
    mask = torch.randint(0, _CLASSES, (2, 12, 16), generator=generator)
    mask[:, :3] = IGNORE_INDEX
    _check_value(value(logits, mask), logits)
    changed = logits.detach().clone()
    changed[:, :, :3] = 9.0 * torch.randn(2, _CLASSES, 3, 16, generator=generator)
    before, after = float(value(logits.detach(), mask)), float(value(changed, mask))
    assert abs(before - after) < 1e-4 * max(1.0, abs(before)), (
        f"the logits of ignored pixels change the loss from {before:.6g} to {after:.6g}"
    )
    nothing = torch.full_like(mask, IGNORE_INDEX)
    _check_value(value(logits, nothing), logits)
    right = 20.0 * torch.nn.functional.one_hot(mask.clamp(max=_CLASSES - 1), _CLASSES)
    right = right.movedim(-1, 1).float()
    best, worst = float(value(right, mask)), float(value(-right, mask))
    assert best < worst, f"right logits have the loss {best:.6g}, wrong ones {worst:.6g}"


def _check_value(result: Any, logits: Tensor) -> None:
    assert isinstance(result, Tensor) and not result.ndim, "the loss is no tensor of one number, ()"
    assert bool(torch.isfinite(result)), f"the loss is {float(result.detach())}"
    (gradient,) = torch.autograd.grad(result, logits, allow_unused=True, materialize_grads=True)
    assert bool(torch.isfinite(gradient).all()), "the gradient is not finite"
