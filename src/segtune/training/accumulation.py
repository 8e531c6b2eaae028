"""Gradient accumulation: the gradient of a batch in the memory of a part of it, equal to that of the whole batch.

Cross-entropy (with class weights and borders), focal and mask losses are sums over pixels or queries, divided by what
counts in the whole batch: the parts' gradients add up. Dice, Lovasz and the hardest pixels depend on all pixels of the
batch together. There the outputs of all parts are computed first, without a graph; the loss of the whole batch gives
the gradient at these outputs; then each part runs again, forward and backward from there (Gao et al., 2021,
arXiv 2101.06983). That costs one more forward pass. Batch norms see one part at a time in any case.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segtune.data.batches.datamodule import Batch
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.tasks.task import Segmentation, Task


def loss_in_parts(
    task: Task, model: nn.Module, loss: SegmentationLoss, batch: Batch, size: int
) -> tuple[Tensor, Tensor]:
    """Runs all parts of a batch but the last one backward.

    Args:
        size: images in a part; the last part may have fewer.

    Returns:
        A scalar whose `backward` adds what is missing of the batch's gradient, and the batch's loss.
    """
    number = len(batch["mask"])
    rows = [slice(start, min(start + size, number)) for start in range(0, number, size)]
    if len(rows) == 1:
        value = task.loss_of(model, loss, batch)
        return value, value.detach()
    parts = [task.part(batch, r) for r in rows]
    if isinstance(task, Segmentation) and loss.is_additive:
        return _summed(task, model, loss, batch, parts)
    return _in_two_passes(task, model, loss, batch, parts)


def _summed(
    task: Segmentation,
    model: nn.Module,
    loss: SegmentationLoss,
    batch: Batch,
    parts: Sequence[Batch],
) -> tuple[Tensor, Tensor]:
    shift, values = loss.draw_shift(), []
    for part in parts[:-1]:
        value = task.part_loss(model, loss, part, batch, shift)
        _backward(value)
        values.append(value.detach())
    last = task.part_loss(model, loss, parts[-1], batch, shift)
    return last, torch.stack([*values, last.detach()]).sum()


def _in_two_passes(
    task: Task, model: nn.Module, loss: SegmentationLoss, batch: Batch, parts: Sequence[Batch]
) -> tuple[Tensor, Tensor]:
    device = batch["mask"].device
    seeds = torch.randint(2**31, (len(parts),)).tolist()  # both passes drop out the same
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = []
    with torch.no_grad():
        for part, seed in zip(parts, seeds, strict=True):
            seed_device(seed, device)
            found.append(task.outputs(model, loss, part))
        for name, buffer in model.named_buffers():  # or running statistics would move twice
            buffer.copy_(buffers[name])
    leaves = [torch.cat(outputs).requires_grad_() for outputs in zip(*found, strict=True)]
    value = task.compare(model, loss, leaves, batch)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    starts = [0] * len(leaves)
    for part, seed in zip(parts, seeds, strict=True):
        seed_device(seed, device)
        outputs = task.outputs(model, loss, part)
        pulls = []
        for n, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
            pulls.append((output * gradient[starts[n] : starts[n] + len(output)]).sum())
            starts[n] += len(output)
        pull = torch.stack(pulls).sum()
        if part is not parts[-1]:
            _backward(pull)
    return pull, value.detach()


def _backward(value: Tensor) -> None:
    with torch.autocast(
        value.device.type, enabled=False
    ):  # each operation runs backward as it ran forward
        torch.autograd.backward(value)


def seed_device(seed: int, device: torch.device) -> None:
    """Seeds the CPU's generator and the device's: `torch.manual_seed` also tells devices that are not there."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
