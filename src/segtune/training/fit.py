"""The composition root: a checked config becomes data, model and task, is fitted, and leaves a segmenter behind."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from safetensors.torch import load_file

from segtune.config.commands import command
from segtune.config.schema import RunConfig
from segtune.data.batches.datamodule import LoaderOptions, SegmentationData
from segtune.data.batches.decoded import spread_evenly
from segtune.errors import ConfigError, DataError, Interrupted, LeaseLost, OutOfMemory
from segtune.evaluation.evaluate import keep, measure, signed
from segtune.inference.media.pixel_size import common_metres
from segtune.models.cost import device_name, measure_cost
from segtune.models.fitting import fitting_parts, is_out_of_memory
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.offsets import MAX_IMAGES, class_bias
from segtune.runtime.exclusive import only_training
from segtune.runtime.log import Log
from segtune.runtime.memory import kept_memory
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.tracking.names import file_name
from segtune.tracking.recording import system_monitor
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store
from segtune.training.callbacks import (
    BestAndLastCheckpoint,
    EpochLogger,
    LeaseCheck,
    Monitored,
    OnEpoch,
    StopTraining,
)
from segtune.training.checkpoints import Checkpoints
from segtune.training.components import RunComponents, prepare, try_step
from segtune.training.feature_cache import encoded_views
from segtune.training.lightning_module import FineTuning
from segtune.training.opening import check_data, open_run, rank
from segtune.training.result import RunResult
from segtune.training.resuming import BEST, LAST, as_begun, usable_checkpoint
from segtune.training.time_budget import ending_seconds, within_minutes

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
_EXPECTED = (".*does not have many workers", "The number of training batches", "Found .* module.s. in eval mode",
             ".*LeafSpec.*", ".*lr_scheduler.step.*", "Grad strides do not match")  # fmt: skip


@only_training()
@kept_memory()
def fit(
    config: RunConfig,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    resume: str | None = None,
    same_data_as: str | None = None,
    anew: bool = False,
    on_start: Callable[[str], None] | None = None,
    on_epoch: OnEpoch | None = None,
    limits: Mapping[str, float] | None = None,
    guard: LeaseCheck = lambda: None,
    commit: Callable[[RunResult], None] = lambda _: None,
    stop: StopRequest | None = None,
    say: Log = lambda _: None,
) -> RunResult:
    """Fine-tunes one model and keeps the best segmenter, tracked from start to end.

    Args:
        config: as composed, or as recorded by an earlier run.
        parent: run id of the sweep that this is a trial of.
        resume: id of a run to go on with. Where `config` asks for more epochs than it has, a new run takes its
            checkpoint over and goes on from there.
        same_data_as: id of a run whose train and val splits this one must see.
        anew: starts a resumed run again at its first epoch, and says so, where its checkpoint is damaged.
        on_start: is given the run's id before the first step.
        on_epoch: is given each validation's metrics; returning True prunes the run.
        limits: on the cost of the built model, see `models.cost`; a run beyond one ends before it trains.
        guard: called before anything is written; raises LeaseLost where the run is no longer this process's.
        commit: called with the result just before the run is marked as ended.
        stop: asks the run to end early; by default Ctrl-C and SIGTERM do.

    Raises:
        ConfigError: a config that cannot be built or trained, or another training in this process.
        DataError: a dataset, or a checkpoint to resume from, that cannot be used.
        Interrupted: stopped by the user; the message says how to go on.
        LeaseLost: out of `guard` or `commit`; the run is left as it is.
    """
    started = time.monotonic()
    say = say if rank() == 0 else _silent
    store = open_store(config.tracking)  # first of all: what cannot be kept need not be computed
    config = as_begun(store, config, resume, parent)
    setup = within_minutes(prepare(config, say), started, say)
    if same_data_as:
        check_data(setup, get_run(store, same_data_as))
    stop = stop or StopRequest()
    with ExitStack() as held:
        run = open_run(store, setup, name, tags or {}, parent, resume, held, say)
        if on_start:
            on_start(run.run_id)
        try:
            with stop.listening():
                beyond = violated_constraints(setup, run, limits or {})
                if beyond:
                    spent = time.monotonic() - started
                    result = RunResult(
                        run.run_id, "infeasible", {}, None, run.folder, spent, beyond
                    )
                else:
                    reporter, keeper = _run_steps(
                        setup, run, anew if resume else None, on_epoch, guard, stop, say
                    )
                    if (
                        rank()
                    ):  # a process that Lightning started beside the first one, which does the rest
                        raise SystemExit(0)
                    if reporter.pruned:
                        result = _pruned(run, keeper, started)
                    else:
                        result = _measured(setup, run, keeper, started, stop, say)
                guard()
                commit(result)
                run.finish(result.state)
                if (
                    parent is not None or result.state != "finished"
                ):  # of a sweep's hundred trials none is extended
                    for file in (BEST, LAST):
                        (run.folder / file).unlink(missing_ok=True)
                say(result.summary)
                return result
        except LeaseLost:
            raise
        except BaseException as error:
            _end(error, setup.config, run, guard, stop)
            raise


def _end(
    error: BaseException, config: RunConfig, run: RunWriter, guard: LeaseCheck, stop: StopRequest
) -> None:
    """Marks a run that raised as interrupted or failed.

    Raises:
        Interrupted: in place of the error, where the run was asked to stop.
    """
    # a signal that comes between two steps ends Lightning's loop with SystemExit
    if isinstance(error, (StopTraining, KeyboardInterrupt)) or (
        stop.requested and isinstance(error, SystemExit)
    ):
        guard()
        run.finish("interrupted")
        resume = command("train", tracking=config.tracking, resume=run.run_id)
        raise Interrupted(
            f"run {run.run_id} was stopped. Go on from its last checkpoint: {resume}"
        ) from None
    if rank() == 0:  # the others end by leaving, which says nothing about the run
        guard()
        run.finish("failed")


def _silent(line: str) -> None:
    """Says nothing."""


def _run_steps(
    setup: RunComponents,
    run: RunWriter,
    anew: bool | None,
    on_epoch: OnEpoch | None,
    guard: LeaseCheck,
    stop: StopRequest,
    say: Log,
) -> tuple[EpochLogger, BestAndLastCheckpoint]:
    config, task, names = setup.config, setup.task, setup.classes.names
    with stop.at_once():
        views = encoded_views(setup, say)
    loss = SegmentationLoss(config.loss, setup.train.class_shares(len(names)))
    model = setup.model.to(memory_format=setup.how.memory_format)
    module = FineTuning(
        model, loss, task, setup.step_size, len(names), setup.lr, config.optimizer, config.scheduler,
        config.trainer.ema_decay, config.tuning,
    )  # fmt: skip
    if config.trainer.compile:
        model.compile()
    options = LoaderOptions(
        setup.batch_size, config.seed, setup.workers, setup.step_size, task.collate
    )
    data = SegmentationData(setup.train, setup.val, setup.augment, options, views)
    keeper = BestAndLastCheckpoint(run.folder, stop, Checkpoints(), guard)
    areas = [h * w for h, w in map(setup.augment.size, range(config.hp["num_epochs"]))]
    work = [1] * len(areas) if views else areas  # features are of one size
    ending = ending_seconds(setup) if rank() == 0 else 0.0
    say(
        f"training: {len(areas)} epochs, then about {ending:.0f} s of class offsets, measuring and saving"
    )
    reporter = EpochLogger(names, say, _guarded(run, guard), work, on_epoch, task.unit, ending)
    callbacks: list[pl.Callback] = [reporter, keeper]
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
        callbacks.append(Monitored(system_monitor(run)))
    trainer = _trainer(setup, callbacks, keeper.checkpoints)
    checkpoint = None if anew is None else usable_checkpoint(run.folder, module, anew, say)
    with warnings.catch_warnings():
        for text in _EXPECTED:
            warnings.filterwarnings("ignore", message=text)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(_what_fits(setup)) from None
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"hp.batch_size={setup.batch_size}: {config.template['name']} normalises over the batch and needs at "
                "least 2 images in each. Raise hp.batch_size."
            ) from None
    return reporter, keeper


def _what_fits(setup: RunComponents) -> str:
    """For a step that did not fit into memory: what does."""
    divisors = [
        n for n in range(setup.parts + 1, setup.batch_size + 1) if setup.batch_size % n == 0
    ]
    parts = fitting_parts(lambda n: try_step(replace(setup, parts=n)), divisors)
    height, width = setup.batch_shape[2:]
    return (
        f"out of memory: a step of hp.batch_size={setup.batch_size} images of {width}x{height} does not fit into the "
        f"memory of {device_name(setup.device)}, {setup.batch_size // parts} at a time do. Set "
        f"trainer.accumulate={parts}, which keeps batch and lr, or hp.batch_size={setup.batch_size // parts}."
    )


def _trainer(
    setup: RunComponents, callbacks: list[pl.Callback], checkpoints: Checkpoints
) -> pl.Trainer:
    config = setup.config.trainer
    epochs = int(setup.config.hp["num_epochs"])
    # determinism fills what nobody has written yet: a twentieth of a CPU's step, for memory that is never read (LOG.md)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of its own class
    return pl.Trainer(
        accelerator="gpu" if setup.device.type == "cuda" else "cpu",
        devices=config.devices,
        strategy=_strategy(setup),
        precision="bf16-mixed" if setup.how.bf16 else "32-true",
        max_epochs=epochs,
        check_val_every_n_epoch=min(config.val_every, epochs),
        limit_train_batches=config.limit_train_batches or 1.0,
        gradient_clip_val=config.gradient_clip,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[checkpoints],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=True
        if setup.device.type == "cpu"
        else "warn"
        if config.deterministic
        else False,
    )


def _strategy(setup: RunComponents) -> str:
    """Lightning's; weights that stand still for a while have no gradients to wait for."""
    strategy = setup.config.trainer.strategy
    return (
        "ddp_find_unused_parameters_true"
        if strategy == "ddp" and setup.config.tuning.frozen_epochs
        else strategy
    )


