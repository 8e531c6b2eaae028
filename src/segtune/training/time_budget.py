"""Forecast the duration of runs, and fit epochs and workers to a time and a machine."""

import math
import time
from dataclasses import replace

import torch

from segtune.config.schema import RunConfig
from segtune.runtime.exclusive import only_training
from segtune.runtime.log import Log, silent
from segtune.runtime.memory import kept_memory
from segtune.runtime.processors import available_processors
from segtune.training.components import RunComponents, prepare
from segtune.training.run_timing import PATIENCE, RunTiming, measure_timing

_MIN_VALIDATIONS, _MAX_VALIDATIONS = 3, 20  # of a run with a time limit
_VALIDATION_SHARE = 0.05  # of the time; between the two limits above
_USABLE_SHARE = 0.85  # of a time limit: steps are timed at their fastest, without overhead
_NUM_EPOCHS_LIMIT = 100_000  # for a template without a limit of its own
_MAX_GPU_WORKERS = 4
_USABLE_GPU_MEMORY = 0.9


def validations(epochs: int, every: int) -> int:
    """Number of validations of a run: one after each `every`-th epoch and after the last.

    >>> validations(10, 5), validations(11, 5), validations(3, 5)
    (2, 3, 1)
    """
    return math.ceil(epochs / every)


@only_training()
@kept_memory()
def forecast_seconds(config: RunConfig, patience: float = PATIENCE) -> float:
    """Estimate the duration of a run, in seconds, as if all crops had their largest size.

    A few steps are run; no weights and no records are kept.

    Args:
        patience: seconds for which each kind of step is timed.

    Raises:
        ConfigError: the config cannot be built.
        DataError: the dataset cannot be used.
    """
    if config.trainer.minutes:
        return 60.0 * config.trainer.minutes
    epochs = int(config.hp["num_epochs"])
    timing = measure_timing(prepare(config, silent), patience)
    return timing.seconds(epochs, lambda _: 1.0, validations(epochs, config.trainer.val_every))


@only_training()
@kept_memory()
def run_timing(config: RunConfig, patience: float = PATIENCE) -> RunTiming:
    """Time the parts of a run by a few steps; args and errors as `forecast_seconds`."""
    return measure_timing(prepare(config, silent), patience)


def within_minutes(components: RunComponents, started: float, say: Log) -> RunComponents:
    """Choose the number of epochs that fit into `trainer.minutes`, if it is set.

    The schedule and the growth of the crops span these epochs. The recorded config holds the
    number, so a resumed or repeated run has the same.

    Args:
        started: `time.monotonic()` when the run began.
    """
    config = components.config
    if config.trainer.minutes is None:
        return components
    timing = measure_timing(components)
    seconds_left = 60.0 * config.trainer.minutes * _USABLE_SHARE - (time.monotonic() - started)
    affordable = int(_VALIDATION_SHARE * seconds_left / timing.validation)
    max_validations = max(_MIN_VALIDATIONS, min(_MAX_VALIDATIONS, affordable))
    epochs, seconds = _most_epochs(components, timing, seconds_left, max_validations)
    say(
        f"{epochs} epochs fit into trainer.minutes={config.trainer.minutes:g}; they take about "
        f"{seconds:.0f} s"
    )
    val_every = max(config.trainer.val_every, -(-epochs // max_validations))
    trainer = config.trainer.model_copy(update={"minutes": None, "val_every": val_every})
    hp = {**config.hp, "num_epochs": epochs}
    return replace(components, config=config.model_copy(update={"hp": hp, "trainer": trainer}))


def _most_epochs(
    components: RunComponents, timing: RunTiming, seconds_left: float, max_validations: int
) -> tuple[int, float]:
    """Find the highest number of epochs that fit into a time, and their duration, in seconds."""
    val_every = components.config.trainer.val_every

    def seconds(epochs: int) -> float:
        augment = replace(components.augment, num_epochs=epochs)
        sizes = [augment.size(epoch) for epoch in range(epochs + 1)]
        areas = [height * width for height, width in sizes]
        span = max(1, areas[-1] - areas[0])
        passes = min(validations(epochs, val_every), max_validations)
        return timing.seconds(epochs, lambda e: 1 - (areas[-1] - areas[e]) / span, passes)

    limit = components.config.template["hyperparameters"]["num_epochs"].get("max")
    low, high = 1, int(limit or _NUM_EPOCHS_LIMIT)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds(middle) <= seconds_left else (low, middle - 1)
    return low, seconds(low)


@only_training()
@kept_memory()
def best_workers(config: RunConfig) -> tuple[int, str]:
    """Choose how many trials run at a time, so that most of them finish; return it with the reason.

    On a CPU, a step is timed with each number of threads; the workers share the threads. On a GPU,
    the memory of a step decides.
    """
    cores = available_processors()
    threads_before = torch.get_num_threads()  # `prepare` sets them, too
    trainer = config.trainer.model_copy(update={"threads": cores})
    components = prepare(config.model_copy(update={"trainer": trainer}), silent)
    if components.device.type == "cuda":
        return _workers_by_memory(components, cores)
    step_seconds = {}
    try:
        for workers in range(1, cores + 1):
            if cores % workers == 0:
                torch.set_num_threads(cores // workers)
                step_seconds[workers] = measure_timing(components).largest / workers
    finally:
        torch.set_num_threads(threads_before)
    best = min(step_seconds, key=lambda workers: step_seconds[workers])
    timings = ", ".join(
        f"{workers} of {cores // workers} threads: {1e3 * seconds:.0f}"
        for workers, seconds in step_seconds.items()
    )
    return best, f"ms a step, all workers together; {timings}"


def _workers_by_memory(components: RunComponents, cores: int) -> tuple[int, str]:
    free = torch.cuda.mem_get_info(components.device)[0]
    torch.cuda.reset_peak_memory_stats(components.device)
    measure_timing(components)
    taken = torch.cuda.max_memory_reserved(components.device)
    fitting = int(_USABLE_GPU_MEMORY * free // max(1, taken))
    workers = max(1, min(_MAX_GPU_WORKERS, cores, fitting))
    return workers, f"a trial takes {taken / 2**30:.1f} of {free / 2**30:.1f} GiB that are free"
