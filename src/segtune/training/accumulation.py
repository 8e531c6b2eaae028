"""Gradient accumulation: the exact gradient of a batch, in the memory of one part of it.

Cross-entropy (with class weights and borders), focal and mask losses are sums over pixels or
queries, divided by the count of the whole batch: the gradients of the parts add up.

Dice, Lovasz and the hardest pixels depend on all pixels of the batch together. For them, a first
pass without a graph computes the outputs of all parts. The loss of the whole batch gives the
gradient at these outputs. A second pass runs each part forward and backward from there (Gao et
al., 2021, arXiv 2101.06983). It costs one more forward pass.

Batch norms see one part at a time in both cases.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segtune.data.batches.datamodule import Batch
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.tasks.segmentation import Segmentation
from segtune.tasks.task import Task


def loss_in_parts(
    task: Task, model: nn.Module, loss: SegmentationLoss, batch: Batch, size: int
) -> tuple[Tensor, Tensor]:
    """Run all parts of a batch backward but the last one.

    Args:
        size: images in a part; the last part may have fewer.

    Returns:
        A scalar whose `backward` adds the last part's gradient, and the loss of the batch.
    """
    number = len(batch["mask"])
    rows = [slice(start, min(start + size, number)) for start in range(0, number, size)]
    if len(rows) == 1:
        value = task.loss_of(model, loss, batch)
        return value, value.detach()
    parts = [task.take_rows(batch, part_rows) for part_rows in rows]
    if isinstance(task, Segmentation) and loss.is_additive:
        return _sum_of_parts(task, model, loss, batch, parts)
    return _in_two_passes(task, model, loss, batch, parts)


def _sum_of_parts(
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
    seeds = torch.randint(2**31, (len(parts),)).tolist()  # the same dropout in both passes
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    outputs_of_parts = []
    with torch.no_grad():
        for part, seed in zip(parts, seeds, strict=True):
            seed_device(seed, device)
            outputs_of_parts.append(task.outputs(model, loss, part))
        for name, buffer in model.named_buffers():  # or running statistics would move twice
            buffer.copy_(buffers[name])
    leaves = [
        torch.cat(outputs).requires_grad_() for outputs in zip(*outputs_of_parts, strict=True)
    ]
    value = task.loss_of_outputs(model, loss, leaves, batch)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    starts = [0] * len(leaves)
    for part, seed in zip(parts, seeds, strict=True):
        seed_device(seed, device)
        outputs = task.outputs(model, loss, part)
        # a scalar whose gradient at the outputs is the gradient of the whole batch's loss there
        products = []
        for index, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
            end = starts[index] + len(output)
            products.append((output * gradient[starts[index] : end]).sum())
            starts[index] = end
        scalar = torch.stack(products).sum()
        if part is not parts[-1]:
            _backward(scalar)
    return scalar, value.detach()


def _backward(value: Tensor) -> None:
    # each operation runs backward in the precision of its forward pass
    with torch.autocast(value.device.type, enabled=False):
        torch.autograd.backward(value)


def seed_device(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of one device; `torch.manual_seed` seeds all devices."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
