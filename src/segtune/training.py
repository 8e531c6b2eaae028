"""The composition root: a checked config becomes data, model and task, is fitted, and leaves a segmenter behind."""

import logging
import os
import re
import shlex
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from safetensors.torch import load_file

from segtune.callbacks import Keeper, OnEpoch, Reporter, StopTraining
from segtune.config import flatten
from segtune.data.cache import Decoded, load_split
from segtune.data.datamodule import SegmentationData
from segtune.data.sources import Source, cache_dir, open_source
from segtune.data.transforms import Augment
from segtune.errors import ConfigError, Interrupted
from segtune.inference.evaluate import evaluate, overlays
from segtune.inference.segmenter import Segmenter, describe
from segtune.models.build import SegmentationModel, build
from segtune.models.losses import SegmentationLoss
from segtune.models.pretrained import take_over
from segtune.models.probe import StepFormat, fastest_format
from segtune.settings import RunConfig, TrackingConfig
from segtune.stopping import StopRequest
from segtune.task import SegmentationTask
from segtune.tracking.provenance import environment, git_state
from segtune.tracking.registry import locate
from segtune.tracking.runs import RunWriter, State
from segtune.tracking.store import Store, open_store

Say = Callable[[str], None]
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
_RANK_RUN = "SEGTUNE_RUN_ID"  # tells the other ranks of a distributed run whose they are


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        metrics: `val/miou` and `val/iou/<class>` of the kept segmenter; of the last validation for a pruned run.
        segmenter: its folder; None for a pruned run.
    """

    run_id: str
    state: State
    metrics: Mapping[str, float]
    segmenter: Path | None
    folder: Path
    seconds: float

    @property
    def uri(self) -> str:
        """What `segtune.load` and `segtune predict model=` take."""
        return f"runs:/{self.run_id}"

    @property
    def miou(self) -> float:
        """Mean IoU on the val split, in [0, 1]."""
        return self.metrics["val/miou"]


@dataclass(frozen=True)
class _Setup:
    """The objects of one run, before the first step."""

    config: RunConfig
    source: Source
    train: Decoded
    val: Decoded
    model: SegmentationModel
    how: StepFormat
    device: torch.device

    @property
    def batch_size(self) -> int:
        return int(self.config.hp["batch_size"])

    @property
    def lr(self) -> float:
        """The learning rate: batch_size * per_item_lrate."""
        return self.batch_size * float(self.config.hp["per_item_lrate"])


def fit(
    config: RunConfig,
    *,
    name: str = "",
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    resume: str | None = None,
    on_start: Callable[[str], None] | None = None,
    on_epoch: OnEpoch | None = None,
    stop: StopRequest | None = None,
    say: Say = lambda _: None,
) -> RunResult:
    """Fine-tunes one model and keeps the best segmenter, tracked from start to end.

    Args:
        config: as composed, or as recorded by an earlier run.
        parent: run id of the sweep that this is a trial of.
        resume: id of a run to go on with.
        on_start: is given the run's id before the first step.
        on_epoch: is given each validation's metrics; returning True prunes the run.
        stop: what asks the run to end early; by default Ctrl-C and SIGTERM.

    Raises:
        ConfigError: what cannot be built or trained as configured.
        DataError: a dataset that cannot be used.
        Interrupted: stopped by the user; the message says how to go on.
    """
    started = time.monotonic()
    say = say if _rank() == 0 else _silent
    store = open_store(config.tracking)  # first of all: what cannot be kept need not be computed
    setup = _prepare(config, say)
    run = _open_run(store, setup, name, tags or {}, parent, resume)
    if on_start:
        on_start(run.run_id)
    stop = stop or StopRequest()
    try:
        with stop.listening():
            reporter, keeper = _run_steps(setup, run, on_epoch, stop, say)
            if _rank():  # a process that Lightning started beside this one: what comes after is the first one's
                raise SystemExit(0)
            if reporter.pruned:
                return _finish_pruned(run, keeper, started)
            return _finish(setup, run, keeper, started, say)
    except BaseException as error:
        # a signal that comes between two steps ends Lightning's loop with SystemExit
        if isinstance(error, (StopTraining, KeyboardInterrupt)) or (stop.requested and isinstance(error, SystemExit)):
            run.finish("interrupted")
            raise Interrupted(
                f"run {run.run_id} was stopped. Go on from its last checkpoint: {_resume_command(config, run.run_id)}"
            ) from None
        if _rank() == 0:  # the others end by leaving, which says nothing about the run
            run.finish("failed")
        raise


def _prepare(config: RunConfig, say: Say) -> _Setup:
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = open_source(config.dataset, say)
    size = config.hp["image_size"]
    train = load_split(source, "train", size)
    val = load_split(source, "val", size, stored_masks=True)
    device = _device(config)
    model = _initial_model(config, source, say)
    how = _step_format(config, source, train, device)
    say(
        f"{config.template['name']} on {source.name}: {len(train)} train and {len(val)} val images, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {device.type}, {how}"
    )
    return _Setup(config, source, train, val, model, how, device)


def _rank() -> int:
    """Place of this process among those of a distributed run on this machine; 0 where it is alone."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _silent(line: str) -> None:
    """Says nothing."""


