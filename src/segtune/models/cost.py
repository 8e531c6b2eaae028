"""What a built model costs: the figures that constraints and Pareto fronts are about."""

import statistics
import time
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_LATENCY_RUNS = 7


def measure_cost(
    model: nn.Module,
    batch_shape: tuple[int, int, int, int],
    image_size: tuple[int, int],
    device: torch.device,
    wanted: Collection[str],
) -> dict[str, float]:
    """The figures that are asked for; the model is left as it was.

    Args:
        batch_shape: (B, 3, H, W) of a training step.
        image_size: (H, W) of the image whose latency is taken.
        wanted: of `params_m` (parameters, in millions), `latency_ms` (median over single images, see `latency`),
            `gflops` (1e9 floating-point operations for one image; a multiply-add is two), `memory_mb` (weights,
            gradients, two optimiser states and what a step keeps for its backward pass, in fp32).
    """
    was_training = model.training
    model.to(device)
    found = {}
    try:
        if "params_m" in wanted:
            found["params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
        if "latency_ms" in wanted:
            found["latency_ms"] = latency(model, image_size, device)[0]
        if "gflops" in wanted:
            found["gflops"] = _gflops(model, image_size, device)
        if "memory_mb" in wanted:
            found["memory_mb"] = _memory_mb(model, batch_shape, device)
    finally:
        model.train(was_training)
    return found


@torch.inference_mode()
def latency(
    model: nn.Module, image_size: tuple[int, int], device: torch.device, seconds: float = 0.0
) -> tuple[float, float]:
    """Median and 95th percentile, in ms, of the time that a single image of one size takes.

    Seven of them after two to warm up, or more for `seconds`, 200 at most.
    """
    # as images are read: channels are neighbours in memory
    image = torch.zeros((1, *image_size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    was_training = model.training
    model.eval()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _LATENCY_RUNS + 2 or (
        len(times) < 202 and time.perf_counter() - begun < seconds
    ):
        started = time.perf_counter()
        model(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    model.train(was_training)
    return 1000 * statistics.median(times[2:]), 1000 * float(np.percentile(times[2:], 95))


@torch.inference_mode()
def _gflops(model: nn.Module, image_size: tuple[int, int], device: torch.device) -> float:
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros((1, 3, *image_size), dtype=torch.uint8, device=device))
    return float(counter.get_total_flops()) / 1e9


def device_name(device: torch.device) -> str:
    """What a device is called where it was made."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    )


def _memory_mb(
    model: nn.Module, batch_shape: tuple[int, int, int, int], device: torch.device
) -> float:
    """Counted, not sampled, so that it is the same on every machine."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    state = {k: v.clone() for k, v in model.state_dict().items()}  # batch norm counts what it sees
    random = torch.get_rng_state()
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        logits = model(torch.zeros(batch_shape, dtype=torch.uint8, device=device))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    del logits
    model.load_state_dict(state)
    torch.set_rng_state(random)
    return (activations + 4 * sum(p.numel() * p.element_size() for p in model.parameters())) / 1e6
