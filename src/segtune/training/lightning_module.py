"""The training step: a batch of bytes becomes a loss; validation counts one confusion matrix.

The task decides which loss a batch has, and which predictions are counted (`segtune.tasks`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segtune.config.schema import OptimizerConfig, SchedulerConfig, TuningConfig
from segtune.errors import Diverged
from segtune.measure.metrics import ConfusionMatrix, Scores, score
from segtune.models.losses.segmentation import SegmentationLoss
from segtune.models.optim.optimizer import build_optimizer
from segtune.models.optim.schedule import build_scheduler
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.tuning import first_trained_epoch, freeze_encoder, keep_statistics
from segtune.tasks.task import Task
from segtune.training.accumulation import loss_in_parts

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class UpdateSettings:
    """How the weights are updated.

    Attributes:
        part_size: images that go through the model at once; a larger batch is split into parts.
        lr: the base learning rate, batch_size * per_item_lrate.
        ema_decay: upper limit of the decay of the moving average of the weights, which rises as
            1 - t**-0.6 at step t. The average is validated and saved. None means no average.
    """

    part_size: int
    num_classes: int
    lr: float
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    ema_decay: float | None = None
    tuning: TuningConfig = field(default_factory=TuningConfig)


class FineTuning(pl.LightningModule):
    """Fine-tunes a model."""

    def __init__(
        self, model: nn.Module, loss: SegmentationLoss, task: Task, settings: UpdateSettings
    ) -> None:
        super().__init__()
        self.model, self.loss, self.task, self.settings = model, loss, task, settings
        # the average spans t**0.6 steps, a tenth of 300 or a twentieth of 2,000: with a longer span
        # the average of a short run lags behind
        self.ema: ModelEmaV3 | None = None
        if settings.ema_decay:
            self.ema = ModelEmaV3(
                model, decay=settings.ema_decay, use_warmup=True, warmup_power=0.6
            )
            # a distributed run would wait for the gradients of the average
            self.ema.module.requires_grad_(False)
        self.confusion = ConfusionMatrix(settings.num_classes)
        self.scores: Scores | None = None
        self.matrix: Tensor | None = None
        self.total_steps, self._averaged_at = 1, -1
        self._losses, self._not_finite = _EpochLosses(), torch.zeros((), dtype=torch.int64)

    def train(self, mode: bool = True) -> "FineTuning":
        """Set the mode of all modules; a frozen encoder keeps its running statistics."""
        super().train(mode)
        if mode:
            keep_statistics(self.settings.tuning, self.model)
        return self

    @property
    def averaged(self) -> nn.Module:
        """The model that is validated and saved: the moving average, if there is one."""
        return self.ema.module if self.ema is not None else self.model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Run all parts of a batch backward but the last; Lightning runs the last one."""
        if isinstance(self.model, SegmentationModel):
            self.model.advance(self.global_step / self.total_steps)
        optimizer = self.trainer.optimizers[0]
        optimizer.zero_grad()
        last_part, loss = loss_in_parts(
            self.task, self.model, self.loss, batch, self.settings.part_size
        )
        self._losses.add(loss, self.global_step, optimizer.param_groups[0]["lr"])
        return last_part

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Keep the gradients: when Lightning calls this, those of the first parts are there."""

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Update the moving average, once per update of the weights."""
        if self.ema is not None and self.global_step != self._averaged_at:
            self._averaged_at = self.global_step
            self.ema.update(self.model, step=self.global_step)

    def on_train_start(self) -> None:
        """Set the learning rate from the schedule of this run.

        A checkpoint holds the learning rate of another schedule if the run was extended.
        """
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, LambdaLR)
        factors = (schedule(scheduler.last_epoch) for schedule in scheduler.lr_lambdas)
        groups = scheduler.optimizer.param_groups
        for group, base, factor in zip(groups, scheduler.base_lrs, factors, strict=True):
            group["lr"] = base * factor

    def on_train_epoch_start(self) -> None:
        """Start a new mean loss; unfreeze the encoder after its frozen epochs."""
        self._losses = _EpochLosses()
        tuning = self.settings.tuning
        first_trained = first_trained_epoch(tuning, self.trainer.max_epochs or 0)
        if first_trained and tuning.encoder == "train":
            freeze_encoder(self.model, self.current_epoch < first_trained)
        self.train()

    @property
    def train_loss(self) -> float:
        """Mean loss of the epoch so far, over all processes; each of them must ask for it.

        Raises:
            Diverged: the loss is not finite.
        """
        return self._losses.mean(lambda total: self.trainer.strategy.reduce(total))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the predictions of a batch."""
        prediction, target, finite = self.task.predict_ids(self.averaged, batch)
        self.confusion.update(prediction, target)
        self._not_finite = self._not_finite + ~finite

    def on_validation_epoch_end(self) -> None:
        """Score the val split.

        Raises:
            Diverged: an output is not finite.
        """
        not_finite = self._not_finite.to(self.device)
        self._not_finite = torch.zeros_like(not_finite)
        if int(self.trainer.strategy.reduce(not_finite, reduce_op="sum")):
            _ = self.train_loss  # raises, with the step, if the loss was not finite before
            raise Diverged(
                f"the model's outputs for val images are not finite after step {self.global_step} "
                f"at a base lr of {self.settings.lr:g}. Lower hp.per_item_lrate, or set "
                "trainer.gradient_clip=1."
            )
        self.matrix = self.confusion.compute().clone()
        self.scores = score(self.matrix)
        self.confusion.reset()
        # early stopping watches this value on each rank
        self.log("val/miou", torch.tensor(self.scores.miou), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser, and the schedule that advances with each step."""
        bf16 = "bf16" in str(self.trainer.precision)
        settings = self.settings
        optimizer = build_optimizer(
            settings.optimizer, self.model, settings.lr, settings.tuning, bf16
        )
        self.total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(settings.scheduler, optimizer, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class _EpochLosses:
    """The losses of an epoch, summed on the device: reading each loss would make the CPU wait."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._rates: list[float] = []
        self._first_step = 0

    def add(self, loss: Tensor, step: int, lr: float) -> None:
        if self._sum is None:
            self._sum, self._first_step = torch.zeros_like(loss), step
            self._finite_steps = torch.zeros_like(loss, dtype=torch.int64)
            self._last_finite = torch.full_like(loss, math.nan)
        self._sum += loss
        is_finite = torch.isfinite(self._sum)  # stays false after the first loss that is not
        self._finite_steps += is_finite
        self._last_finite = torch.where(is_finite, loss, self._last_finite)
        self._rates.append(lr)

    def mean(self, over_processes: Callable[[Tensor], Tensor]) -> float:
        if self._sum is None:
            return 0.0
        total, finite_steps = float(over_processes(self._sum.clone())), int(self._finite_steps)
        if not math.isfinite(total):
            raise Diverged(
                f"the loss became {total} at step {self._first_step + finite_steps + 1} at lr "
                f"{self._rates[finite_steps]:g}; the last finite loss of that epoch was "
                f"{float(self._last_finite):.4g}. Lower hp.per_item_lrate, or set "
                "trainer.gradient_clip=1."
            )
        return total / len(self._rates)
