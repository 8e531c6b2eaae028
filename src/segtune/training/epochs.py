"""The epochs of a run: model, data and callbacks go to a Lightning trainer."""

import copy
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from segtune.config.schema import RunConfig
from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
from segtune.data.batches.shared_memory import shared_memory_mb
from segtune.errors import ConfigError, DataError, OutOfMemory, SegtuneError
from segtune.models.cost import device_name
from segtune.models.fitting import fitting_parts, is_out_of_memory
from segtune.models.tuning import first_trained_epoch
from segtune.plugins.registry import find
from segtune.runtime.retry import reason_of
from segtune.tracking.recording import system_monitor
from segtune.training.active_run import ActiveRun
from segtune.training.callbacks import BestAndLastCheckpoint, EpochLogger, Monitored
from segtune.training.checkpoints import CheckpointWriter, unusable, usable_checkpoint
from segtune.training.components import RunComponents, try_step
from segtune.training.feature_cache import FeatureViews, encoded_views
from segtune.training.lightning_module import FineTuning, UpdateSettings
from segtune.training.ranks import (
    Decisions,
    OwnProcesses,
    decisions,
    rank,
    with_followers,
)
from segtune.training.request import RunRequest
from segtune.training.run_timing import ending_seconds

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
_EXPECTED_WARNINGS = (
    ".*does not have many workers",
    "The number of training batches",
    "Found .* module.s. in eval mode",
    ".*LeafSpec.*",
    ".*lr_scheduler.step.*",
    "Grad strides do not match",
)


@dataclass(frozen=True)
class TrainedEpochs:
    """What the epochs of a run left behind.

    Attributes:
        best: file of the weights of the best epoch.
        best_miou: val mIoU of that epoch, in [0, 1].
        best_epoch: number of that epoch, from 0.
        pruned: the `on_epoch` hook ended the training.
    """

    best: Path
    best_miou: float
    best_epoch: int
    pruned: bool


def train_epochs(run: ActiveRun, request: RunRequest) -> TrainedEpochs:
    """Train all epochs of a run, from its checkpoint if it is resumed.

    Raises:
        ConfigError: batches are too small for batch norms.
        OutOfMemory: a step does not fit into memory; the message holds a batch that does.
        DataError: the checkpoint is damaged, or belongs to another model.
    """
    components = run.components
    with run.stop.at_once():
        views = encoded_views(components, run.say)
    module = _module(components)
    best_and_last = BestAndLastCheckpoint(
        run.folder,
        run.stop,
        CheckpointWriter(),
        run.hooks.check_lease,
        may_go_on=run.hooks.may_go_on,
    )
    epoch_logger = _epoch_logger(run, views is not None)
    trainer = _trainer(run, _callbacks(run, epoch_logger, best_and_last), best_and_last)
    if components.workers < components.wanted_workers:
        run.say(
            f"{components.workers} of {components.wanted_workers} processes prepare batches: the "
            f"shared memory has {shared_memory_mb()} MB (docker run --shm-size=1g gives more)"
        )
    choices = _choices(run, module, request)
    with with_followers(trainer, choices):
        data = _data(components, views)
        start = partial(_start, trainer, module, data, choices.checkpoint, best_and_last)
        _fit(start, components)
    return TrainedEpochs(
        best_and_last.best, best_and_last.best_miou, best_and_last.best_epoch, epoch_logger.pruned
    )


def _choices(run: ActiveRun, module: FineTuning, request: RunRequest) -> Decisions:
    """The choices of the first process, the checkpoint to start from among them."""
    if rank():
        return decisions()
    checkpoint = None
    if request.resume:
        checkpoint = usable_checkpoint(run.folder, module, request.restart_if_damaged, run.say)
    path = None if checkpoint is None else str(checkpoint)
    return Decisions.of(run.components, run.writer.run_id, path)


def _module(components: RunComponents) -> FineTuning:
    config = components.config
    loss = components.loss()
    model = copy.deepcopy(components.model)
    model.to(memory_format=components.step_format.memory_format)
    settings = UpdateSettings(
        part_size=components.step_size,
        num_classes=len(components.classes),
        lr=components.lr,
        optimizer=config.optimizer,
        scheduler=config.scheduler,
        ema_decay=config.trainer.ema_decay,
        tuning=config.tuning,
    )
    module = FineTuning(model, loss, components.task, settings)
    if config.trainer.compile:
        model.compile()
    return module


def _data(
    components: RunComponents, views: tuple[FeatureViews, FeatureViews] | None
) -> SegmentationData:
    options = LoaderOptions(
        components.device_batch,
        components.config.seed,
        components.workers,
        components.step_size,
        components.task.collate,
    )
    return SegmentationData(
        components.train,
        components.val,
        components.augment,
        options,
        views,
        components.unlabelled,
    )


def _epoch_logger(run: ActiveRun, trains_features: bool) -> EpochLogger:
    components = run.components
    sizes = [components.augment.size(epoch) for epoch in range(components.num_epochs)]
    # the work of an epoch grows with its crops; cached features have one size
    work = [1 if trains_features else height * width for height, width in sizes]
    ending = ending_seconds(components) if rank() == 0 else 0.0
    run.say(
        f"training: {len(sizes)} epochs, then about {ending:.0f} s of class offsets, measuring "
        "and saving"
    )
    return EpochLogger(
        components.classes.names,
        run.say,
        run.record_metrics,
        work,
        run.hooks.on_epoch,
        components.task.unit,
        ending,
    )


