"""What happens around the training steps: keeping weights, telling the caller, stopping when asked."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
from safetensors.torch import save_file

from segtune.models.tuning import merged_state
from segtune.runtime.atomic import atomic_file
from segtune.runtime.log import Log
from segtune.runtime.retry import with_backoff
from segtune.runtime.signals import StopRequest
from segtune.training.accumulation import seed_device
from segtune.training.checkpoints import Checkpoints
from segtune.training.lightning_module import FineTuning
from segtune.training.resuming import BEST, LAST

OnEpoch = Callable[[int, Mapping[str, float]], bool]
"""Called after each validation with the epoch (from 0) and its metrics; True stops the run there."""

LeaseCheck = Callable[[], None]
"""Called before a write; raises LeaseLost where another worker has taken the run over."""

_PATIENCE = 15.0
"""Seconds without a line after which an epoch without a validation is told, too."""


class BestAndLastCheckpoint(pl.Callback):
    """Keeps the best weights by val mIoU and a checkpoint to resume from, both written whole or not at all.

    Args:
        checkpoints: what writes them; Lightning has it as its plugin.
        guard: called before anything is written; raises where that is another worker's business by now.
        share: of the training time that checkpoints may take; each epoch writes one where that takes less.
    """

    def __init__(
        self,
        folder: Path,
        stop: StopRequest,
        checkpoints: Checkpoints,
        guard: LeaseCheck = lambda: None,
        share: float = 0.05,
    ) -> None:
        self.folder, self.stop, self.checkpoints, self.guard, self.share = (
            folder,
            stop,
            checkpoints,
            guard,
            share,
        )
        self.best_miou, self.best_epoch = -1.0, -1
        self._saved = time.monotonic()

    @property
    def state_key(self) -> str:
        """The key of this state in checkpoints: the name of the class in segtune 0.1.0."""
        return "Keeper"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / LAST

    @property
    def best(self) -> Path:
        """The weights of the best validation."""
        return self.folder / BEST

    def state_dict(self) -> dict[str, Any]:
        """Travels in the checkpoint."""
        return {"best_miou": self.best_miou, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes out of the checkpoint."""
        self.best_miou, self.best_epoch = state_dict["best_miou"], state_dict["best_epoch"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Has the last epoch validated, whatever `val_every`: what was trained is never left unseen."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds the step, so that a resumed run drops out what an uninterrupted one would have dropped."""
        seed = trainer.datamodule.options.seed  # type: ignore[attr-defined]  # undeclared in Lightning
        place = (seed, trainer.global_step, trainer.global_rank)
        seed_device(hash(place) % 2**31, module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stops after this step, if that was asked for."""
        self.guard()
        if self.stop.requested:
            trainer.should_stop = True
            raise StopTraining

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the weights if they are the best so far."""
        assert isinstance(pl_module, FineTuning)
        if (
            not trainer.is_global_zero
            or pl_module.scores is None
            or pl_module.scores.miou <= self.best_miou
        ):
            return
        self.guard()
        self.best_miou, self.best_epoch = pl_module.scores.miou, trainer.current_epoch
        tensors = {
            k: v.detach().cpu().contiguous() for k, v in merged_state(pl_module.averaged).items()
        }
        with atomic_file(self.best, shared=True) as unfinished:
            with_backoff(lambda: save_file(tensors, unfinished))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Has the checkpoint written when it is due."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last or self.checkpoints.seconds <= self.share * (time.monotonic() - self._saved):
            self.guard()
            trainer.save_checkpoint(self.last)
            self._saved = time.monotonic()


class StopTraining(Exception):
    """Leaves `fit` at once: the last checkpoint is what a resumed run goes on from."""


class EpochLogger(pl.Callback):
    """Tells the caller about each validation, and prints a line for it.

    Args:
        say: prints a line.
        record: stores the metrics of an epoch.
        work: of each epoch, in any unit: pixels, where crops grow; for the time that is left.
        on_epoch: may end the run early, as pruning does.
        unit: what is counted.
        ending: seconds that what follows the last epoch will take: part of the time that is left.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        say: Log,
        record: Callable[[Mapping[str, float], int], None],
        work: Sequence[float],
        on_epoch: OnEpoch | None,
        unit: str = "pixel",
        ending: float = 0.0,
    ) -> None:
        self.work, self.unit, self.ending = work, unit, ending
        self.names, self.say, self.record, self.on_epoch = names, say, record, on_epoch
        self.pruned = False
        self.best = -1.0
        self._started = self._told = time.monotonic()
        self._first_epoch: int | None = None
        self._marks: list[tuple[float, float]] = []
        self._lr = 0.0

    @property
    def state_key(self) -> str:
        """The key of this state in checkpoints: the name of the class in segtune 0.1.0."""
        return "Reporter"

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the learning rate of the step."""
        self._lr = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Travels in the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes out of the checkpoint."""
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports an epoch that was validated, or that took long; a loss that is not finite ends the run here."""
        assert isinstance(pl_module, FineTuning)
        epoch, scores, loss = trainer.current_epoch, pl_module.scores, pl_module.train_loss
        if self._first_epoch is None:
            self._first_epoch = epoch
        if not trainer.is_global_zero:
            return
        elapsed = time.monotonic() - self._started
        total = trainer.max_epochs or 0
        self._marks.append((elapsed, sum(self.work[self._first_epoch : epoch + 1])))
        # by the later half of the epochs: small crops may take as long as large ones where a GPU waits for the CPU
        before = self._marks[len(self._marks) // 2 - 1] if len(self._marks) > 1 else (0.0, 0.0)
        left = (
            (elapsed - before[0]) / (self._marks[-1][1] - before[1]) * sum(self.work[epoch + 1 :])
        )
        left += self.ending
        place, clock = (
            f"epoch {epoch + 1}/{total}  loss {loss:.4f}",
            f"{elapsed:.0f} s, {left:.0f} s to go",
        )
        if scores is None:
            self.record({"train/loss": loss, "train/lr": self._lr}, epoch)
            if time.monotonic() - self._told > _PATIENCE:
                self._tell(f"{place}  {clock}")
            return
        pl_module.scores = None
        metrics = scores.named(self.names, unit=self.unit) | {
            "train/loss": loss,
            "train/lr": self._lr,
            "epoch": float(epoch),
        }
        self.record(metrics, epoch)
        self.best = max(self.best, scores.miou)
        self._tell(f"{place}  val mIoU {scores.miou:.4f} (best {self.best:.4f})  {clock}")
        if self.on_epoch is not None and self.on_epoch(epoch, metrics):
            self.pruned = True
            trainer.should_stop = True

    def _tell(self, line: str) -> None:
        self._told = time.monotonic()
        self.say(line)


class Monitor(Protocol):
    """Watches the machine while a run trains."""

    def start(self) -> None:
        """Begins."""

    def finish(self) -> None:
        """Ends."""


class Monitored(pl.Callback):
    """Has a monitor watch from the first step to the last, also where the training ends early."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins, on the first of several processes."""
        if trainer.is_global_zero:
            self.monitor.start()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends."""
        if trainer.is_global_zero:
            self.monitor.finish()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Ends."""
        self.on_fit_end(trainer, pl_module)