def _resume_command(config: RunConfig, run_id: str) -> str:
    words = ["segtune", "train", f"resume={run_id}"]
    usual = TrackingConfig()
    for key in ("root", "uri"):
        value = getattr(config.tracking, key)
        if value != getattr(usual, key):
            plain = re.fullmatch(r"[\w./-]+", value)
            words.append(f"tracking.{key}={value}" if plain else f"tracking.{key}='{value}'")  # Hydra's own quotes
    return shlex.join(words)


def _device(config: RunConfig) -> torch.device:
    wanted = config.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: torch finds no CUDA device. Use trainer=cpu or trainer=auto.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _initial_model(config: RunConfig, source: Source, say: Say) -> SegmentationModel:
    weights = str(config.hp.get("pretrained_weights", "none"))
    model = build(config.template["model"], len(source.classes), pretrained=weights == "imagenet")
    if weights not in ("none", "imagenet"):
        store = open_store(config.tracking) if weights.startswith(("models:/", "runs:/")) else None
        path = locate(weights, store).folder if store or Path(weights).is_dir() else Path(weights)
        say(f"took {take_over(model, path, source.classes.names)} tensors from {weights}")
    return model


def _step_format(config: RunConfig, source: Source, train: Decoded, device: torch.device) -> StepFormat:
    trainer = config.trainer
    height, width = _augment(config, train).size(config.hp["num_epochs"])
    return fastest_format(
        lambda: build(config.template["model"], len(source.classes)),
        (config.hp["batch_size"], 3, height, width),
        config.loss.stride,
        device,
        keep=cache_dir() / "step_formats.json",
        bf16=None if trainer.precision == "auto" else trainer.precision == "bf16",
        channels_last=None if trainer.channels_last == "auto" else trainer.channels_last,
    )


def _augment(config: RunConfig, train: Decoded) -> Augment:
    """Views as large as the images where all have one size, else squares of the shorter side."""
    shapes = {i.shape[:2] for i in train.images}
    side = min(min(s) for s in shapes)
    whole = next(iter(shapes)) if len(shapes) == 1 else (side, side)
    return Augment(config.augment, (int(whole[0]), int(whole[1])), config.hp["num_epochs"])


def _open_run(
    store: Store, setup: _Setup, name: str, tags: Mapping[str, str], parent: str | None, resume: str | None
) -> RunWriter:
    if _rank():
        return RunWriter(store, os.environ[_RANK_RUN])
    if resume:
        run = RunWriter.reopen(store, resume)
    else:
        run = _create_run(store, setup, name, tags, parent)
    run.folder.mkdir(parents=True, exist_ok=True)
    os.environ[_RANK_RUN] = run.run_id
    return run


def _create_run(store: Store, setup: _Setup, name: str, tags: Mapping[str, str], parent: str | None) -> RunWriter:
    config, git = setup.config, git_state()
    plain = config.model_dump(mode="json")
    sections = ("hp", "loss", "optimizer", "scheduler", "augment", "trainer", "seed")
    params = {k: v for k, v in flatten(plain) if k.split(".")[0] in sections}
    params |= {"template": config.template["name"], "dataset.name": config.dataset.name}
    own = {
        "segtune.kind": "run",
        "segtune.dataset": setup.val.fingerprint,
        "segtune.dataset.train": setup.train.fingerprint,
        "segtune.format": str(setup.how),
    } | ({"mlflow.source.git.commit": git["commit"]} if git else {})
    run = RunWriter.create(
        store, name or f"{config.template['name']}-{config.dataset.name}", params, own | dict(tags), parent
    )
    run.data("config.yaml", plain)
    run.data("classes.json", setup.source.classes.to_json())
    run.data(
        "environment.json", environment() | {"threads": torch.get_num_threads(), "device": _device_name(setup.device)}
    )
    if git:
        run.text("git.diff", f"# commit {git['commit']}\n{git['diff']}")
    return run


def _device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    )


