"""What a study has recorded, for reports, the command line and whoever only reads."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.location import remembered
from segtune.sweeping.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("optuna").setLevel(logging.WARNING)

RUN, OVERRIDES, ERROR, DIVERGED, LEASE, RETRIED = (
    "run",
    "overrides",
    "error",
    "diverged",
    "lease",
    "retried",
)
RETRY_OF, SECONDS, PULSE = "retry_of", "seconds", "pulse"
"""User attributes of a trial; RETRIED, of those whose place another attempt has taken, also of the study."""

WORDS = "words"
FOLDER = "folder"
"""User attributes of a study: its command line after the verb, and the working folder in which it was given."""


@dataclass(frozen=True)
class Counts:
    """Trials by what became of them; retried attempts are not counted."""

    finished: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def done(self) -> int:
        """Trials that nobody will work on again."""
        return self.finished + self.pruned + self.failed

    @property
    def claimed(self) -> int:
        """Trials that are done, running or waiting."""
        return self.done + self.running + self.waiting

    def to_json(self) -> dict[str, int]:
        """Plain data."""
        return {n: getattr(self, n) for n in ("finished", "pruned", "failed", "running", "waiting")}


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Every trial but those that another attempt has replaced."""
    by_hand = set(study.user_attrs.get(RETRIED, []))
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if not t.user_attrs.get(RETRIED) and t.number not in by_hand]


def last_line(trial: FrozenTrial) -> str:
    """Why a trial failed, in one line."""
    return (str(trial.user_attrs.get(ERROR, "")).strip().splitlines() or ["no reason recorded"])[-1]


def seconds_of(trial: FrozenTrial) -> float | None:
    """What a trial's last attempt took, by its worker's own clock; None where it has not ended."""
    if SECONDS in trial.user_attrs:
        return float(trial.user_attrs[SECONDS])
    return None if trial.duration is None else max(0.0, trial.duration.total_seconds())


def count(study: optuna.Study) -> Counts:
    """The counted trials by state."""
    states = {s: 0 for s in TrialState}
    for trial in counted_trials(study):
        states[trial.state] += 1
    return Counts(
        finished=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        running=states[TrialState.RUNNING],
        waiting=states[TrialState.WAITING],
    )


def run_states(study: optuna.Study) -> dict[str, str]:
    """Run id -> the state that its trial has, of every trial that has begun a run."""
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    found = {}
    for trial in study.get_trials(deepcopy=False):
        if RUN in trial.user_attrs:
            waiting = trial.state == TrialState.WAITING or trial.user_attrs.get(RETRIED)
            state = (
                "interrupted"
                if waiting
                else names.get(trial.state, trial.user_attrs.get("ended", "pruned"))
            )
            found[trial.user_attrs[RUN]] = state  # a later attempt speaks for the run
    return found


def front(study: optuna.Study) -> list[dict[str, Any]]:
    """The Pareto front of the finished trials in mIoU, latency and parameters, best mIoU first."""
    rows = [
        {
            "trial": t.number,
            "run": t.user_attrs.get(RUN),
            "miou": t.value,
            **t.user_attrs.get("cost", {}),
        }
        for t in counted_trials(study)
        if t.state == TrialState.COMPLETE
    ]

    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        signs = [(-1, "miou"), (1, "latency_ms"), (1, "params_m")]
        pairs = [(s * a[k], s * b[k]) for s, k in signs if k in a and k in b]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    best = [r for r in rows if not any(beats(other, r) for other in rows)]
    return sorted(best, key=lambda r: -r["miou"])


def load_study(folder: Path, name: str, storage: str | None = None) -> optuna.Study | None:
    """A sweep's study for reading; None where it was never started.

    Args:
        storage: address of its database; by default the one that the folder remembers, else the folder's own file.

    Raises:
        ConfigError: the address is another user's.
        StorageError: what cannot be read or reached.
    """
    storage = storage or remembered(folder)
    if storage is None and not (folder / "journal.log").is_file():
        return None
    try:
        return optuna.load_study(
            study_name=name, storage=open_storage(folder, storage, name).optuna
        )
    except KeyError:
        return None


def plain_params(trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
    """A trial's parameters under the names that the sweep file gives them."""
    return {plain_param(k): v for k, v in trial.params.items()}


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Every counted trial as plain data: number, state, value, parameters and run."""
    rows = []
    for trial in counted_trials(study):
        value = (
            trial.value
            if trial.state == TrialState.COMPLETE and trial.value is not None
            else math.nan
        )
        rows.append(
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "miou": value,
                "params": plain_params(trial),
                "run": trial.user_attrs.get(RUN),
            }
        )
    return rows
