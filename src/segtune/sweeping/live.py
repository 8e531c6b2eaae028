"""A sweep as it runs, as plain data for a page that follows it; reads only, and takes no lock."""

import os
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from segtune.errors import ConfigError
from segtune.sweeping.engine.lease import is_gone
from segtune.sweeping.engine.records import LEASE, RUN, counted_trials, last_line, seconds_of
from segtune.sweeping.listing import current_progress, state_of
from segtune.sweeping.objectives import curve_of, first_value, label, of_study
from segtune.sweeping.progress import Progress, RunningTrial
from segtune.sweeping.records import load_study, plain_params

Row = dict[str, Any]
_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class LiveSweep:
    """Reads a sweep again and again; a trial that has ended is read once.

    Args:
        folder: of the sweep, below `sweeps/` in the store's root.

    Attributes:
        study: Optuna's study.

    Raises:
        ConfigError: no sweep was started there.
        StorageError: its study cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = folder / "journal.log"
        study = load_study(folder, folder.name)
        if study is None:
            raise ConfigError(f"sweep '{folder.name}' was never started in '{folder.parent}'.")
        self.study = study
        self._ended: dict[int, Row] = {}

    def mark(self) -> object:
        """Return a value that differs after a write to the study; None if only a read can tell."""
        try:
            facts = os.stat(self._journal)
        except FileNotFoundError:  # a database
            return None
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    def read(self) -> dict[str, Any]:
        """Return the state of the sweep: counts, best trial, workers, and a row for each trial."""
        state = current_progress(self.study)
        objectives = of_study(self.study)
        running = {trial.number: trial for trial in state.running}
        trials = counted_trials(self.study)
        return {
            "sweep": state.name,
            "state": state_of(state),
            "counts": state.counts.to_json(),
            "total": state.total,
            "best": state.best and {"trial": state.best[0], "value": state.best[1]},
            "eta": state.eta and state.eta[0],
            "objective": label(state.objective),
            "objectives": [f"{o.direction} {o.name}" for o in objectives],
            "minimize": objectives[0].direction == "minimize",
            "workers": _workers(trials, state),
            "trials": [self._row(trial, running.get(trial.number)) for trial in trials],
        }

    def _row(self, trial: FrozenTrial, running: RunningTrial | None) -> Row:
        if trial.number in self._ended:
            return self._ended[trial.number]
        curve = sorted(curve_of(trial).items())
        row = {
            "number": trial.number,
            "state": _STATES[trial.state],
            "params": plain_params(trial),
            "epoch": curve[-1][0] + 1 if curve else 0,
            "num_epochs": trial.user_attrs.get("num_epochs"),
            "value": _value(trial, curve),
            "phase": running.phase if running else None,
            "seconds": running.seconds if running else seconds_of(trial),
            "left": running.left if running else None,
            "run": trial.user_attrs.get(RUN),
            "error": last_line(trial) if trial.state == TrialState.FAIL else None,
            "curve": curve,
        }
        if trial.state.is_finished():
            self._ended[trial.number] = row
        return row


def _value(trial: FrozenTrial, curve: list[tuple[int, float]]) -> float | None:
    """Return the first objective of a finished trial, else its last validation."""
    if trial.state == TrialState.COMPLETE:
        return first_value(trial)
    return curve[-1][1] if curve else None


def _workers(trials: list[FrozenTrial], state: Progress) -> list[Row]:
    """Return the workers that hold a trial; one between two trials holds none."""
    phases = {trial.number: trial.phase for trial in state.running}
    workers = []
    for trial in trials:
        lease = trial.user_attrs.get(LEASE)
        if trial.state == TrialState.RUNNING and lease:
            workers.append(
                {
                    "worker": lease["worker"],
                    "trial": trial.number,
                    "phase": phases.get(trial.number),
                    "gone": is_gone(lease),
                }
            )
    return workers
