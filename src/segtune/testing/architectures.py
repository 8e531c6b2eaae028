"""The contract of an architecture."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segtune.inference.engines.graphs import Graph
from segtune.models.networks.foreign import as_network
from segtune.models.segmentation_model import SegmentationModel
from segtune.plugins.origin import Plugin
from segtune.plugins.registry import Part

_SIZES = ((64, 96), (61, 83), (33, 130))
_LEAST_EXPORT_AGREEMENT = 0.999


def check_architecture(
    factory: Callable[..., nn.Module],
    num_classes: int = 4,
    steps: int = 60,
    lr: float = 5e-3,
    **options: Any,
) -> None:
    """Check an architecture on a CPU, in some seconds for a small one.

    Logits have the size of the image at odd sizes. Every weight receives a gradient. One image
    gives the same logits alone and in a batch. bf16 gives finite logits. A state dict restores the
    model. An exported graph gives the same classes. Four images can be learned.

    Args:
        factory: as it is registered: (num_classes, **options) -> module.
        steps: of the overfit of four images.
        lr: of the overfit, with AdamW.

    Raises:
        AssertionError: one of these does not hold.
        ConfigError: the factory returns no module, or logits of another shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _built(factory, num_classes, options)
        _check_sizes(model, num_classes)
        _check_gradients(model)
        _check_batches(model)
        _check_bf16(model)
        _check_state(model, _built(factory, num_classes, options))
        _check_export(model)
        _check_learning(_built(factory, num_classes, options), num_classes, steps, lr)


def _built(
    factory: Callable[..., nn.Module], num_classes: int, options: dict[str, Any]
) -> SegmentationModel:
    name = getattr(factory, "__name__", "architecture")
    plugin = Plugin(getattr(factory, "__module__", "") or "", None, None, "")
    part = Part("architecture", name, factory, plugin, {})
    net = as_network(part, factory(num_classes, **options), num_classes)
    return SegmentationModel(net, net.preprocessing)


def _images(number: int, size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (number, 3, *size), dtype=torch.uint8)


@torch.no_grad()
def _check_sizes(model: SegmentationModel, num_classes: int) -> None:
    model.eval()
    for height, width in _SIZES:
        for stride in (1, 4):
            found = tuple(model(_images(2, (height, width)), stride=stride).shape)
            expected = (2, num_classes, -(-height // stride), -(-width // stride))
            assert found == expected, (
                f"images of {width}x{height} give logits {found} at stride {stride}; expected is "
                f"{expected}"
            )


def _check_gradients(model: SegmentationModel) -> None:
    model.train()
    model.zero_grad()
    torch.autograd.backward(model(_images(2, (64, 64))).square().mean())
    missing = [n for n, p in model.net.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"no gradient reaches {', '.join(missing[:5])}"
    infinite = [
        name
        for name, parameter in model.net.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    ]
    assert not infinite, f"the gradients of {', '.join(infinite[:5])} are not finite"


@torch.no_grad()
def _check_batches(model: SegmentationModel) -> None:
    model.eval()
    images = _images(3, (64, 64))
    difference = float((model(images)[1:2] - model(images[1:2])).abs().max())
    assert difference < 1e-3, (
        f"in eval mode the logits of an image depend on the other images of its batch: they differ "
        f"by {difference:.2g}"
    )


@torch.no_grad()
def _check_bf16(model: SegmentationModel) -> None:
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(_images(1, (64, 64)))
    assert bool(torch.isfinite(logits).all()), "the logits in bf16 are not finite"


@torch.no_grad()
def _check_state(model: SegmentationModel, other: SegmentationModel) -> None:
    other.load_state_dict(model.state_dict())
    image = _images(1, (64, 64))
    same = torch.equal(model.eval()(image), other.eval()(image))
    assert same, "a second model with the same state dict gives other logits"


@torch.no_grad()
def _check_export(model: SegmentationModel) -> None:
    graph = Graph(copy.deepcopy(model)).eval()
    image = _images(1, (64, 64))
    try:
        exported = torch.export.export(graph, (image,)).module()
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise AssertionError(f"torch.export cannot export it: {reason}") from error
    agreement = float((exported(image) == graph(image)).float().mean())
    assert agreement >= _LEAST_EXPORT_AGREEMENT, (
        f"the exported graph agrees on {agreement:.4f} of the pixels"
    )


def _check_learning(model: SegmentationModel, num_classes: int, steps: int, lr: float) -> None:
    """Four images of coloured halves: the colour says the class."""
    colours = torch.randint(0, 256, (num_classes, 3), dtype=torch.uint8)
    mask = torch.arange(4)[:, None, None].expand(4, 64, 64).remainder(num_classes).clone()
    mask[:, 32:] = (mask[:, 32:] + 1) % num_classes
    images = colours[mask].permute(0, 3, 1, 2).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(images), mask)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], (
        f"{steps} steps at lr {lr:g} on four images lower the cross-entropy from {losses[0]:.3f} "
        f"to {losses[-1]:.3f} alone; at least by half is expected"
    )
