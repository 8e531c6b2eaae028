"""How long a run will take, from a few steps of it, and how many epochs fit into a time."""

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from segtune.config.schema import RunConfig
from segtune.data.batches.datamodule import TrainViews, val_batch_size
from segtune.data.batches.decoded import Decoded
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.offsets import MAX_IMAGES, MAX_LOGITS, class_bias
from segtune.models.optim.optimizer import build_optimizer
from segtune.runtime.exclusive import only_training
from segtune.runtime.log import Log
from segtune.runtime.memory import kept_memory
from segtune.training.accumulation import loss_in_parts
from segtune.training.components import RunComponents, prepare

_STEPS = 3  # are timed at least, after one that is not,
_SECONDS = 2.0  # and for so long: the first of a process are slower (LOG.md);
_PER_MINUTE = 0.3  # of a time limit at most so many seconds for each minute
_VALIDATIONS = (3, 20)  # of a run with a time limit: at least, at most,
_VALIDATING = 0.05  # and else as many as take this share of it
_SAVING = 0.5  # seconds: the segmenter and its latency
_RESERVE = 0.85  # of a time limit: steps are timed at their fastest, and without what surrounds them (LOG.md)


@dataclass(frozen=True)
class RunTiming:
    """What a run's parts take, in seconds.

    Attributes:
        smallest: a step with the crops of the first epoch.
        largest: a step with those of the last.
        validation: a pass over the val split.
        ending: see `ending_seconds`.
    """

    smallest: float
    largest: float
    validation: float
    ending: float
    steps: int

    def seconds(self, epochs: int, crops: Callable[[int], float], validations: int) -> float:
        """Of so many epochs, where crops(epoch) in [0, 1] says how far they have grown, and what comes after them."""
        slow = self.largest - self.smallest
        steps = sum(self.smallest + slow * crops(e) for e in range(epochs)) * self.steps
        return steps + validations * self.validation + self.ending


def validations(epochs: int, every: int) -> int:
    """How many epochs of a run are validated: each `every`th one, and always the last.

    >>> validations(10, 5), validations(11, 5), validations(3, 5)
    (2, 3, 1)
    """
    return math.ceil(epochs / every)


@only_training()
@kept_memory()
def forecast_seconds(config: RunConfig, patience: float = _SECONDS) -> float:
    """Seconds that a run will take at most: its epochs at their largest crops, and its validations.

    Takes a few steps; nothing is trained, recorded or kept.

    Args:
        patience: seconds for which each kind of step is timed.

    Raises:
        ConfigError: what cannot be built as configured.
        DataError: a dataset that cannot be used.
    """
    if config.trainer.minutes:
        return 60.0 * config.trainer.minutes
    epochs = int(config.hp["num_epochs"])
    pace = measure_timing(prepare(config, _quiet), patience)
    return pace.seconds(epochs, lambda _: 1.0, validations(epochs, config.trainer.val_every))


