"""The precision and memory format of the fastest training step, measured per model and device."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

from segtune.models.timing import fastest_in_turns
from segtune.runtime.atomic import atomic_file


@dataclass(frozen=True)
class StepFormat:
    """How a step computes: bf16 autocast or fp32, channels_last or contiguous."""

    bf16: bool
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of weights and activations, for `Module.to`."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def __str__(self) -> str:
        return ("bf16" if self.bf16 else "fp32") + (" channels_last" if self.channels_last else "")


_CANDIDATES = (
    StepFormat(False, False),
    StepFormat(False, True),
    StepFormat(True, True),
    StepFormat(True, False),
)
_MARGIN = 0.95  # another format must save 5 %: noise must not change the arithmetic
_SLOWEST_RATIO = 6.0  # drops bf16 on a CPU that has no instructions for it
_CPU_IMAGES = 4  # with two, noise may hide what channels_last gains on a whole batch (LOG.md)
_ROUNDS = 4
_METHOD_VERSION = 2  # of the timing: results of another version are not used
_MAX_SECONDS = 10.0


@dataclass(frozen=True)
class _Step:
    """A training step to time.

    Attributes:
        shape: (B, 3, H, W) of its batch.
        stride: of its loss; None for a model that takes images alone.
    """

    shape: tuple[int, ...]
    stride: int | None
    device: torch.device


def fastest_format(
    make_model: Callable[[], nn.Module],
    shape: tuple[int, int, int, int],
    stride: int | None,
    device: torch.device,
    keep: Path,
    bf16: bool | None = None,
    channels_last: bool | None = None,
) -> StepFormat:
    """The fastest of the allowed formats, measured on forward and backward of random bytes.

    Args:
        make_model: builds the model that the measurement trains.
        shape: (B, 3, H, W) of a batch; on a CPU at most four of its images are used.
        stride: of the loss; None for a model that takes images alone.
        keep: JSON file of earlier results, so that a machine always computes in one way.
        bf16: allow only this precision.
        channels_last: allow only this memory format.
    """
    allowed = [
        c
        for c in _CANDIDATES
        if bf16 in (None, c.bf16) and channels_last in (None, c.channels_last)
    ]
    if len(allowed) == 1:
        return allowed[0]
    model = make_model()
    number = min(shape[0], _CPU_IMAGES) if device.type == "cpu" else shape[0]
    step = _Step((number, *shape[1:]), stride, device)
    key = _key(model, step, allowed)
    result = read_results(keep).get(key)
    if result is None:
        with _one_at_a_time(keep):
            result = read_results(keep).get(key)
            if result is None:
                result = _measure(model, step, allowed)
                add_result(keep, key, result)
    return StepFormat(result["bf16"], result["channels_last"])


def read_results(path: Path) -> dict[str, Any]:
    """Results of earlier measurements of this machine by key; empty if no file can be read."""
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return results


def add_result(path: Path, key: str, result: Mapping[str, Any]) -> None:
    """Add a result to the file; without a writable file it will be measured again."""
    results = {**read_results(path), key: result}
    with suppress(OSError), atomic_file(path, shared=True) as unfinished:
        unfinished.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _one_at_a_time(keep: Path) -> AbstractContextManager[Any]:
    """Trials that start together must not slow each other down, or choose differently."""
    try:
        keep.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(keep.with_suffix(".lock")).acquire()
    except OSError:  # a folder that cannot be written holds no results either
        return nullcontext()


def _measure(model: nn.Module, step: _Step, allowed: list[StepFormat]) -> dict[str, Any]:
    """The chosen format, and the time of each."""
    measures = {c: partial(_time_step, model, step, c) for c in allowed}
    seconds = fastest_in_turns(measures, _ROUNDS, hopeless=_SLOWEST_RATIO, max_seconds=_MAX_SECONDS)
    best = min(seconds, key=lambda c: seconds[c])
    chosen = best if seconds[best] < _MARGIN * seconds[allowed[0]] else allowed[0]
    times = [asdict(c) | {"ms": round(1000 * s, 2)} for c, s in seconds.items()]
    return asdict(chosen) | {"measured": times}


def _time_step(model: nn.Module, step: _Step, step_format: StepFormat) -> float:
    """Seconds of one forward and backward, after one to warm up."""
    device = step.device
    model = model.to(device).to(memory_format=step_format.memory_format).train()
    number, channels, height, width = step.shape
    # the memory layout of the data module's batches: channels are neighbours in any format
    image = torch.randint(
        0, 256, (number, height, width, channels), dtype=torch.uint8, device=device
    )
    image = image.permute(0, 3, 1, 2)
    options = {} if step.stride is None else {"stride": step.stride}
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=step_format.bf16):
            loss = model(image, **options).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        model.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def _key(model: nn.Module, step: _Step, allowed: list[StepFormat]) -> str:
    """A hash of everything that the times depend on."""
    device = step.device
    is_gpu = device.type == "cuda"
    facts = [
        _METHOD_VERSION,
        [(n, list(p.shape)) for n, p in model.named_parameters()],
        list(step.shape),
        step.stride,
        torch.cuda.get_device_name(device) if is_gpu else _cpu_name(),
        torch.get_num_threads(),
        torch.__version__,
        [asdict(c) for c in allowed],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu_name() -> str:
    return f"{platform.processor()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
