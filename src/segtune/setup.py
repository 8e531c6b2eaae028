"""The objects of one run, out of its checked config: data, model, and the form in which its steps are fastest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from segtune.classes import ClassTable
from segtune.data.audit import brief
from segtune.data.cache import Decoded, duplicates_in_train, shapes_of
from segtune.data.layout import Source
from segtune.data.sampling import Sampling
from segtune.data.sources import open_source
from segtune.data.transforms import Augment
from segtune.dataset_settings import SamplingConfig
from segtune.errors import ConfigError
from segtune.kinds import Kind, kind_of
from segtune.models.pretrained import take_over
from segtune.models.probe import StepFormat
from segtune.settings import RunConfig
from segtune.tracking.registry import locate
from segtune.tracking.store import open_store

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """The objects of one run, before the first step."""

    config: RunConfig
    kind: Kind
    source: Source
    classes: ClassTable
    train: Decoded
    val: Decoded
    model: nn.Module
    how: StepFormat
    device: torch.device

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return int(self.config.hp["batch_size"])

    @property
    def batch_shape(self) -> tuple[int, int, int, int]:
        """(B, 3, H, W) of the largest training step."""
        height, width = self.augment.size(self.config.hp["num_epochs"])
        return self.batch_size, 3, height, width

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


def prepare(config: RunConfig, say: Say) -> Setup:
    """Builds everything that a run needs before its first step.

    Raises:
        ConfigError: what cannot be built as configured.
        DataError: a dataset that cannot be used.
    """
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = open_source(config.dataset, say)
    kind, size = kind_of(config), config.hp["image_size"]
    classes = kind.classes(source)
    train = kind.load(source, "train", size, cache=config.cache, say=say)
    val = kind.load(source, "val", size, stored_masks=True, cache=config.cache, say=say)
    counts = {"train": train.pixel_counts(len(classes)), "val": val.pixel_counts(len(classes))}
    for line in brief(source.name, classes.names, counts, duplicates_in_train(source, "val") or ()):
        say(line)
    device = _device(config)
    model = _initial_model(config, kind, classes, say)
    height, width = build_augment(config, train, len(classes)).size(config.hp["num_epochs"])
    how = kind.step_format(config, len(classes), (config.hp["batch_size"], 3, height, width), device)
    say(
        f"{config.template['name']} on {source.name}: {len(train)} train and {len(val)} val images, "
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {device.type}, {how}"
    )
    return Setup(config, kind, source, classes, train, val, model, how, device)


def _device(config: RunConfig) -> torch.device:
    wanted = config.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: torch finds no CUDA device. Use trainer=cpu or trainer=auto.")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _initial_model(config: RunConfig, kind: Kind, classes: ClassTable, say: Say) -> nn.Module:
    weights = str(config.hp.get("pretrained_weights", "none"))
    model = kind.build(config.template["model"], len(classes), pretrained=weights == "imagenet")
    if weights not in ("none", "imagenet"):
        store = open_store(config.tracking) if weights.startswith(("models:/", "runs:/")) else None
        path = locate(weights, store).folder if store or Path(weights).is_dir() else Path(weights)
        say(f"took {take_over(model, path, classes.names)} tensors from {weights}")
    return model


def build_augment(config: RunConfig, train: Decoded, num_classes: int) -> Augment:
    """The augmentation: views as large as the images where all have one size, else squares of the shorter side."""
    shapes = {tuple(s[:2]) for s in shapes_of(train.images)}
    side = min(min(s) for s in shapes)
    whole = next(iter(shapes)) if len(shapes) == 1 else (side, side)
    plain = config.sampling == SamplingConfig()
    sampling = None if plain else Sampling(config.sampling, train.pixel_counts(num_classes))
    return Augment(config.augment, (int(whole[0]), int(whole[1])), config.hp["num_epochs"], sampling)
