"""The records of a study: names of its attributes, and what reports and commands read from it."""

import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.location import remembered
from segtune.sweeping.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("optuna").setLevel(logging.WARNING)

# user attributes of a trial
RUN = "run"
OVERRIDES = "overrides"
ERROR = "error"
DIVERGED = "diverged"
LEASE = "lease"
RETRIED = "retried"  # another attempt replaced the trial; a study lists such trials
RETRY_OF = "retry_of"  # number of the attempt before
SECONDS = "seconds"
PULSE = "pulse"

# user attributes of a study
SPEC = "spec"
WORDS = "words"  # arguments of `segtune sweep`
FOLDER = "folder"  # the working folder in which the sweep was started


@dataclass(frozen=True)
class Counts:
    """Number of trials in each state, without attempts that another one replaced."""

    finished: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def done(self) -> int:
        """Number of trials that have ended."""
        return self.finished + self.pruned + self.failed

    @property
    def claimed(self) -> int:
        """Number of trials that have ended, run or wait."""
        return self.done + self.running + self.waiting

    def to_json(self) -> dict[str, int]:
        """Return plain data."""
        return asdict(self)


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials except those that another attempt replaced."""
    retried_by_hand = set(study.user_attrs.get(RETRIED, []))
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if not t.user_attrs.get(RETRIED) and t.number not in retried_by_hand]


def count(study: optuna.Study) -> Counts:
    """Count the trials in each state."""
    numbers = dict.fromkeys(TrialState, 0)
    for trial in counted_trials(study):
        numbers[trial.state] += 1
    return Counts(
        finished=numbers[TrialState.COMPLETE],
        pruned=numbers[TrialState.PRUNED],
        failed=numbers[TrialState.FAIL],
        running=numbers[TrialState.RUNNING],
        waiting=numbers[TrialState.WAITING],
    )


def last_line(trial: FrozenTrial) -> str:
    """Return the last line of a failed trial's error."""
    lines = str(trial.user_attrs.get(ERROR, "")).strip().splitlines()
    return lines[-1] if lines else "no reason recorded"


def seconds_of(trial: FrozenTrial) -> float | None:
    """Return the duration of a trial's last attempt; None while it runs.

    The worker's monotonic clock measures it. Trials of version 0.1.0 have wall-clock times only.
    """
    if SECONDS in trial.user_attrs:
        return float(trial.user_attrs[SECONDS])
    return None if trial.duration is None else max(0.0, trial.duration.total_seconds())


def run_states(study: optuna.Study) -> dict[str, str]:
    """Map the id of each run that a trial began to the state that the run must have."""
    states = {}
    for trial in study.get_trials(deepcopy=False):
        if RUN in trial.user_attrs:
            states[trial.user_attrs[RUN]] = _run_state(trial)  # the last attempt decides
    return states


def _run_state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.WAITING or trial.user_attrs.get(RETRIED):
        return "interrupted"
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    return names.get(trial.state) or str(trial.user_attrs.get("ended", "pruned"))


def front(study: optuna.Study) -> list[dict[str, Any]]:
    """Return the Pareto front of the finished trials in mIoU, latency and number of parameters.

    The trial with the best mIoU comes first.
    """
    finished = [t for t in counted_trials(study) if t.state == TrialState.COMPLETE]
    rows = [
        {"trial": t.number, "run": t.user_attrs.get(RUN), "miou": t.value}
        | t.user_attrs.get("cost", {})
        for t in finished
    ]
    best = [row for row in rows if not any(_dominates(other, row) for other in rows)]
    return sorted(best, key=lambda row: -row["miou"])


def _dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether `one` is at least as good in every objective, and better in one."""
    signs = {"miou": -1, "latency_ms": 1, "params_m": 1}  # 1: less is better
    shared = [name for name in signs if name in one and name in other]
    differences = [signs[name] * (one[name] - other[name]) for name in shared]
    return all(d <= 0 for d in differences) and any(d < 0 for d in differences)


def load_study(folder: Path, name: str, storage: str | None = None) -> optuna.Study | None:
    """Open a sweep's study for reading; None if the sweep was never started.

    Args:
        storage: URL of the study's database. By default the URL that the folder remembers, else
            the journal file in the folder.

    Raises:
        ConfigError: only another user may read the URL.
        StorageError: the storage cannot be read or reached.
    """
    storage = storage or remembered(folder)
    if storage is None and not (folder / "journal.log").is_file():
        return None
    opened = open_storage(folder, storage, name)
    try:
        return optuna.load_study(study_name=name, storage=opened.optuna)
    except KeyError:
        return None


def plain_params(trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
    """Return a trial's parameters under their names in the sweep file."""
    return {plain_param(name): value for name, value in trial.params.items()}


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Return each counted trial as plain data: number, state, mIoU, parameters and run."""
    rows = []
    for trial in counted_trials(study):
        finished = trial.state == TrialState.COMPLETE and trial.value is not None
        row = {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "miou": trial.value if finished else math.nan,
            "params": plain_params(trial),
            "run": trial.user_attrs.get(RUN),
        }
        rows.append(row)
    return rows