def _callbacks(
    run: ActiveRun, epoch_logger: EpochLogger, best_and_last: BestAndLastCheckpoint
) -> list[pl.Callback]:
    config = run.components.config
    callbacks: list[pl.Callback] = [epoch_logger, best_and_last]
    if config.trainer.early_stopping:
        callbacks.append(
            EarlyStopping(
                "val/miou",
                mode="max",
                patience=config.trainer.early_stopping,
                check_on_train_epoch_end=False,
            )
        )
    if config.tracking.system_metrics:
        callbacks.append(Monitored(system_monitor(run.writer)))
    return [*callbacks, *_plugin_callbacks(config)]


def _plugin_callbacks(config: RunConfig) -> list[pl.Callback]:
    """The callbacks of plugins.

    Raises:
        ConfigError: a factory returns something else.
    """
    callbacks = []
    for name, options in config.trainer.callbacks.items():
        callback = find("callback", name, "trainer.callbacks").load()(**options)
        if not isinstance(callback, pl.Callback):
            raise ConfigError(
                f"callback '{name}' returns a {type(callback).__name__}; expected is a "
                "pytorch_lightning.Callback."
            )
        callbacks.append(callback)
    return callbacks


def _trainer(
    run: ActiveRun, callbacks: list[pl.Callback], best_and_last: BestAndLastCheckpoint
) -> pl.Trainer:
    components, config = run.components, run.components.config.trainer
    # deterministic mode fills new memory, which nobody reads before a write: 5 % of a CPU's step
    # (LOG.md)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of its own class
    return pl.Trainer(
        accelerator="gpu" if components.device.type == "cuda" else "cpu",
        devices=config.devices,
        strategy=_strategy(components),
        precision="bf16-mixed" if components.step_format.bf16 else "32-true",
        max_epochs=components.num_epochs,
        check_val_every_n_epoch=min(config.val_every, components.num_epochs),
        limit_train_batches=config.limit_train_batches or 1.0,
        gradient_clip_val=config.gradient_clip,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[best_and_last.checkpoints, OwnProcesses()],
        sync_batchnorm=config.devices > 1 and components.device.type == "cuda",
        default_root_dir=run.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=_deterministic(components),
    )


def _strategy(components: RunComponents) -> str:
    """The name of Lightning's strategy: frozen weights get no gradients, and DDP must know it."""
    strategy = components.config.trainer.strategy
    tuning = components.config.tuning
    if strategy == "ddp" and first_trained_epoch(tuning, components.num_epochs):
        return "ddp_find_unused_parameters_true"
    return strategy


def _deterministic(components: RunComponents) -> bool | Literal["warn"]:
    """Lightning's setting: some operations of a GPU have no deterministic form."""
    if components.device.type == "cpu":
        return True
    return "warn" if components.config.trainer.deterministic else False


def _start(
    trainer: pl.Trainer,
    module: FineTuning,
    data: SegmentationData,
    checkpoint: str | None,
    best_and_last: BestAndLastCheckpoint,
) -> None:
    """Run Lightning's loop.

    Raises:
        DataError: the checkpoint can be read, but not restored.
    """
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        is_restored = checkpoint is None or best_and_last.has_started
        if is_restored or isinstance(error, SegtuneError) or is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise DataError(unusable(Path(str(checkpoint)), reason)) from error


def _fit(start: Callable[[], None], components: RunComponents) -> None:
    """Run Lightning's loop; turn errors of torch into messages that name the fix."""
    with warnings.catch_warnings():
        for text in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=text)
        try:
            start()
        except (MemoryError, RuntimeError) as error:
            _check_loaders(error, components.workers)
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(_largest_fitting_batch(components)) from None
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"hp.batch_size={components.batch_size}: {components.config.template['name']} "
                "normalises over the images of a step on a device, and needs at least 2. Raise "
                "hp.batch_size."
            ) from None


def _check_loaders(error: BaseException, workers: int) -> None:
    """Raise a clear error if a process that prepares batches died or hangs."""
    text = str(error)
    if "DataLoader" in text and any(word in text for word in ("timed out", "exited", "killed")):
        raise ConfigError(
            f"trainer.workers={workers}: a process that prepares batches died or gave no batch "
            f"({text.splitlines()[0]}). The shared memory has {shared_memory_mb()} MB. Set "
            "trainer.workers=0, or give the container more memory: docker run --shm-size=1g"
        ) from None


def _largest_fitting_batch(components: RunComponents) -> str:
    """The message for a step that does not fit into memory: which batch size does."""
    batch_size, on_device = components.batch_size, components.device_batch
    larger = range(components.parts + 1, on_device + 1)
    divisors = [number for number in larger if on_device % number == 0]
    parts = fitting_parts(lambda number: try_step(replace(components, parts=number)), divisors)
    height, width = components.batch_shape[2:]
    return (
        f"out of memory: a step of {on_device} images of {width}x{height} does not fit into the "
        f"memory of {device_name(components.device)}; steps of {on_device // parts} "
        f"fit. Set trainer.accumulate={parts}, which keeps batch and lr, or "
        f"hp.batch_size={batch_size // parts}."
    )
