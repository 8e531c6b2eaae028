"""The trial that a function runs: its configuration, its reports and its checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

from segtune.sweeping.engine.lease import Lease
from segtune.sweeping.engine.pulling import report

_current: "Trial | None" = None


class Trial:
    """A running trial of a search.

    Attributes:
        number: of the trial, from 0; it stays the same when the trial is resumed.
        overrides: the configuration as `key=value` words, as on Hydra's command line.
        params: the configuration as values by their key; the searched keys alone.
        checkpoint: a folder for the state of this trial. It survives a kill and is the same when
            the trial is resumed.
        resumed: whether an earlier attempt left files in `checkpoint`.
    """

    def __init__(
        self, trial: optuna.Trial, lease: Lease, number: int, folder: Path, can_prune: bool = True
    ) -> None:
        self._trial, self._lease, self._can_prune = trial, lease, can_prune
        self.number, self.checkpoint = number, folder
        self.overrides: list[str] = []
        self.params: Mapping[str, Any] = {}
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        self.resumed = any(self.checkpoint.iterdir())
        self.was_pruned = False

    def report(self, value: float, step: int) -> None:
        """Report the objective at a step, for the pruner.

        Args:
            value: of the objective after this step.
            step: counts from 0, as epochs do. A value that was reported for a step stays.

        Raises:
            LeaseLost: another worker has the trial; let this error pass.
        """
        self._lease.check()
        if self._can_prune:
            report(self._trial, float(value), step)

    def should_prune(self) -> bool:
        """Return whether the trial is hopeless.

        Once the answer is True, the trial counts as pruned, whatever the function returns.
        """
        self._lease.check()
        self.was_pruned = self.was_pruned or (self._can_prune and self._trial.should_prune())
        return self.was_pruned


def current_trial() -> Trial | None:
    """Return the trial that this process runs; None outside of a search.

    >>> current_trial() is None
    True
    """
    return _current


@contextmanager
def running(trial: Trial) -> Iterator[Trial]:
    """Make a trial the current one while the block runs."""
    global _current
    _current = trial
    try:
        yield trial
    finally:
        _current = None
