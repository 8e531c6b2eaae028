"""The objects of one run, built from its checked config: data, model and step format."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import nn

from segtune.classes import ClassTable
from segtune.config.dataset_schema import SamplingConfig
from segtune.config.schema import RunConfig
from segtune.data.audit.classes import training_warnings
from segtune.data.batches.cache import duplicates_in_train
from segtune.data.batches.datamodule import epoch_images, val_batch_size
from segtune.data.batches.decoded import Decoded, shapes_of
from segtune.data.batches.learnable import check_countable, check_learnable
from segtune.data.batches.sampling import Sampling
from segtune.data.batches.shared_memory import fitting_processes
from segtune.data.batches.transforms import Augment
from segtune.data.batches.unlabelled import Unlabelled, load_unlabelled
from segtune.data.source.layout import Source
from segtune.data.sources import open_source, resolved
from segtune.errors import ConfigError
from segtune.models.fitting import check_image_size, fitting_parts
from segtune.models.losses.distillation import Distillation
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.probe import StepFormat
from segtune.models.tuning import (
    apply_tuning,
    keep_statistics,
    trainable,
    without_pretraining,
)
from segtune.runtime.log import Log, silent
from segtune.runtime.processors import available_processors
from segtune.tasks.step_format import step_format
from segtune.tasks.task import Task, task_of
from segtune.training.accumulation import loss_in_parts
from segtune.training.initial_weights import WORDS, check_weights, find_weights, initial_model
from segtune.training.teacher import distillation_of, with_teacher

_BYTES_OF_PIXEL = 4  # three bands and a mask
_CHECKED_VAL_SIZES = 4  # at most: each size costs a forward pass, of shapes alone


@dataclass(frozen=True)
class RunComponents:
    """The objects of one run, before the first step.

    Attributes:
        model: the initial model. Training, probes and measurements work on copies of it.
        parts: number of equal parts into which a step splits its device's images.
        unlabelled: further train images without masks.
        distillation: the comparison with a teacher.
    """

    config: RunConfig
    task: Task
    source: Source
    classes: ClassTable
    train: Decoded
    val: Decoded
    model: nn.Module
    step_format: StepFormat
    device: torch.device
    parts: int = 1
    unlabelled: Unlabelled | None = None
    distillation: Distillation | None = None

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run."""
        return int(self.config.hp["num_epochs"])

    @property
    def batch_size(self) -> int:
        """Images per update of the weights."""
        return int(self.config.hp["batch_size"])

    @property
    def device_batch(self) -> int:
        """Images of an update that one device takes."""
        return self.batch_size // self.config.trainer.devices

    @property
    def step_size(self) -> int:
        """Images that go through the model at once: one part of a device's images."""
        return self.device_batch // self.parts

    @property
    def lr(self) -> float:
        """The base learning rate: batch_size * per_item_lrate."""
        return self.batch_size * float(self.config.hp["per_item_lrate"])

    @property
    def batch_shape(self) -> tuple[int, int, int, int]:
        """(B, 3, H, W) of the largest input of the model."""
        height, width = self.augment.size(self.num_epochs)
        return self.step_size, 3, height, width

    @property
    def wanted_workers(self) -> int:
        """The configured number of processes that make batches ahead."""
        workers = self.config.trainer.workers
        if workers != "auto":
            return workers
        cores = self.config.trainer.threads or available_processors()
        return min(8, max(1, cores - 1)) if self.device.type == "cuda" else 0

    @cached_property
    def workers(self) -> int:
        """Number of processes that make batches ahead; 0 makes them in this process.

        It is smaller than the configured one if the shared memory has no room for their batches.
        """
        devices, (_, _, height, width) = self.config.trainer.devices, self.batch_shape
        val_pixels = max(shape[0] * shape[1] for shape in shapes_of(self.val.images))
        val_images = val_batch_size(self.step_size, self.device)
        pixels = self.device_batch * height * width + val_images * val_pixels
        return fitting_processes(self.wanted_workers, _BYTES_OF_PIXEL * pixels * devices)

    @cached_property
    def val_size(self) -> tuple[int, int]:
        """(H, W) of the first val image, at the run's image size."""
        height, width = shapes_of(self.val.images)[0][:2]
        return height, width

    @cached_property
    def augment(self) -> Augment:
        """The augmentation of the train images."""
        return build_augment(self.config, self.train, len(self.classes))

    @cached_property
    def class_shares(self) -> NDArray[np.float64]:
        """Share of each class among the counted train pixels, (num_classes,)."""
        return self.train.class_shares(len(self.classes))

    @property
    def epoch_images(self) -> int:
        """Images that an epoch shows."""
        return epoch_images(len(self.train), len(self.unlabelled or ()))

    def loss(self) -> SegmentationLoss:
        """The loss of the run."""
        return SegmentationLoss(self.config.loss, self.class_shares, self.distillation)

    def training_copy(self) -> nn.Module:
        """A copy of the model as a step uses it: on the device, in the step's memory format."""
        model = copy.deepcopy(self.model).to(self.device)
        model = model.to(memory_format=self.step_format.memory_format).train()
        keep_statistics(self.config.tuning, model)
        return model


