"""How far a running trial is, told to the study as often as its lease is renewed: phase, share done, time."""

import contextlib
import time
from typing import Any

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError

from segtune.config.schema import RunConfig
from segtune.sweeping.records import PULSE

_SURE = 0.02  # of a trial: with less done, what is left cannot be told


class Pulse:
    """What a worker knows of its trial.

    Args:
        train_images: of the dataset, for the number of steps.
    """

    def __init__(self, trial: Trial, config: RunConfig, train_images: int) -> None:
        self._trial = trial
        self._begun, self._minutes = time.monotonic(), config.trainer.minutes
        self._epochs = int(config.hp["num_epochs"])
        per_epoch = config.trainer.limit_train_batches or max(
            1, train_images // int(config.hp["batch_size"])
        )
        self._total = per_epoch * self._epochs
        self._phase, self._step, self._validated = "preparing", 0, 0
        self._share_before: float | None = None  # of a trial that is resumed: what was done before
        self.tell()

    def step(self) -> None:
        """After each training step."""
        self._step += 1
        if self._phase == "preparing":
            self._enter("training")

    def validated(self, epoch: int) -> None:
        """After a validation; epochs count from 0."""
        if self._share_before is None:
            self._share_before = max(0.0, (epoch + 1) / self._epochs - self._step / self._total)
        self._validated = epoch + 1
        if self._validated == self._epochs and not self._minutes:
            self._enter("measuring")
        else:
            self.tell()

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self.tell()

    def tell(self) -> None:
        """Writes it to the study."""
        seconds = time.monotonic() - self._begun
        pulse = {
            "phase": self._phase,
            "seconds": seconds,
            "left": self._left(seconds),
            "at": time.time(),
        }
        with contextlib.suppress(UpdateFinishedTrialError):  # the lease tells who has it now
            self._trial.storage.set_trial_user_attr(self._trial._trial_id, PULSE, pulse)

    def _left(self, seconds: float) -> float | None:
        """Seconds to go; None where it is too early to tell."""
        if self._minutes:
            return max(0.0, 60 * self._minutes - seconds)
        by_steps = self._step / self._total
        by_epochs = self._validated / self._epochs - (self._share_before or 0.0)
        done, whole = max(by_steps, by_epochs), 1.0 - (self._share_before or 0.0)
        if self._phase == "measuring":
            return 0.0
        return None if done < _SURE * whole else max(0.0, seconds * (whole - done) / done)


def read_pulse(pulse: dict[str, Any], now: float) -> tuple[str, float, float | None]:
    """Phase, seconds since the trial's worker began, and seconds to go, at the time `now`."""
    since = min(max(0.0, now - pulse["at"]), 600.0)  # a step of the clock is no time
    left = pulse["left"]
    return (
        str(pulse["phase"]),
        pulse["seconds"] + since,
        None if left is None else max(0.0, left - since),
    )
