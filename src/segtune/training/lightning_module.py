"""The one training step: bytes in, loss out; validation counts one confusion matrix over the whole split.

The kind of model (`kinds`) says what a batch's loss is, and what of it is counted.
"""

import math

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
from segtune.models.optim.optimizer import build_optimizer, build_scheduler
from segtune.models.segmentation_model import SegmentationModel
from segtune.models.tuning import encoder_of, freeze_encoder, is_frozen
from segtune.tasks.task import Task
from segtune.training.accumulation import loss_in_parts

Batch = dict[str, Tensor]


class FineTuning(pl.LightningModule):
    """Fine-tunes a model.

    Args:
        task: gives the loss of a batch, and its predicted and true ids.
        part_size: images that go through the model at once; a batch of more is accumulated in parts.
        lr: the base learning rate, batch_size * per_item_lrate.
        ema_decay: what the decay of the moving average rises to, by 1 - t**-0.6 at step t; the average is validated and
            kept. None validates the weights themselves.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: SegmentationLoss,
        task: Task,
        part_size: int,
        num_classes: int,
        lr: float,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        ema_decay: float | None = None,
        tuning: TuningConfig | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.lr = model, loss, lr
        self.task, self.part_size = task, part_size
        self.optimizer_config, self.scheduler_config = optimizer, scheduler
        self.tuning = tuning or TuningConfig()
        # that is as far back as t**0.6 steps, a tenth of 300 or a twentieth of 2,000: further back, and short runs lag
        self.ema = (
            ModelEmaV3(model, decay=ema_decay, use_warmup=True, warmup_power=0.6)
            if ema_decay
            else None
        )
        if self.ema is not None:
            self.ema.module.requires_grad_(
                False
            )  # or a distributed run would wait for its gradients
        self.confusion = ConfusionMatrix(num_classes)
        self.scores: Scores | None = None
        self.total_steps, self._averaged_at = 1, -1
        self._losses, self._not_finite = _EpochLosses(), torch.zeros((), dtype=torch.int64)

    def train(self, mode: bool = True) -> "FineTuning":
        """As any module's; a frozen encoder keeps its running statistics, too."""
        super().train(mode)
        if self.tuning != TuningConfig() and is_frozen(self.model):
            encoder_of(self.model).eval()
        return self

    @property
    def averaged(self) -> nn.Module:
        """The weights that are validated and kept: the moving average where there is one."""
        return self.ema.module if self.ema is not None else self.model

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One update's worth of gradient; Lightning runs the rest of it backward."""
        if isinstance(self.model, SegmentationModel):
            self.model.advance(self.global_step / self.total_steps)
        optimizer = self.trainer.optimizers[0]
        optimizer.zero_grad()
        rest, loss = loss_in_parts(self.task, self.model, self.loss, batch, self.part_size)
        self._losses.add(loss, self.global_step, optimizer.param_groups[0]["lr"])
        return rest

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Nothing: Lightning calls it when the gradients of a batch's first parts are there already."""

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Moves the average, once per update of the weights."""
        if self.ema is not None and self.global_step != self._averaged_at:
            self._averaged_at = self.global_step
            self.ema.update(self.model, step=self.global_step)

    def on_train_start(self) -> None:
        """Sets the learning rate by the schedule: a checkpoint holds that of its own number of epochs."""
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, LambdaLR)
        factors = (schedule(scheduler.last_epoch) for schedule in scheduler.lr_lambdas)
        groups = scheduler.optimizer.param_groups
        for group, base, factor in zip(groups, scheduler.base_lrs, factors, strict=True):
            group["lr"] = base * factor

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's mean loss, and lets the encoder go when its time has come."""
        self._losses = _EpochLosses()
        if self.tuning.frozen_epochs and self.tuning.encoder == "train":
            freeze_encoder(self.model, self.current_epoch < self.tuning.frozen_epochs)
        self.train()

    @property
    def train_loss(self) -> float:
        """Mean loss of the epoch so far.

        Raises:
            Diverged: it is not finite.
        """
        return self._losses.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts a batch."""
        prediction, target, finite = self.task.pairs_of(self.averaged, batch)
        self.confusion.update(prediction, target)
        self._not_finite = self._not_finite + ~finite

    def on_validation_epoch_end(self) -> None:
        """Scores the split.

        Raises:
            Diverged: outputs that are not finite.
        """
        not_finite = self._not_finite.to(self.device)
        self._not_finite = torch.zeros_like(not_finite)
        if int(self.trainer.strategy.reduce(not_finite, reduce_op="sum")):
            _ = self.train_loss  # raises with the step, where the loss was not finite before
            raise Diverged(
                f"the model's outputs for val images are not finite after step {self.global_step} at a base lr of "
                f"{self.lr:g}. Lower hp.per_item_lrate, or set trainer.gradient_clip=1."
            )
        self.scores = score(self.confusion.compute())
        self.confusion.reset()
        self.log(
            "val/miou", torch.tensor(self.scores.miou), sync_dist=True
        )  # what early stopping watches on each rank

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, with its schedule advanced each step."""
        bf16 = "bf16" in str(self.trainer.precision)
        optimizer = build_optimizer(
            self.optimizer_config, self.model, self.lr, self.tuning.layer_decay, bf16
        )
        self.total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(self.scheduler_config, optimizer, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class _EpochLosses:
    """The losses of an epoch, summed on the device: reading one each step would make the device wait."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._rates: list[float] = []
        self._first_step = 0

    def add(self, loss: Tensor, step: int, lr: float) -> None:
        if self._sum is None:
            self._sum, self._first_step = torch.zeros_like(loss), step
            self._good_steps, self._last_good = (
                torch.zeros_like(loss, dtype=torch.int64),
                torch.full_like(loss, math.nan),
            )
        self._sum += loss
        good = torch.isfinite(self._sum)  # stays false from the first bad loss on
        self._good_steps += good
        self._last_good = torch.where(good, loss, self._last_good)
        self._rates.append(lr)

    def mean(self) -> float:
        if self._sum is None:
            return 0.0
        total, good = float(self._sum), int(self._good_steps)
        if not math.isfinite(total):
            raise Diverged(
                f"the loss became {total} at step {self._first_step + good + 1} at lr {self._rates[good]:g}; the last "
                f"finite loss of that epoch was {float(self._last_good):.4g}. Lower hp.per_item_lrate, or set "
                "trainer.gradient_clip=1."
            )
        return total / len(self._rates)