def prepare(config: RunConfig, say: Log) -> RunComponents:
    """Build all objects of a run, and check that they fit together.

    Raises:
        ConfigError: the config cannot be built.
        DataError: the dataset cannot be used.
    """
    device, task, size = _device(config), task_of(config), config.hp["image_size"]
    weights = find_weights(config, task)
    # torch itself would take all processors of the machine, whatever a container's quota is
    own_choice = min(torch.get_num_threads(), available_processors())
    torch.set_num_threads(config.trainer.threads or own_choice)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = open_source(config.dataset, say)
    config = with_teacher(_self_contained(config, source), say)
    classes = task.classes(source)
    model = initial_model(config, task, classes.names, weights, say)
    distillation = distillation_of(config, classes)
    config = _with_tuning(config, say)
    apply_tuning(config.tuning, model, str(config.hp.get("pretrained_weights", "none")))
    train = task.load(source, "train", size, cache=config.cache, say=say)
    val = task.load(source, "val", size, stored_masks=True, cache=config.cache, say=say)
    unlabelled = load_unlabelled(source, size, config.cache, say)
    check_learnable(source, train, classes.names)
    check_countable(source, "val", val, classes.names)
    _check_devices(config, len(train), len(val))
    _say_data(source, classes, train, val, say)
    height, width = build_augment(config, train, len(classes)).size(config.hp["num_epochs"])
    _check_sizes(config, model, (height, width), val)
    batch_shape = (config.hp["batch_size"] // config.trainer.devices, 3, height, width)
    chosen_format = step_format(task, config, len(classes), batch_shape, device)
    say(
        f"{config.template['name']} on {source.name}: {len(train)} train and {len(val)} val "
        f"images, {_parameters(model)}, {device.type}, {chosen_format}"
    )
    components = RunComponents(
        config,
        task,
        source,
        classes,
        train,
        val,
        model,
        chosen_format,
        device,
        unlabelled=unlabelled,
        distillation=distillation,
    )
    return replace(components, parts=choose_parts(components, say))


def _self_contained(config: RunConfig, source: Source) -> RunConfig:
    """The config to record: valid in any working folder, and without its class and split files."""
    weights, hp = config.hp.get("pretrained_weights"), dict(config.hp)
    if isinstance(weights, str) and weights not in WORDS and Path(weights).exists():
        hp["pretrained_weights"] = str(Path(weights).absolute())
    return config.model_copy(update={"dataset": resolved(config.dataset, source), "hp": hp})


def _with_tuning(config: RunConfig, say: Log) -> RunConfig:
    """The config with the tuning that its weights allow: all of random weights learn at once."""
    if config.hp.get("pretrained_weights", "none") != "none":
        return config
    tuning = without_pretraining(config.tuning)
    if tuning != config.tuning:
        say("hp.pretrained_weights=none: the encoder learns from the start, at the head's rate")
    return config.model_copy(update={"tuning": tuning})


def _say_data(source: Source, classes: ClassTable, train: Decoded, val: Decoded, say: Log) -> None:
    counts = {"train": train.pixel_counts(len(classes)), "val": val.pixel_counts(len(classes))}
    for line in training_warnings(
        source, classes.names, counts, duplicates_in_train(source, "val") or ()
    ):
        say(line)


def _check_devices(config: RunConfig, train_images: int, val_images: int) -> None:
    """Check that each device has an equal share of a batch, and images of both splits."""
    devices, batch_size = config.trainer.devices, int(config.hp["batch_size"])
    if batch_size % devices:
        raise ConfigError(
            f"hp.batch_size={batch_size} counts the images of all devices, and "
            f"trainer.devices={devices} does not divide it. The nearest that can be divided: "
            f"{max(1, round(batch_size / devices)) * devices}."
        )
    fewest = min(train_images, val_images)
    if fewest < devices:
        raise ConfigError(
            f"trainer.devices={devices}: the train split has {train_images} images and the val "
            f"split {val_images}, so some devices would have none. Set trainer.devices={fewest}, "
            "or fewer."
        )


def _check_sizes(
    config: RunConfig, model: nn.Module, train_size: tuple[int, int], val: Decoded
) -> None:
    """Check that the encoder takes the sizes (H, W) of train views and of val images."""
    val_sizes = sorted({(shape[0], shape[1]) for shape in shapes_of(val.images)})
    for size in [train_size, *val_sizes[:_CHECKED_VAL_SIZES]]:
        check_image_size(model, size, str(config.template["model"].get("encoder")))


def _parameters(model: nn.Module) -> str:
    number, trained = sum(p.numel() for p in model.parameters()), trainable(model)
    text = f"{number / 1e6:.2f} M parameters"
    return f"{text} ({trained / 1e6:.2f} M trained)" if trained < number else text


def choose_parts(components: RunComponents, say: Log) -> int:
    """Choose the number of parts of a batch: as configured, or the fewest that fit into memory.

    Raises:
        ConfigError: the configured number does not divide the batch.
        OutOfMemory: not even single images fit.
    """
    configured, batch = components.config.trainer.accumulate, components.device_batch
    divisors = [number for number in range(1, batch + 1) if batch % number == 0]
    if configured != "auto":
        if batch % configured:
            raise ConfigError(
                f"trainer.accumulate={configured} does not divide the {batch} images of a batch on "
                f"one device; allowed: {', '.join(map(str, divisors))}."
            )
        return configured
    parts = fitting_parts(lambda number: try_step(replace(components, parts=number)), divisors)
    if parts > 1:
        say(
            f"steps of {batch} images do not fit into memory: {parts} parts of {batch // parts}, "
            "lr per item kept"
        )
    return parts


def try_step(components: RunComponents) -> None:
    """Run the largest batch forward and backward on a copy of the model; its errors propagate."""
    device, batch_size = components.device, components.device_batch
    model = components.training_copy()
    loss = components.loss().to(device)
    size = components.batch_shape[2:]
    images = {
        "image": torch.zeros((batch_size, 3, *size), dtype=torch.uint8),
        "mask": torch.zeros((batch_size, *size), dtype=torch.uint8),
    }
    batch = {key: value.to(device) for key, value in components.task.collate(images).items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=components.step_format.bf16):
        last_part, _ = loss_in_parts(components.task, model, loss, batch, components.step_size)
        torch.autograd.backward(last_part)


def check_start(config: RunConfig, with_weights: bool = True) -> None:
    """Check what every run of a config needs: its device, its teacher and its initial weights.

    Weights of the model hub are downloaded, as each run would do.

    Raises:
        ConfigError: the device is missing, there is no such teacher, or the weights cannot be
            loaded.
    """
    _device(config)
    with_teacher(config, silent)
    if with_weights:
        check_weights(config, task_of(config))


def _device(config: RunConfig) -> torch.device:
    accelerator = config.trainer.accelerator
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu: torch finds no CUDA device. Use trainer=cpu or trainer=auto."
        )
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


def build_augment(config: RunConfig, train: Decoded, num_classes: int) -> Augment:
    """Build the augmentation of the train images.

    Without crops, views have the size of the images if all images have one size; else they are
    squares of the shortest side.
    """
    shapes = {(shape[0], shape[1]) for shape in shapes_of(train.images)}
    side = min(min(shape) for shape in shapes)
    view_size = next(iter(shapes)) if len(shapes) == 1 else (side, side)
    sampling = None
    if config.sampling != SamplingConfig():
        sampling = Sampling(config.sampling, train.pixel_counts(num_classes))
    return Augment(config.augment, view_size, config.hp["num_epochs"], sampling)
