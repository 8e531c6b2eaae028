"""Callbacks of the training loop: save weights, log epochs, stop when asked."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from safetensors.torch import save_file

from segtune.measure.table import EpochCounts, metrics_of
from segtune.models.tuning import merged_state
from segtune.runtime.atomic import atomic_file
from segtune.runtime.log import Log
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.training.accumulation import seed_device
from segtune.training.checkpoints import BEST, LAST, CheckpointWriter
from segtune.training.lightning_module import FineTuning
from segtune.training.ranks import decided_by_first, ignore_signals, rank
from segtune.training.request import LeaseCheck, OnEpoch

_MAX_SILENCE = 15.0
"""Seconds without a line; after them, an epoch without a validation gets a line, too."""


class StopTraining(Exception):
    """Ends `fit` at once; a resumed run continues from the last checkpoint."""


class BestAndLastCheckpoint(pl.Callback):
    """Saves the best weights by val mIoU, and a checkpoint to resume from.

    Args:
        checkpoints: writes the checkpoints; Lightning has it as its plugin.
        check_lease: called before each write.
        share: fraction of the training time that checkpoints may take. An epoch without a
            checkpoint is trained again after an interruption.
        may_go_on: whether a training that stopped before its last epoch may be resumed.

    Attributes:
        has_started: the first step is due; until then a checkpoint is restored.
    """

    def __init__(
        self,
        folder: Path,
        stop: StopRequest,
        checkpoints: CheckpointWriter,
        check_lease: LeaseCheck = lambda: None,
        share: float = 0.05,
        may_go_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self.may_go_on = may_go_on
        self.stop, self.checkpoints, self.check_lease = stop, checkpoints, check_lease
        self.share = share
        self.best, self.last = folder / BEST, folder / LAST
        self.best_miou, self.best_epoch = -1.0, -1
        self.has_started = False
        self._saved_at = time.monotonic()

    @property
    def state_key(self) -> str:
        """The key of this state in checkpoints: the name of the class in segtune 0.1.0."""
        return "Keeper"

    def state_dict(self) -> dict[str, Any]:
        """The state that checkpoints hold."""
        return {"best_miou": self.best_miou, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state from a checkpoint."""
        self.best_miou, self.best_epoch = state_dict["best_miou"], state_dict["best_epoch"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, whose handler may block a distributed run."""
        self.has_started = True
        if rank():
            ignore_signals()
        else:
            self.stop.take_over()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make Lightning validate the last epoch, whatever `val_every` is."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the step, so that a resumed run draws the same dropout as an uninterrupted one."""
        seed = trainer.datamodule.options.seed  # type: ignore[attr-defined]  # undeclared in Lightning
        step = (seed, trainer.global_step, trainer.global_rank)
        seed_device(hash(step) % 2**31, module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after this step if somebody asked for it.

        Raises:
            StopTraining: the run stops here.
        """
        self.check_lease()
        if self.stop.requested:
            trainer.should_stop = True
            raise StopTraining

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if their val mIoU is the best so far."""
        assert isinstance(pl_module, FineTuning)
        if not trainer.is_global_zero or pl_module.scores is None:
            return
        if pl_module.scores.miou <= self.best_miou:
            return
        self.check_lease()
        self.best_miou, self.best_epoch = pl_module.scores.miou, trainer.current_epoch
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in merged_state(pl_module.averaged).items()
        }
        with atomic_file(self.best, shared=True) as unfinished:
            with_backoff(lambda: save_file(tensors, unfinished))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint after the last epoch, and before it when one is due."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        is_last = is_last or (trainer.should_stop and self.may_go_on())
        allowed_seconds = self.share * (time.monotonic() - self._saved_at)
        is_due = is_last or self.checkpoints.seconds <= allowed_seconds
        if decided_by_first(trainer, is_due):  # a save ends when all processes have come to it
            self.check_lease()
            trainer.save_checkpoint(self.last)
            self._saved_at = time.monotonic()


class EpochLogger(pl.Callback):
    """Records the metrics of each epoch, prints a line for it, and calls `on_epoch`.

    Args:
        names: names of the classes.
        record: stores the metrics of an epoch.
        work: amount of work of each epoch, in any unit, such as pixels: crops may grow. The
            estimate of the remaining time rests on it.
        unit: what the scores count: `pixel` or `region`.
        ending: seconds from the end of the last epoch to the end of the run.

    Attributes:
        pruned: `on_epoch` ended the training.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        say: Log,
        record: Callable[[Mapping[str, float], int], None],
        work: Sequence[float],
        on_epoch: OnEpoch = lambda epoch, metrics: False,
        unit: str = "pixel",
        ending: float = 0.0,
    ) -> None:
        self.work, self.unit, self.ending = work, unit, ending
        self.names, self.say, self.record, self.on_epoch = names, say, record, on_epoch
        self.pruned = False
        self.best = -1.0
        self._started = self._said_at = time.monotonic()
        self._first_epoch: int | None = None
        self._progress: list[tuple[float, float]] = []  # (seconds, work done) after each epoch
        self._lr = 0.0

    @property
    def state_key(self) -> str:
        """The key of this state in checkpoints: the name of the class in segtune 0.1.0."""
        return "Reporter"

    def state_dict(self) -> dict[str, Any]:
        """The state that checkpoints hold."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state from a checkpoint."""
        self.best = state_dict["best"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate of the step."""
        self._lr = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch, and end the training if `on_epoch` asks for that.

        Raises:
            Diverged: the loss is not finite.
        """
        assert isinstance(pl_module, FineTuning)
        loss = pl_module.train_loss  # of all processes
        is_over = trainer.is_global_zero and self._log_epoch(trainer, pl_module, loss)
        if decided_by_first(trainer, is_over):
            self.pruned = True
            trainer.should_stop = True

    def _log_epoch(self, trainer: pl.Trainer, module: FineTuning, loss: float) -> bool:
        """Record and print the epoch; return whether `on_epoch` ends the training."""
        epoch, scores = trainer.current_epoch, module.scores
        if self._first_epoch is None:
            self._first_epoch = epoch
        elapsed = time.monotonic() - self._started
        clock = f"{elapsed:.0f} s, {self._seconds_left(epoch, elapsed):.0f} s to go"
        epoch_and_loss = f"epoch {epoch + 1}/{trainer.max_epochs or 0}  loss {loss:.4f}"
        metrics = {"train/loss": loss, "train/lr": self._lr}
        if scores is None:
            self.record(metrics, epoch)
            if time.monotonic() - self._said_at > _MAX_SILENCE:
                self._say(f"{epoch_and_loss}  {clock}")
            return False
        module.scores = None
        assert module.matrix is not None
        counts = EpochCounts(module.matrix.cpu().numpy(), self.names, self.unit)
        metrics |= metrics_of(counts, "val/", each_epoch=True) | {"epoch": float(epoch)}
        self.record(metrics, epoch)
        self.best = max(self.best, scores.miou)
        miou = f"val mIoU {scores.miou:.4f} (best {self.best:.4f})"
        self._say(f"{epoch_and_loss}  {miou}  {clock}")
        return self.on_epoch(epoch, metrics)

    def _seconds_left(self, epoch: int, elapsed: float) -> float:
        """Seconds from the end of this epoch to the end of the run.

        The later half of the epochs gives the speed: where a GPU waits for the CPU, small crops may
        take as long as large ones.
        """
        assert self._first_epoch is not None
        self._progress.append((elapsed, sum(self.work[self._first_epoch : epoch + 1])))
        half = len(self._progress) // 2
        seconds, work = self._progress[half - 1] if half else (0.0, 0.0)
        seconds_per_work = (elapsed - seconds) / (self._progress[-1][1] - work)
        return seconds_per_work * sum(self.work[epoch + 1 :]) + self.ending

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        self.say(line)


class Monitor(Protocol):
    """Measures the load of the machine."""

    def start(self) -> None:
        """Start to measure."""

    def finish(self) -> None:
        """Stop measuring."""


class Monitored(pl.Callback):
    """Runs a monitor from the first step to the last, on the first of several processes."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the monitor."""
        if trainer.is_global_zero:
            self.monitor.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the monitor."""
        if trainer.is_global_zero:
            self.monitor.finish()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Stop the monitor."""
        self.on_fit_end(trainer, pl_module)
