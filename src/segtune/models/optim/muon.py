"""Muon for nets of many small matrices."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import Muon
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor

# of the Newton-Schulz iteration, timm's `quintic` (https://leloykun.github.io/ponder/muon-opt-coeffs/)
QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


class BatchedMuon(Muon):
    """timm's Muon, with all matrices of one shape orthogonalised at once: a GPU is told less often what to do.

    What is a matrix, and what gets AdamW, is timm's decision, made in the first step.

    Attributes:
        dtype: to orthogonalise in; bf16 is enough, and slower than fp32 where the CPU has no instructions for it.
    """

    dtype = torch.bfloat16

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        done: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is not None and self.state[p].get("use_muon"):
                    alike.setdefault((p.shape, p.dtype), []).append((p, p.grad))
            for pairs in alike.values():
                self._move([p for p, _ in pairs], [gradient for _, gradient in pairs], group)
                done += pairs
        for p, _ in done:
            p.grad = None
        super().step()  # type: ignore[no-untyped-call]  # timm annotates nothing there
        for p, gradient in done:
            p.grad = gradient
        return loss

    def _move(self, matrices: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        """Updates matrices, or convolutions, of one shape."""
        momenta = [self.state[p]["momentum_buffer"] for p in matrices]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        updates = (
            torch._foreach_lerp(gradients, momenta, group["momentum"])
            if group["nesterov"]
            else momenta
        )
        stacked = torch.stack([u.flatten(1) for u in updates])
        turned = _turned(stacked, group["ns_steps"], group["eps"], self.dtype)
        rate = group["lr"] * get_lr_scale(turned.shape, group["adjust_lr_fn"])
        torch._foreach_mul_(matrices, 1.0 - group["lr"] * group["weight_decay"])
        moves = turned.to(stacked.dtype).view(-1, *matrices[0].shape).unbind()
        torch._foreach_add_(matrices, moves, alpha=-rate)


def _turned(matrices: Tensor, steps: int, eps: float, dtype: torch.dtype) -> Tensor:
    """Matrices (N, m, n) with their singular values brought near 1."""
    if dtype is torch.float32:
        return gram_newton_schulz(matrices, steps, eps)
    turned: Tensor = zeropower_via_newtonschulz(matrices, steps, QUINTIC, eps=eps, dtype=dtype)
    return turned


def gram_newton_schulz(matrices: Tensor, steps: int, eps: float) -> Tensor:
    """What timm's `zeropower_via_newtonschulz` gives in fp32, up to rounding, with half the multiplications.

    Every step multiplies X from the left by a polynomial of its Gram matrix X X^T. So the steps are taken by the small
    Gram matrices alone, and X is multiplied once, by their product (Zhang et al., 2026, "Gram Newton-Schulz"). In
    half precision it would need their restarts.

    Args:
        matrices: (N, m, n).
        eps: the least norm to divide by.
    """
    x: Tensor = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    gram = x @ x.mT
    polynomial = factor = gram
    for step, (a, b, c) in enumerate([*QUINTIC, *[QUINTIC[-1]] * steps][:steps]):
        if step:
            gram = polynomial @ gram @ polynomial
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        factor = polynomial @ factor if step else polynomial
    x = factor @ x
    return x if matrices.shape[-2] <= matrices.shape[-1] else x.mT