def _guarded(run: RunWriter, guard: LeaseCheck) -> Callable[[Mapping[str, float], int], None]:
    def record(metrics: Mapping[str, float], epoch: int) -> None:
        guard()
        run.metrics(metrics, epoch)

    return record


def violated_constraints(
    setup: RunComponents, run: RunWriter, limits: Mapping[str, float]
) -> dict[str, float]:
    """What the built model costs, where that is more than a limit allows; recorded in any case."""
    if not limits:
        return {}
    cost = measure_cost(setup.model, setup.batch_shape, setup.val_size, setup.device, limits)
    run.metrics({f"cost/{k}": v for k, v in cost.items()}, 0)
    return cost if any(cost[k] > limits[k] for k in limits) else {}


def _pruned(run: RunWriter, keeper: BestAndLastCheckpoint, started: float) -> RunResult:
    metrics = {"val/miou": keeper.best_miou}
    return RunResult(run.run_id, "pruned", metrics, None, run.folder, time.monotonic() - started)


def _measured(
    setup: RunComponents,
    run: RunWriter,
    keeper: BestAndLastCheckpoint,
    started: float,
    stop: StopRequest,
    say: Log,
) -> RunResult:
    """Measures the best weights as the segmenter that inference will load, and keeps that."""
    config, task, classes = setup.config, setup.task, setup.classes
    model = task.build(config.template["model"], len(classes))
    model.load_state_dict(load_file(keeper.best))
    size = config.hp["image_size"]
    segmenter = task.finished(model, classes, size, setup.device)
    offsets = None
    with stop.at_once():
        if config.trainer.class_offsets and class_bias(model) is not None:
            say(f"class offsets: looking at {min(MAX_IMAGES, len(setup.train))} train images")
            offsets = task.offset_classes(segmenter, setup.source, setup.train)
        say(f"measuring: {len(setup.val)} val images")
        evidence = measure(task, segmenter, setup.source, "val", setup.val)
    if offsets:
        added = dict(zip(classes.names, offsets, strict=True))
        run.data("class_offsets.json", added)
        most = sorted(added, key=lambda name: -abs(added[name]))[:3]
        told = ", ".join(f"{name} {added[name]:+.2f}" for name in most)
        more = ", …" if len(added) > len(most) else ""
        say(f"class offsets found on train images: {told}{more} (class_offsets.json)")
    metrics, cost = evidence.metrics("val/"), evidence.origin.cost
    dataset = {
        "name": setup.source.name,
        "train": setup.train.fingerprint,
        "val": setup.val.fingerprint,
    }
    segmenter.describe(config.template, dataset | _resolution(setup), metrics)
    say(f"saving: segmenter, evidence and {min(config.tracking.overlays, len(setup.val))} overlays")
    keeper.guard()
    digest = with_backoff(lambda: segmenter.save(run.folder / "segmenter"))
    run.folder_artifact(run.folder / "segmenter", "segmenter")
    keep(run, signed(evidence, run.folder / "segmenter"), setup.val)
    chosen = spread_evenly(len(setup.val), config.tracking.overlays)
    for name, pixels in task.overlays(segmenter, setup.val, chosen).items():
        run.image(f"overlays/{file_name(name)}.png", pixels)
    seconds = time.monotonic() - started
    run.metrics(
        {f"best/{k}": v for k, v in metrics.items()}
        | {f"cost/{k}": v for k, v in cost.items()}
        | {"best/epoch": keeper.best_epoch, "seconds": seconds},
        config.hp["num_epochs"],
    )
    run.tags({"segtune.manifest_sha256": digest})
    return RunResult(
        run.run_id,
        "finished",
        metrics,
        run.folder / "segmenter",
        run.folder,
        seconds,
        cost,
        config.kind,
    )


def _resolution(setup: RunComponents) -> dict[str, float]:
    """Metres of a pixel at the model's image size, where all train images state one physical size."""
    try:
        images = [pair.image for pair in setup.source.pairs("train")]
        metres = common_metres(images, setup.config.hp["image_size"])
    except DataError:  # the files are gone; their decoded pixels were enough to train
        return {}
    return {"metres": metres} if metres else {}
