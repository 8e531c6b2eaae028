"""The objects of one run, out of its checked config: data, model, and the form in which its steps are fastest."""

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from segtune.classes import ClassTable
from segtune.config.dataset_schema import SamplingConfig
from segtune.config.schema import RunConfig
from segtune.data.audit import brief
from segtune.data.batches.cache import duplicates_in_train
from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.learnable import check_countable, check_learnable
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.transforms import Augment
from segtune.data.source.layout import Source
from segtune.data.sources import open_source, resolved
from segtune.errors import ConfigError
from segtune.models.fitting import check_image_size, fitting_parts
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.pretrained import copy_weights
from segtune.models.probe import StepFormat
from segtune.models.tuning import apply_tuning, trainable
from segtune.runtime.log import Log
from segtune.tasks.task import Task, task_of
from segtune.tracking.registry import locate
from segtune.tracking.store import open_store
from segtune.training.accumulation import loss_in_parts

_SIZES = 4  # of val images that are tried, at most: each takes a pass by shapes


@dataclass(frozen=True)
class RunComponents:
    """The objects of one run, before the first step."""

    config: RunConfig
    task: Task
    source: Source
    classes: ClassTable
    train: Decoded
    val: Decoded
    model: nn.Module
    how: StepFormat
    device: torch.device
    parts: int = 1

    @property
    def batch_size(self) -> int:
        """Images per update of the weights."""
        return int(self.config.hp["batch_size"])

    @property
    def step_size(self) -> int:
        """Images that go through the model at once: a batch, or one of the `parts` that it is split into."""
        return self.batch_size // self.parts

    @property
    def batch_shape(self) -> tuple[int, int, int, int]:
        """(B, 3, H, W) of what goes through the model at once, at its largest."""
        height, width = self.augment.size(self.config.hp["num_epochs"])
        return self.step_size, 3, height, width

    @property
    def workers(self) -> int:
        """Processes that make batches ahead."""
        wanted = self.config.trainer.workers
        if wanted != "auto":
            return wanted
        cores = self.config.trainer.threads or os.cpu_count() or 1
        return min(8, max(1, cores - 1)) if self.device.type == "cuda" else 0

    @property
    def augment(self) -> Augment:
        """What the training images go through."""
        return build_augment(self.config, self.train, len(self.classes))

    @property
    def val_size(self) -> tuple[int, int]:
        """(H, W) of the first val image, at the run's image size."""
        height, width = shapes_of(self.val.images)[0][:2]
        return height, width

    @property
    def lr(self) -> float:
        """The learning rate: batch_size * per_item_lrate."""
        return self.batch_size * float(self.config.hp["per_item_lrate"])


def prepare(config: RunConfig, say: Log) -> RunComponents:
    """Builds everything that a run needs before its first step.

    Raises:
        ConfigError: what cannot be built as configured.
        DataError: a dataset that cannot be used.
    """
    device, task, size = _device(config), task_of(config), config.hp["image_size"]
    weights = _initial_weights(config, task)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = open_source(config.dataset, say)
    config = _independent(config, source)
    classes = task.classes(source)
    model = _initial_model(config, task, classes, weights, say)
    train = task.load(source, "train", size, cache=config.cache, say=say)
    val = task.load(source, "val", size, stored_masks=True, cache=config.cache, say=say)
    check_learnable(source, train, classes.names)
    check_countable(source, "val", val, classes.names)
    counts = {"train": train.pixel_counts(len(classes)), "val": val.pixel_counts(len(classes))}
    for line in brief(source, classes.names, counts, duplicates_in_train(source, "val") or ()):
        say(line)
    height, width = build_augment(config, train, len(classes)).size(config.hp["num_epochs"])
    for shape in [(height, width), *sorted({s[:2] for s in shapes_of(val.images)})[:_SIZES]]:
        check_image_size(model, (shape[0], shape[1]), str(config.template["model"].get("encoder")))
    how = task.step_format(
        config, len(classes), (config.hp["batch_size"], 3, height, width), device
    )
    say(
        f"{config.template['name']} on {source.name}: {len(train)} train and {len(val)} val images, "
        f"{_parameters(model)}, {device.type}, {how}"
    )
    setup = RunComponents(config, task, source, classes, train, val, model, how, device)
    return replace(setup, parts=choose_parts(setup, say))


def _independent(config: RunConfig, source: Source) -> RunConfig:
    """The config as it is recorded: of the same meaning in any working folder, and whatever becomes of other files."""
    weights, hp = config.hp.get("pretrained_weights"), dict(config.hp)
    if isinstance(weights, str) and weights not in ("none", "imagenet") and Path(weights).exists():
        hp["pretrained_weights"] = str(Path(weights).absolute())
    return config.model_copy(update={"dataset": resolved(config.dataset, source), "hp": hp})


