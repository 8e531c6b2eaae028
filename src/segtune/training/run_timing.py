"""Measure how long the parts of a run take, from a few steps of it."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from segtune.data.batches.datamodule import Batch, TrainViews, val_batch_size
from segtune.data.batches.decoded import Decoded
from segtune.inference.labeler import RegionLabeler
from segtune.inference.segmenter import Segmenter
from segtune.models.offsets import MAX_IMAGES, MAX_LOGITS, class_bias
from segtune.models.optim.optimizer import build_optimizer
from segtune.models.timing import call_seconds, fastest
from segtune.training.accumulation import loss_in_parts
from segtune.training.components import RunComponents

PATIENCE = 2.0
"""Seconds for which each kind of step is timed; early steps are slower (LOG.md)."""

_MIN_STEPS = 3
_PATIENCE_PER_MINUTE = 0.3  # upper limit on the seconds of timing for each minute of a time limit
_SAVING_SECONDS = 0.5  # to save the segmenter and to measure its latency


@dataclass(frozen=True)
class RunTiming:
    """Duration of the parts of a run, in seconds.

    Attributes:
        smallest: a step with the crops of the first epoch.
        largest: a step with the crops of the last epoch.
        validation: a pass over the val split.
        ending: the time after the last epoch, see `ending_seconds`.
        steps: number of steps in an epoch.
    """

    smallest: float
    largest: float
    validation: float
    ending: float
    steps: int

    def seconds(self, epochs: int, growth: Callable[[int], float], validations: int) -> float:
        """Duration of a whole run.

        Args:
            growth: gives for an epoch how far the crops have grown, in [0, 1].
            validations: number of passes over the val split.
        """
        slowdown = self.largest - self.smallest
        of_a_step = sum(self.smallest + slowdown * growth(epoch) for epoch in range(epochs))
        return of_a_step * self.steps + validations * self.validation + self.ending


def measure_timing(components: RunComponents, patience: float = PATIENCE) -> RunTiming:
    """Time steps of the smallest and largest crops, and validation, on a copy of the model."""
    trainer = components.config.trainer
    patience = min(patience, _PATIENCE_PER_MINUTE * (trainer.minutes or math.inf))
    timer = _StepTimer(components)
    smallest = fastest(lambda: timer.step_seconds(0), _MIN_STEPS, patience)
    last_epoch = components.augment.num_epochs
    largest = fastest(lambda: timer.step_seconds(last_epoch), _MIN_STEPS, patience)
    steps = trainer.limit_train_batches or max(1, components.epoch_images // components.batch_size)
    ending = ending_seconds(components)
    return RunTiming(smallest, largest, timer.validation_seconds(), ending, steps)


class _StepTimer:
    """Runs training steps, data and optimiser included, on a copy of the model."""

    def __init__(self, components: RunComponents) -> None:
        config, self.components = components.config, components
        self.model = components.training_copy()
        self.loss = components.loss().to(components.device)
        self.optimizer = build_optimizer(
            config.optimizer,
            self.model,
            components.lr,
            config.tuning,
            components.step_format.bf16,
        )
        self.views = TrainViews(components.train, components.augment, config.seed)
        self.indices = [n % len(components.train) for n in range(components.device_batch)]

    def step_seconds(self, epoch: int) -> float:
        """Run one step with the crops of an epoch; return its duration in seconds.

        Other processes may make the batches: then the slower of the two sides decides.
        """
        workers = self.components.workers
        started = time.perf_counter()
        draws = [(epoch, index, 0) for index in self.indices]
        batch = self.components.task.collate(self.views.__getitems__(draws))
        making = time.perf_counter() - started
        computing = call_seconds(lambda: self._update(batch), self.components.device)
        return max(computing, making / workers) if workers else computing + making

    def _update(self, batch: Batch) -> None:
        components, device = self.components, self.components.device
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=components.step_format.bf16):
            last_part, _ = loss_in_parts(
                components.task, self.model, self.loss, batch, components.step_size
            )
            torch.autograd.backward(last_part)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def validation_seconds(self) -> float:
        """Return the duration of a pass over the val split, in seconds."""
        components, device = self.components, self.components.device
        batch_size = val_batch_size(components.step_size, device)
        size = (batch_size, 3, *components.val_size)
        image = torch.zeros(size, dtype=torch.uint8, device=device)
        self.model.eval()
        with torch.inference_mode():
            seconds = _warm_seconds(lambda: self.model(image), device)
        images = len(components.val) / components.config.trainer.devices
        return images * seconds / batch_size


def ending_seconds(components: RunComponents) -> float:
    """Estimate the time after the last epoch: class offsets, measurement, overlays and saving.

    One val image is measured, and offsets are searched on one train image, with a copy of the
    model.
    """
    config, task, device = components.config, components.task, components.device
    model = copy.deepcopy(components.model).float()
    segmenter = task.inference_model(model, components.classes, config.hp["image_size"], device)
    one_image = _first_image(components.val)
    image_seconds = _warm_seconds(lambda: task.evaluate(segmenter, one_image), device)
    images = len(components.val) + min(config.tracking.overlays, len(components.val))
    return _SAVING_SECONDS + images * image_seconds + _offset_seconds(components, segmenter)


def _offset_seconds(components: RunComponents, segmenter: Segmenter | RegionLabeler) -> float:
    """Estimate the time of the search for class offsets; 0 if there is none."""
    has_offsets = class_bias(components.model) is not None
    if not (components.config.trainer.class_offsets and has_offsets):
        return 0.0
    one_image, device = _first_image(components.train), components.device
    height, width = one_image.images[0].shape[:2]
    image = torch.zeros((1, 3, height, width), dtype=torch.uint8, device=device)
    with torch.inference_mode():
        forward = _warm_seconds(lambda: segmenter.model(image), device)
    forward_and_search = _warm_seconds(
        lambda: components.task.offset_classes(segmenter, components.source, one_image), device
    )
    search = max(0.0, forward_and_search - forward)
    images = min(MAX_IMAGES, len(components.train))
    # the search uses a fixed number of logits at most: it thins out those of further images
    logits_per_image = one_image.masks[0].size * len(components.classes)
    return images * forward + min(images, math.ceil(MAX_LOGITS / logits_per_image)) * search


def _warm_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Time the second call of an action, in seconds."""
    return fastest(lambda: call_seconds(action, device))


def _first_image(split: Decoded) -> Decoded:
    """The split with its first image alone."""
    return Decoded(split.names[:1], [split.images[0]], [split.masks[0]], split.fingerprint)