def _run_steps(
    setup: _Setup, run: RunWriter, on_epoch: OnEpoch | None, stop: StopRequest, say: Say
) -> tuple[Reporter, Keeper]:
    config, names = setup.config, setup.source.classes.names
    loss = SegmentationLoss(config.loss, setup.train.class_shares(len(names)))
    memory_format = torch.channels_last if setup.how.channels_last else torch.contiguous_format
    model = setup.model.to(memory_format=memory_format)
    task = SegmentationTask(
        model, loss, len(names), setup.lr, config.optimizer, config.scheduler, config.trainer.ema_decay
    )
    if config.trainer.compile:
        model.compile()
    augment = _augment(config, setup.train)
    data = SegmentationData(setup.train, setup.val, augment, setup.batch_size, config.seed, config.trainer.workers)
    keeper = Keeper(run.folder, stop)
    reporter = Reporter(names, say, run.metrics, on_epoch)
    callbacks: list[pl.Callback] = [reporter, keeper]
    if config.trainer.early_stopping:
        callbacks.append(
            EarlyStopping(
                "val/miou", mode="max", patience=config.trainer.early_stopping, check_on_train_epoch_end=False
            )
        )
    trainer = _trainer(setup, callbacks)
    resume_from = str(keeper.last) if keeper.last.is_file() else None
    with warnings.catch_warnings():
        for text in (
            ".*does not have many workers",
            "The number of training batches",
            "Found .* module.s. in eval mode",
            ".*LeafSpec.*",
            ".*lr_scheduler.step.*",
            "Grad strides do not match",
        ):
            warnings.filterwarnings("ignore", message=text)
        try:
            trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=False)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"hp.batch_size={setup.batch_size}: {config.template['name']} normalises over the batch and needs at "
                "least 2 images in each. Raise hp.batch_size."
            ) from None
    return reporter, keeper


def _trainer(setup: _Setup, callbacks: list[pl.Callback]) -> pl.Trainer:
    config = setup.config.trainer
    epochs = int(setup.config.hp["num_epochs"])
    return pl.Trainer(
        accelerator="gpu" if setup.device.type == "cuda" else "cpu",
        devices=config.devices,
        strategy=config.strategy,
        precision="bf16-mixed" if setup.how.bf16 else "32-true",
        max_epochs=epochs,
        check_val_every_n_epoch=min(config.val_every, epochs),
        limit_train_batches=config.limit_train_batches or 1.0,
        gradient_clip_val=config.gradient_clip,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if setup.device.type == "cuda" else True,
    )


def _finish_pruned(run: RunWriter, keeper: Keeper, started: float) -> RunResult:
    keeper.last.unlink(missing_ok=True)
    keeper.best.unlink(missing_ok=True)
    run.finish("pruned")
    return RunResult(run.run_id, "pruned", {"val/miou": keeper.best_miou}, None, run.folder, time.monotonic() - started)


def _finish(setup: _Setup, run: RunWriter, keeper: Keeper, started: float, say: Say) -> RunResult:
    """Measures the best weights as the segmenter that inference will load, and keeps that."""
    config, classes = setup.config, setup.source.classes
    model = build(config.template["model"], len(classes))
    model.load_state_dict(load_file(keeper.best))
    size = config.hp["image_size"]
    segmenter = Segmenter(model, classes, size, {}, setup.device)
    metrics = evaluate(segmenter, setup.val, setup.batch_size).named(classes.names)
    dataset = {"name": setup.source.name, "train": setup.train.fingerprint, "val": setup.val.fingerprint}
    segmenter.info = describe(
        config.template["name"], config.template["model"], model.preprocessing, classes, size, dataset, metrics
    )
    digest = segmenter.save(run.folder / "segmenter")
    run.folder_artifact(run.folder / "segmenter", "segmenter")
    count = min(config.tracking.overlays, len(setup.val))
    chosen = [i * len(setup.val) // count for i in range(count)]
    for name, pixels in overlays(segmenter, setup.val, chosen).items():
        run.image(f"overlays/{name}.png", pixels)
    seconds = time.monotonic() - started
    run.metrics(
        {f"best/{k}": v for k, v in metrics.items()} | {"best/epoch": keeper.best_epoch, "seconds": seconds},
        config.hp["num_epochs"],
    )
    run.tags({"segtune.manifest_sha256": digest})
    run.finish("finished")
    keeper.best.unlink(missing_ok=True)
    keeper.last.unlink(missing_ok=True)
    say(f"val mIoU {metrics['val/miou']:.4f} (best epoch {keeper.best_epoch + 1}), {seconds:.0f} s")
    return RunResult(run.run_id, "finished", metrics, run.folder / "segmenter", run.folder, seconds)


def describe_result(result: RunResult) -> dict[str, Any]:
    """The result as one JSON object, for scripts."""
    return {
        "run": result.run_id,
        "uri": result.uri,
        "state": result.state,
        "metrics": dict(result.metrics),
        "segmenter": str(result.segmenter) if result.segmenter else None,
        "folder": str(result.folder),
        "seconds": round(result.seconds, 2),
    }
