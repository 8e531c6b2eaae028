"""The cost of a model: the figures that constraints and Pareto fronts use."""

import statistics
import time
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_WARM_UP, _MIN_RUNS, _MAX_RUNS = 2, 7, 200


def measure_cost(
    model: nn.Module,
    batch_shape: tuple[int, int, int, int],
    image_size: tuple[int, int],
    device: torch.device,
    figures: Collection[str],
) -> dict[str, float]:
    """The requested figures by name; the model keeps its weights and its mode.

    Args:
        batch_shape: (B, 3, H, W) of a training step, for `memory_mb`.
        image_size: (H, W) of a single image, for `latency_ms` and `gflops`.
        figures: any of `params_m` (parameters, in millions), `latency_ms` (the median of
            `latency`), `gflops` (1e9 floating-point operations per image; a multiply-add is two)
            and `memory_mb` (weights, gradients, two optimiser states, and the activations that a
            step keeps for its backward pass, in fp32).
    """
    was_training = model.training
    model.to(device)
    cost = {}
    try:
        if "params_m" in figures:
            cost["params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
        if "latency_ms" in figures:
            cost["latency_ms"] = latency(model, image_size, device)[0]
        if "gflops" in figures:
            cost["gflops"] = _gflops(model, image_size, device)
        if "memory_mb" in figures:
            cost["memory_mb"] = _memory_mb(model, batch_shape, device)
    finally:
        model.train(was_training)
    return cost


@torch.inference_mode()
def latency(
    model: nn.Module, image_size: tuple[int, int], device: torch.device, seconds: float = 0.0
) -> tuple[float, float]:
    """Median and 95th percentile, in ms, of the time that a single image takes.

    Two images warm up. Then seven are timed, or as many as fit into `seconds`, at most 200.
    """
    # the memory layout of images from files: channels are neighbours
    image = torch.zeros((1, *image_size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    was_training = model.training
    model.eval()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _WARM_UP + _MIN_RUNS or (
        len(times) < _WARM_UP + _MAX_RUNS and time.perf_counter() - begun < seconds
    ):
        started = time.perf_counter()
        model(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    model.train(was_training)
    timed = times[_WARM_UP:]
    return 1000 * statistics.median(timed), 1000 * float(np.percentile(timed, 95))


@torch.inference_mode()
def _gflops(model: nn.Module, image_size: tuple[int, int], device: torch.device) -> float:
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros((1, 3, *image_size), dtype=torch.uint8, device=device))
    return float(counter.get_total_flops()) / 1e9


def device_name(device: torch.device) -> str:
    """The GPU's product name, or `cpu` and its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def _memory_mb(
    model: nn.Module, batch_shape: tuple[int, int, int, int], device: torch.device
) -> float:
    """Bytes of the tensors of a step: counted, so that every machine gives the same figure."""
    sizes: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    state = {k: v.clone() for k, v in model.state_dict().items()}  # batch norm counts its inputs
    random_state = torch.get_rng_state()
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
        logits = model(torch.zeros(batch_shape, dtype=torch.uint8, device=device))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(size for address, size in sizes.items() if address not in weights)
    del logits
    model.load_state_dict(state)
    torch.set_rng_state(random_state)
    return (activations + 4 * sum(p.numel() * p.element_size() for p in model.parameters())) / 1e6
