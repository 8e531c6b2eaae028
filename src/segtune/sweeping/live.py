"""A sweep as it runs, as plain data for a page that follows it; reads only, and takes no lock."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.errors import ConfigError
from segtune.runtime.filenames import STUDY_FILE
from segtune.sweeping.engine.lease import LeaseWatch
from segtune.sweeping.engine.records import (
    LEASE,
    RUN,
    SPEC,
    counted_trials,
    last_line,
    seconds_of,
)
from segtune.sweeping.listing import current_progress, state_of
from segtune.sweeping.objectives import curve_of, first_value, label, of_study
from segtune.sweeping.progress import Progress, RunningTrial
from segtune.sweeping.records import load_study, plain_params

Row = dict[str, Any]
_LEASE_SECONDS = 60.0  # of studies that recorded none
_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class _Opened:
    """An open study, with the facts that are read once."""

    identity: object
    study: optuna.Study
    leases: LeaseWatch
    ended: dict[int, Row] = field(default_factory=dict)


class LiveSweep:
    """Reads a sweep again and again; a trial that has ended is read once.

    Args:
        folder: of the sweep, below `sweeps/` in the store's root.

    Raises:
        ConfigError: no sweep was started there.
        StorageError: its study cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._journal = folder, folder / "journal.log"
        self._opened = self._open()

    @property
    def study(self) -> optuna.Study:
        """Optuna's study; a sweep that was removed and started anew has another one.

        Raises:
            ConfigError: the sweep was removed.
            StorageError: its study cannot be read.
        """
        return self._current().study

    def mark(self) -> tuple[int, int, int] | None:
        """Return a value that differs after a write to the study; None if only a read can tell."""
        try:
            facts = os.stat(self._journal)
        except OSError:  # a database, or a file that cannot be looked at now
            return None
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    def read(self) -> dict[str, Any]:
        """Return the state of the sweep: counts, best trial, workers, and a row for each trial.

        Raises:
            ConfigError: the sweep was removed.
            StorageError: its study cannot be read.
        """
        opened = self._current()
        state = current_progress(opened.study)
        objectives = of_study(opened.study)
        running = {trial.number: trial for trial in state.running}
        trials = counted_trials(opened.study)
        workers = _workers(trials, state, opened.leases)
        lost = {worker["trial"] for worker in workers if worker["gone"]}
        is_left = 0 < len(lost) == state.counts.running
        rows = [_row(trial, running.get(trial.number), opened.ended) for trial in trials]
        for row in rows:
            if row["number"] in lost:
                row |= {"state": "interrupted", "phase": None, "seconds": None, "left": None}
        return {
            "sweep": state.name,
            "study": opened.identity,
            "state": "open" if is_left else state_of(state),
            "counts": state.counts.to_json(),
            "total": state.total,
            "best": state.best and {"trial": state.best[0], "value": state.best[1]},
            "eta": None if is_left else state.eta and state.eta[0],
            "objective": label(state.objective),
            "objectives": [f"{o.direction} {o.name}" for o in objectives],
            "workers": workers,
            "continue": state.command if is_left else None,
            "trials": rows,
            "fault": None,  # the reason why these values are old
        }

    def _open(self) -> _Opened:
        identity = self._identity()
        study = load_study(self._folder, self._folder.name)
        if study is None:
            place = self._folder.parent
            raise ConfigError(f"sweep '{self._folder.name}' was never started in '{place}'.")
        seconds = study.user_attrs.get(SPEC, {}).get("lease", _LEASE_SECONDS)
        return _Opened(identity, study, LeaseWatch(seconds))

    def _current(self) -> _Opened:
        if self._identity() != self._opened.identity:
            self._opened = self._open()
        return self._opened

    def _identity(self) -> tuple[int | None, str | None]:
        """Return what tells two studies of one name apart: the journal's file, and their id."""
        mark, path = self.mark(), self._folder / STUDY_FILE
        number = path.read_text(encoding="utf-8") if path.is_file() else None
        return mark and mark[0], number


def _row(trial: FrozenTrial, running: RunningTrial | None, ended: dict[int, Row]) -> Row:
    """Return a trial as plain data; `ended` keeps the rows of trials that have ended."""
    if trial.number in ended:
        return ended[trial.number]
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
        ended[trial.number] = row
    return row


def _value(trial: FrozenTrial, curve: list[tuple[int, float]]) -> float | None:
    """Return the first objective of a finished trial, else its last validation."""
    if trial.state == TrialState.COMPLETE:
        return first_value(trial)
    return curve[-1][1] if curve else None


def _workers(trials: list[FrozenTrial], state: Progress, leases: LeaseWatch) -> list[Row]:
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
                    "gone": leases.is_over(trial.number, lease),
                }
            )
    return workers
