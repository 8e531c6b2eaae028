"""The objects of one run, out of its checked config: data, model, and the form in which its steps are fastest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from segtune.classes import ClassTable
from segtune.data.cache import Decoded
from segtune.data.sources import Source, open_source
from segtune.data.transforms import Augment
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
        height, width = build_augment(self.config, self.train).size(self.config.hp["num_epochs"])
        return self.batch_size, 3, height, width

    @property
    def val_size(self) -> tuple[int, int]:
        """(H, W) of the first val image, at the run's image size."""
        height, width = self.val.images[0].shape[:2]
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
    train = kind.load(source, "train", size)
    val = kind.load(source, "val", size, stored_masks=True)
    device = _device(config)
    model = _initial_model(config, kind, classes, say)
    height, width = build_augment(config, train).size(config.hp["num_epochs"])
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


def build_augment(config: RunConfig, train: Decoded) -> Augment:
    """The augmentation: views as large as the images where all have one size, else squares of the shorter side."""
    shapes = {i.shape[:2] for i in train.images}
    side = min(min(s) for s in shapes)
    whole = next(iter(shapes)) if len(shapes) == 1 else (side, side)
    return Augment(config.augment, (int(whole[0]), int(whole[1])), config.hp["num_epochs"])
