"""Which precision and memory format make a training step fastest here: measured once per model and device."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
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
_MARGIN = 0.95  # a candidate must be at least 5 % faster than plain fp32: noise must not change the arithmetic
_HOPELESS = 6.0  # times the best, after which a candidate is left: bf16 on a CPU without instructions for it
_IMAGES = 4  # on a CPU: with two, channels_last gains less than with a whole batch, and noise may hide it (LOG.md)
_ROUNDS = 4
_METHOD = 2  # of timing: an answer that was found in another way is not used
_ENOUGH = 10.0  # seconds, after which no other round begins


def fastest_format(
    make_model: Callable[[], nn.Module],
    shape: tuple[int, int, int, int],
    stride: int | None,
    device: torch.device,
    keep: Path,
    bf16: bool | None = None,
    channels_last: bool | None = None,
) -> StepFormat:
    """The fastest of the formats allowed, measured on forward and backward of random bytes.

    Args:
        make_model: builds the model; the probe works on a copy of its own.
        shape: (B, 3, H, W) of a batch; on a CPU at most four images of it are used.
        stride: of the loss; None for a model that takes images alone.
        keep: JSON file of earlier answers, so that the same machine computes the same way every time.
        bf16: allows only this precision.
        channels_last: allows only this format.
    """
    allowed = [
        c
        for c in _CANDIDATES
        if bf16 in (None, c.bf16) and channels_last in (None, c.channels_last)
    ]
    if len(allowed) == 1:
        return allowed[0]
    model = make_model()
    batch = (min(shape[0], _IMAGES if device.type == "cpu" else shape[0]), *shape[1:])
    key = _key(model, batch, stride, device, [asdict(c) for c in allowed])
    answers = kept_answers(keep)
    if key not in answers:
        with _one_at_a_time(keep):
            answers = kept_answers(keep)
            if key not in answers:
                answers = {**answers, key: _measured(model, batch, stride, device, allowed)}
                keep_answers(keep, answers)
    return StepFormat(answers[key]["bf16"], answers[key]["channels_last"])


def _one_at_a_time(keep: Path) -> AbstractContextManager[Any]:
    """Trials that start together would slow each other down, and choose differently."""
    try:
        keep.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(keep.with_suffix(".lock")).acquire()
    except OSError:  # a folder that cannot be written to keeps no answers either
        return nullcontext()


def _measured(
    model: nn.Module,
    shape: tuple[int, ...],
    stride: int | None,
    device: torch.device,
    allowed: list[StepFormat],
) -> dict[str, Any]:
    """The format chosen, with what all were measured at."""
    measures = {c: partial(_time_step, model, shape, stride, device, c) for c in allowed}
    seconds = fastest_in_turns(measures, _ROUNDS, hopeless=_HOPELESS, max_seconds=_ENOUGH)
    best = min(seconds, key=lambda c: seconds[c])
    chosen = best if seconds[best] < _MARGIN * seconds[allowed[0]] else allowed[0]
    return asdict(chosen) | {
        "measured": [asdict(c) | {"ms": round(1000 * s, 2)} for c, s in seconds.items()]
    }


def _time_step(
    model: nn.Module,
    shape: tuple[int, ...],
    stride: int | None,
    device: torch.device,
    how: StepFormat,
) -> float:
    """Seconds of one forward and backward, after one that is not counted."""
    model = model.to(device).to(memory_format=how.memory_format).train()
    number, channels, height, width = shape
    # as the data module gives batches: channels are neighbours in memory, whatever the weights' format
    image = torch.randint(
        0, 256, (number, height, width, channels), dtype=torch.uint8, device=device
    )
    image = image.permute(0, 3, 1, 2)
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=how.bf16):
            loss = (
                (model(image) if stride is None else model(image, stride=stride))
                .float()
                .square()
                .mean()
            )
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        model.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def _key(
    model: nn.Module,
    shape: tuple[int, ...],
    stride: int | None,
    device: torch.device,
    allowed: list[Any],
) -> str:
    layers = [(n, list(p.shape)) for n, p in model.named_parameters()]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    facts = [
        _METHOD,
        layers,
        list(shape),
        stride,
        name,
        torch.get_num_threads(),
        torch.__version__,
        allowed,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu_name() -> str:
    return f"{platform.processor()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def kept_answers(path: Path) -> Mapping[str, Any]:
    """Earlier measurements of this machine; empty where there are none that can be read."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def keep_answers(path: Path, answers: Mapping[str, Any]) -> None:
    """Keeps measurements where that is possible."""
    try:
        with atomic_file(path, shared=True) as unfinished:
            unfinished.write_text(json.dumps(answers, indent=1), encoding="utf-8")
    except OSError:
        pass  # an answer that cannot be kept is measured again
