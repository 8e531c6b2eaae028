"""The records of a sweep's study, which reports and commands read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from segtune.sweeping.damage import check_records
from segtune.sweeping.dimensions import plain_param
from segtune.sweeping.engine.records import RETRIED, RUN, counted_trials
from segtune.sweeping.engine.storage import open_storage
from segtune.sweeping.location import address
from segtune.sweeping.objectives import DEFAULT, Objective, first_value, of_study

MIOU = "miou"  # user attribute of a finished trial, whichever objective its sweep has


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
    """Return the Pareto front of the finished trials: in the objectives of the sweep.

    For a sweep by mIoU alone, it is the front in mIoU, latency and number of parameters. The trial
    that is best in the first objective comes first.
    """
    finished = [t for t in counted_trials(study) if t.state == TrialState.COMPLETE]
    objectives = of_study(study)
    signs = {"miou": -1, "latency_ms": 1, "params_m": 1}  # 1: less is better
    if [o.name for o in objectives] != [DEFAULT]:
        signs = {_column(o): 1 if o.direction == "minimize" else -1 for o in objectives}
    rows = []
    for trial in finished:
        row = {"trial": trial.number, "run": trial.user_attrs.get(RUN), "miou": miou_of(trial)}
        values = dict(zip(map(_column, objectives), trial.values or (), strict=False))
        rows.append(row | values | trial.user_attrs.get("cost", {}))
    best = [row for row in rows if not _is_dominated(row, rows, signs)]
    first = next(iter(signs))
    return sorted(best, key=lambda row: signs[first] * row[first])


@dataclass(frozen=True)
class ObjectivePoints:
    """The finished trials of a study with several objectives.

    Attributes:
        values: number of a trial -> a value for each objective.
        front: numbers of the trials that no other beats in every objective, the best in the first
            objective first.
    """

    objectives: tuple[Objective, ...]
    values: Mapping[int, Sequence[float]]
    front: tuple[int, ...]


def objective_points(study: optuna.Study) -> ObjectivePoints | None:
    """Return the points of a study; None with one objective, or fewer than two finished trials."""
    objectives = of_study(study)
    finished = [t for t in counted_trials(study) if t.state == TrialState.COMPLETE and t.values]
    if len(objectives) < 2 or len(finished) < 2:
        return None
    values = {trial.number: trial.values for trial in finished}
    return ObjectivePoints(objectives, values, tuple(int(row["trial"]) for row in front(study)))


def _column(objective: Objective) -> str:
    return "miou" if objective.name == DEFAULT else objective.name


def miou_of(trial: FrozenTrial) -> float | None:
    """Return the mIoU of a finished trial."""
    recorded = trial.user_attrs.get(MIOU)
    return first_value(trial) if recorded is None else float(recorded)


def _is_dominated(
    row: dict[str, Any], rows: list[dict[str, Any]], signs: Mapping[str, int]
) -> bool:
    return any(_dominates(other, row, signs) for other in rows)


def _dominates(one: dict[str, Any], other: dict[str, Any], signs: Mapping[str, int]) -> bool:
    """Return whether `one` is at least as good in every objective, and better in one."""
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
    storage = storage or address(folder)
    if storage is None and not (folder / "journal.log").is_file():
        return None
    opened = open_storage(folder, storage, name)
    try:
        study = optuna.load_study(study_name=name, storage=opened.optuna)
    except KeyError:
        return None
    if storage is None:
        check_records(study, str(folder / "journal.log"))
    return study


def plain_params(trial: FrozenTrial | optuna.Trial) -> dict[str, Any]:
    """Return a trial's parameters under their names in the sweep file."""
    return {plain_param(name): value for name, value in trial.params.items()}


def log_params(study: optuna.Study) -> set[str]:
    """Return the parameters that the study searches on a logarithmic scale."""
    names = set()
    for trial in counted_trials(study):
        for name, distribution in trial.distributions.items():
            if getattr(distribution, "log", False):
                names.add(plain_param(name))
    return names


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Return each counted trial as plain data: number, state, mIoU, parameters, run, cost."""
    rows = []
    for trial in counted_trials(study):
        finished = trial.state == TrialState.COMPLETE and bool(trial.values)
        row = {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "miou": miou_of(trial) if finished else math.nan,
            "params": plain_params(trial),
            "run": trial.user_attrs.get(RUN),
            "cost": trial.user_attrs.get("cost", {}),
        }
        rows.append(row)
    return rows