def _parameters(model: nn.Module) -> str:
    number, trained = sum(p.numel() for p in model.parameters()), trainable(model)
    return f"{number / 1e6:.2f} M parameters" + (
        f" ({trained / 1e6:.2f} M trained)" if trained < number else ""
    )


def choose_parts(setup: RunComponents, say: Log) -> int:
    """Into how many parts a batch is split: as configured, or the fewest that fit into memory.

    Raises:
        ConfigError: parts that do not divide the batch.
        OutOfMemory: not even single images fit.
    """
    wanted, batch = setup.config.trainer.accumulate, setup.batch_size
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    if wanted != "auto":
        if batch % wanted:
            raise ConfigError(
                f"trainer.accumulate={wanted} does not divide hp.batch_size={batch}; allowed: "
                f"{', '.join(map(str, divisors))}."
            )
        return wanted
    parts = fitting_parts(lambda n: try_step(replace(setup, parts=n)), divisors)
    if parts > 1:
        say(
            f"steps of {batch} images do not fit into memory: {parts} parts of {batch // parts}, lr per item kept"
        )
    return parts


def try_step(setup: RunComponents) -> None:
    """Forward and backward of a batch at the largest size, on a copy of the model; raises what that raises."""
    config, task, device = setup.config, setup.task, setup.device
    model = copy.deepcopy(setup.model).to(device).to(memory_format=setup.how.memory_format).train()
    loss = SegmentationLoss(config.loss, setup.train.class_shares(len(setup.classes))).to(device)
    size = setup.batch_shape[2:]
    made = {
        "image": torch.zeros((setup.batch_size, 3, *size), dtype=torch.uint8),
        "mask": torch.zeros((setup.batch_size, *size), dtype=torch.uint8),
    }
    batch = {k: v.to(device) for k, v in task.collate(made).items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=setup.how.bf16):
        torch.autograd.backward(loss_in_parts(task, model, loss, batch, setup.step_size)[0])


def check_start(config: RunConfig, with_weights: bool = True) -> None:
    """Checks what every run of a config needs at once: its device, and the weights that it starts from.

    Weights of the model hub are fetched, which each run would do.

    Raises:
        ConfigError: the device is missing, or the weights cannot be loaded.
    """
    _device(config)
    task = task_of(config)
    if not with_weights:
        return
    if config.hp.get("pretrained_weights") == "imagenet":
        task.build(config.template["model"], 2, pretrained=True)
    else:
        _initial_weights(config, task)


def _device(config: RunConfig) -> torch.device:
    wanted = config.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu: torch finds no CUDA device. Use trainer=cpu or trainer=auto."
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _initial_weights(config: RunConfig, task: Task) -> Path | None:
    """The file or folder that the model starts from; None for random weights, or those of the model hub.

    Raises:
        ConfigError: weights that cannot be had, before data is downloaded, converted or read for nothing.
    """
    weights, dataset = str(config.hp.get("pretrained_weights", "none")), config.dataset
    if weights in ("none", "imagenet"):
        is_there = (
            dataset.source == "folder" and dataset.root and Path(dataset.root).expanduser().exists()
        )
        if weights == "imagenet" and dataset.source != "street" and not is_there:
            task.build(config.template["model"], 2, pretrained=True)
        return None
    if weights.startswith(("models:/", "runs:/")):
        return locate(weights, open_store(config.tracking)).folder
    path = Path(weights).expanduser()
    if not path.exists():
        raise ConfigError(
            f"hp.pretrained_weights={weights}: no such file or folder. Give a safetensors file, a segmenter folder, "
            "models:/NAME@champion, runs:/ID, imagenet or none."
        )
    return locate(str(path)).folder if path.is_dir() else path


def _initial_model(
    config: RunConfig, task: Task, classes: ClassTable, weights: Path | None, say: Log
) -> nn.Module:
    named = str(config.hp.get("pretrained_weights", "none"))
    model = task.build(config.template["model"], len(classes), pretrained=named == "imagenet")
    if weights is not None:
        say(f"took {copy_weights(model, weights, classes.names)} tensors from {named}")
    apply_tuning(config.tuning, model, named)
    return model


def build_augment(config: RunConfig, train: Decoded, num_classes: int) -> Augment:
    """The augmentation: views as large as the images where all have one size, else squares of the shorter side."""
    shapes = {tuple(s[:2]) for s in shapes_of(train.images)}
    side = min(min(s) for s in shapes)
    whole = next(iter(shapes)) if len(shapes) == 1 else (side, side)
    plain = config.sampling == SamplingConfig()
    sampling = None if plain else Sampling(config.sampling, train.pixel_counts(num_classes))
    return Augment(
        config.augment, (int(whole[0]), int(whole[1])), config.hp["num_epochs"], sampling
    )
