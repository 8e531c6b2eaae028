"""Muon for networks of many small matrices."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.optim import Muon
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor

QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]
"""Coefficients of the Newton-Schulz iteration, timm's `quintic`.

Source: https://leloykun.github.io/ponder/muon-opt-coeffs/
"""


class BatchedMuon(Muon):
    """timm's Muon that orthogonalises all matrices of one shape at once: fewer GPU kernels.

    timm decides in the first step which parameters are matrices and which get AdamW.

    Attributes:
        dtype: of the orthogonalisation. bf16 is precise enough, but slower than fp32 on a CPU
            without instructions for it.
    """

    dtype = torch.bfloat16

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updated: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            for pairs in self._by_shape(group).values():
                self._update([p for p, _ in pairs], [gradient for _, gradient in pairs], group)
                updated += pairs
        for p, _ in updated:
            p.grad = None  # timm's step then skips them
        super().step()  # type: ignore[no-untyped-call]  # timm has no annotations there
        for p, gradient in updated:
            p.grad = gradient
        return loss

    def _by_shape(
        self, group: dict[str, Any]
    ) -> dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]]:
        """The matrices of a group with their gradients, by shape and type."""
        by_shape: dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
        for p in group["params"]:
            if p.grad is not None and self.state[p].get("use_muon"):
                by_shape.setdefault((p.shape, p.dtype), []).append((p, p.grad))
        return by_shape

    def _update(
        self, matrices: list[Tensor], gradients: list[Tensor], group: dict[str, Any]
    ) -> None:
        """Update matrices, or convolutions, of one shape."""
        momenta = [self.state[p]["momentum_buffer"] for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        updates: Sequence[Tensor] = momenta
        if group["nesterov"]:
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
        stacked = torch.stack([u.flatten(1) for u in updates])
        directions = _orthogonalised(stacked, group["ns_steps"], group["eps"], self.dtype)
        rate = group["lr"] * get_lr_scale(directions.shape, group["adjust_lr_fn"])
        torch._foreach_mul_(matrices, 1.0 - group["lr"] * group["weight_decay"])
        moves = directions.to(stacked.dtype).view(-1, *matrices[0].shape).unbind()
        torch._foreach_add_(matrices, moves, alpha=-rate)


def _orthogonalised(matrices: Tensor, steps: int, eps: float, dtype: torch.dtype) -> Tensor:
    """Matrices (N, m, n) with singular values near 1."""
    if dtype is torch.float32:
        return gram_newton_schulz(matrices, steps, eps)
    result: Tensor = zeropower_via_newtonschulz(matrices, steps, QUINTIC, eps=eps, dtype=dtype)
    return result


def gram_newton_schulz(matrices: Tensor, steps: int, eps: float) -> Tensor:
    """Return timm's `zeropower_via_newtonschulz` in fp32, with half the multiplications.

    Every step multiplies X from the left by a polynomial of its Gram matrix X X^T. So the steps
    update only the small Gram matrices, and X is multiplied once, by the product of the polynomials
    (Zhang et al., 2026, "Gram Newton-Schulz"). Half precision would need their restarts.

    Args:
        matrices: (N, m, n).
        eps: the smallest norm to divide by.
    """
    is_wide = matrices.shape[-2] <= matrices.shape[-1]
    x: Tensor = matrices if is_wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    gram = x @ x.mT
    polynomial = factor = gram
    coefficients = [*QUINTIC, *[QUINTIC[-1]] * steps][:steps]
    for step, (a, b, c) in enumerate(coefficients):
        if step:
            gram = polynomial @ gram @ polynomial
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        factor = polynomial @ factor if step else polynomial
    x = factor @ x
    return x if is_wide else x.mT