def within_minutes(setup: RunComponents, started: float, say: Log) -> RunComponents:
    """The run with as many epochs as fit into `trainer.minutes`, and its schedule and crops stretched over them.

    What was chosen stands in the run's recorded config, so that a resumed or repeated run has the same.

    Args:
        started: `time.monotonic()` when the run began.
    """
    config = setup.config
    if config.trainer.minutes is None:
        return setup
    pace = measure_timing(setup)
    left = 60.0 * config.trainer.minutes * _RESERVE - (time.monotonic() - started)
    few, many = _VALIDATIONS
    allowed = max(few, min(many, int(_VALIDATING * left / pace.validation)))
    least, most = 1, int(config.template["hyperparameters"]["num_epochs"].get("max") or 100_000)

    def seconds(epochs: int) -> float:
        augment = replace(setup.augment, num_epochs=epochs)
        areas = [h * w for h, w in map(augment.size, range(epochs + 1))]
        span = max(1, areas[-1] - areas[0])
        passes = min(validations(epochs, config.trainer.val_every), allowed)
        return pace.seconds(epochs, lambda e: 1 - (areas[-1] - areas[e]) / span, passes)

    while least < most:  # the most epochs that fit
        middle = (least + most + 1) // 2
        least, most = (middle, most) if seconds(middle) <= left else (least, middle - 1)
    say(
        f"{least} epochs fit into trainer.minutes={config.trainer.minutes:g} here, {seconds(least):.0f} s of them"
    )
    every = max(config.trainer.val_every, -(-least // allowed))
    trainer = config.trainer.model_copy(update={"minutes": None, "val_every": every})
    chosen = config.model_copy(
        update={"hp": {**config.hp, "num_epochs": least}, "trainer": trainer}
    )
    return replace(setup, config=chosen)


@only_training()
@kept_memory()
def best_workers(config: RunConfig) -> tuple[int, str]:
    """How many trials at a time finish most of them here, and why; threads are shared out among them.

    A step is timed with each number of threads, alone; on a GPU the memory that a step takes decides, at most four.
    """
    cores = os.cpu_count() or 1
    setup = prepare(
        config.model_copy(update={"trainer": config.trainer.model_copy(update={"threads": cores})}),
        _quiet,
    )
    if setup.device.type == "cuda":
        free = torch.cuda.mem_get_info(setup.device)[0]
        torch.cuda.reset_peak_memory_stats(setup.device)
        measure_timing(setup)
        taken = torch.cuda.max_memory_reserved(setup.device)
        number = max(1, min(4, cores, int(0.9 * free // max(1, taken))))
        return number, f"a trial takes {taken / 2**30:.1f} of {free / 2**30:.1f} GiB that are free"
    seconds = {}
    for workers in (n for n in range(1, cores + 1) if cores % n == 0):
        torch.set_num_threads(cores // workers)
        seconds[workers] = measure_timing(setup).largest / workers
    torch.set_num_threads(cores)
    best = min(seconds, key=lambda n: seconds[n])
    told = ", ".join(f"{n} of {cores // n} threads: {1e3 * s:.0f}" for n, s in seconds.items())
    return best, f"ms a step, all workers together; {told}"


def _quiet(line: str) -> None:
    """Says nothing."""


def measure_timing(setup: RunComponents, patience: float = _SECONDS) -> RunTiming:
    """Times a few steps, data and optimiser included, and a batch of validation, on a copy of the model."""
    config, task, augment = setup.config, setup.task, setup.augment
    loss = SegmentationLoss(config.loss, setup.train.class_shares(len(setup.classes))).to(
        setup.device
    )
    model = (
        copy.deepcopy(setup.model)
        .to(setup.device)
        .to(memory_format=setup.how.memory_format)
        .train()
    )
    optimizer = build_optimizer(
        config.optimizer, model, setup.lr, config.tuning.layer_decay, setup.how.bf16
    )
    views = TrainViews(setup.train, augment, config.seed)
    items = [n % len(setup.train) for n in range(setup.batch_size)]

    def step(epoch: int) -> float:
        started = time.perf_counter()
        made = task.collate(views.__getitems__([(epoch, n, 0) for n in items]))
        making = time.perf_counter() - started
        batch = {k: v.to(setup.device) for k, v in made.items()}
        with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.how.bf16):
            torch.autograd.backward(loss_in_parts(task, model, loss, batch, setup.step_size)[0])
        optimizer.step()
        optimizer.zero_grad()
        _wait(setup.device)
        computing = time.perf_counter() - started - making
        return max(computing, making / setup.workers) if setup.workers else computing + making

    def fastest(epoch: int) -> float:
        step(epoch)
        times: list[float] = []
        until = time.perf_counter() + min(
            patience, _PER_MINUTE * (config.trainer.minutes or math.inf)
        )
        while len(times) < _STEPS or time.perf_counter() < until:
            times.append(step(epoch))
        return min(times)

    smallest, largest = fastest(0), fastest(augment.num_epochs)
    at_once = val_batch_size(setup.step_size, setup.device)
    image = _validation_seconds(model, setup.val_size, at_once, setup.device) / at_once
    validation = len(setup.val) * image
    steps = config.trainer.limit_train_batches or max(1, len(setup.train) // setup.batch_size)
    return RunTiming(smallest, largest, validation, ending_seconds(setup), steps)


def ending_seconds(setup: RunComponents) -> float:
    """About how long what follows the last epoch takes: class offsets, the measurement, overlays, saving.

    One val image is measured, and one train image searched for offsets, on a copy of the model.
    """
    config, task = setup.config, setup.task
    model = copy.deepcopy(setup.model).float()
    segmenter = task.finished(model, setup.classes, config.hp["image_size"], setup.device)
    one = first_of(setup.val)
    measuring = _second_time(lambda: task.evaluate(segmenter, one), setup.device)
    images = len(setup.val) + min(config.tracking.overlays, len(setup.val))
    return _SAVING + images * measuring + offset_seconds(setup, segmenter)


def offset_seconds(setup: RunComponents, segmenter: Any) -> float:
    """About how long the search for class offsets takes; 0 where there is none."""
    if not setup.config.trainer.class_offsets or class_bias(setup.model) is None:
        return 0.0
    one = first_of(setup.train)
    image = torch.zeros((1, 3, *one.images[0].shape[:2]), dtype=torch.uint8, device=setup.device)
    with torch.inference_mode():
        looking = _second_time(lambda: segmenter.model(image), setup.device)
    both = _second_time(
        lambda: setup.task.offset_classes(segmenter, setup.source, one), setup.device
    )
    number = min(MAX_IMAGES, len(setup.train))
    searched = min(
        number, math.ceil(MAX_LOGITS / (one.masks[0].size * len(setup.classes)))
    )  # more are thinned out
    return number * looking + searched * max(0.0, both - looking)


def _second_time(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of an action, once it was done before."""
    for _ in range(2):
        started = time.perf_counter()
        action()
        _wait(device)
    return time.perf_counter() - started


def first_of(split: Decoded) -> Decoded:
    """A split of its first image alone."""
    return Decoded(split.names[:1], [split.images[0]], [split.masks[0]], split.fingerprint)


@torch.inference_mode()
def _validation_seconds(
    model: torch.nn.Module, size: tuple[int, int], batch_size: int, device: torch.device
) -> float:
    model.eval()
    image = torch.zeros((batch_size, 3, *size), dtype=torch.uint8, device=device)
    times = []
    for _ in range(2):
        started = time.perf_counter()
        model(image)
        _wait(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
