"""The pulse of a running trial: its phase, elapsed and remaining time, recorded in the study."""

import contextlib
import time
from typing import Any

from optuna import Trial
from optuna.exceptions import UpdateFinishedTrialError

from segtune.config.schema import RunConfig

PULSE = "pulse"  # user attribute of a trial
_MIN_SHARE = 0.02  # of a trial: before, its remaining time is not estimated


class Pulse:
    """Follows a trial, and records its pulse.

    Args:
        train_images: number of images in the train split.
    """

    def __init__(self, trial: Trial, config: RunConfig, train_images: int) -> None:
        self._trial = trial
        self._started_at, self._minutes = time.monotonic(), config.trainer.minutes
        self._epochs = int(config.hp["num_epochs"])
        batches = max(1, train_images // int(config.hp["batch_size"]))
        self._total_steps = (config.trainer.limit_train_batches or batches) * self._epochs
        self._phase, self._steps, self._validated = "preparing", 0, 0
        # share of a resumed trial that earlier attempts did; None before the first validation
        self._share_before: float | None = None
        self.record()

    def step(self) -> None:
        """Call this after each training step."""
        self._steps += 1
        if self._phase == "preparing":
            self._enter("training")

    def validated(self, epoch: int) -> None:
        """Call this after each validation; epochs count from 0."""
        if self._share_before is None:
            share_of_epochs = (epoch + 1) / self._epochs
            self._share_before = max(0.0, share_of_epochs - self._steps / self._total_steps)
        self._validated = epoch + 1
        if self._validated == self._epochs and not self._minutes:
            self._enter("measuring")
        else:
            self.record()

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self.record()

    def record(self) -> None:
        """Write the pulse to the study."""
        seconds = time.monotonic() - self._started_at
        pulse = {
            "phase": self._phase,
            "seconds": seconds,
            "left": self._remaining(seconds),
            "at": time.time(),
        }
        # a finished trial belongs to another worker; the lease reports that
        with contextlib.suppress(UpdateFinishedTrialError):
            self._trial.storage.set_trial_user_attr(self._trial._trial_id, PULSE, pulse)

    def _remaining(self, seconds: float) -> float | None:
        """Return the seconds to go; None if it is too early for an estimate."""
        if self._minutes:
            return max(0.0, 60 * self._minutes - seconds)
        if self._phase == "measuring":
            return 0.0
        share_before = self._share_before or 0.0
        by_steps = self._steps / self._total_steps
        by_epochs = self._validated / self._epochs - share_before
        done, to_do = max(by_steps, by_epochs), 1.0 - share_before
        if done < _MIN_SHARE * to_do:
            return None
        return max(0.0, seconds * (to_do - done) / done)


def read_pulse(pulse: dict[str, Any], now: float) -> tuple[str, float, float | None]:
    """Return the phase, the elapsed and the remaining seconds of a trial at the time `now`."""
    # a longer time is a step of the clock
    since = min(max(0.0, now - pulse["at"]), 600.0)
    remaining = None if pulse["left"] is None else max(0.0, pulse["left"] - since)
    return str(pulse["phase"]), pulse["seconds"] + since, remaining
