"""Read runs from the store: their records, metric curves and artifacts."""

import json
import math
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import LifecycleStage, Metric, Run, ViewType
from mlflow.exceptions import MlflowException

from segtune.config.renamed import current_key
from segtune.errors import ConfigError
from segtune.runtime.filenames import STUDY_FILE
from segtune.tracking.client import is_absent
from segtune.tracking.files import fetch
from segtune.tracking.names import key_name, legacy_key
from segtune.tracking.store import Store

STUDY_TAG = "segtune.study"  # id of the study whose sweep a run belongs to
OBJECTIVE_TAG = "segtune.objective"  # direction and metric, as `minimize best/val/ece`
State = Literal["running", "finished", "pruned", "infeasible", "failed", "interrupted"]
_MOST_CANDIDATES = 8  # runs that the message about an ambiguous id names
_PAGE_SIZE = 1000  # runs per request


@dataclass(frozen=True)
class RunRecord:
    """A run as reports read it.

    Attributes:
        params: all values are text, as logged.
        metrics: the last value of each metric.
        started: seconds since the epoch.
        copy: folder of a registered version's own copy, if the run itself was deleted.
        uri: the version that the copy belongs to.
    """

    id: str
    name: str
    state: State
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    started: float
    seconds: float
    copy: Path | None = None
    uri: str = ""

    @property
    def miou(self) -> float | None:
        """Val mIoU of the run's segmenter; None for a run without a segmenter."""
        return self.metrics.get("best/val/miou")


def get_run(store: Store, run_id: str) -> RunRecord:
    """Return one run.

    Args:
        run_id: the id or its first characters (at least 4), with or without `runs:/`.

    Raises:
        ConfigError: there is no such run, or several ids begin like this.
    """
    text = run_id.removeprefix("runs:/")
    if not is_id_prefix(text):
        return record_of(active_run(store, text))
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    matches = store.client.search_runs(
        experiments, f"attributes.run_id LIKE '{text}%'", max_results=_MOST_CANDIDATES + 1
    )
    if len(matches) == 1:
        return record_of(matches[0])
    if not matches:
        return record_of(active_run(store, text))
    rows = [f"{r.info.run_id} ({r.info.run_name})" for r in matches[:_MOST_CANDIDATES]]
    more = ", …" if len(matches) > _MOST_CANDIDATES else ""
    raise ConfigError(
        f"run '{text}': several ids begin like this: {', '.join(rows)}{more}. "
        "Give more characters of the id."
    )


def is_id_prefix(text: str) -> bool:
    """Whether a text can be the beginning of a run's id.

    >>> is_id_prefix("3fa9"), is_id_prefix("3fa"), is_id_prefix("street"), is_id_prefix("0" * 32)
    (True, False, False, False)
    """
    return 4 <= len(text) < 32 and all(c in "0123456789abcdef" for c in text)


def delete_run(store: Store, run_id: str) -> None:
    """Delete a run; MLflow can restore it."""
    store.client.delete_run(run_id)


def sweep_runs(store: Store, sweep: str, study: str | None = None) -> list[RunRecord]:
    """Return all trials of a sweep, oldest first.

    Args:
        study: id of the sweep's study; by default that of the study under the store's root.

    Raises:
        ConfigError: the store holds several sweeps of that name, and none is under its root.
    """
    runs = search_runs(store, {"segtune.sweep": sweep, "segtune.kind": "trial"})
    return _of_study(store, sweep, runs, study)


def sweep_parent(store: Store, sweep: str, study: str | None = None) -> str | None:
    """Return the id of the run that represents a sweep; None before the sweep starts.

    Args and errors are those of `sweep_runs`.
    """
    parents = search_runs(store, {"segtune.sweep": sweep, "segtune.kind": "sweep"})
    parents = _of_study(store, sweep, parents, study)
    return parents[0].id if parents else None


def confirm_runs(store: Store, sweep: str, study: str | None = None) -> list[RunRecord]:
    """Return the runs that confirm a sweep's configurations; args and errors as `sweep_runs`."""
    return _of_study(store, sweep, search_runs(store, {"segtune.confirms": sweep}), study)


def _of_study(
    store: Store, sweep: str, runs: list[RunRecord], study: str | None
) -> list[RunRecord]:
    """Leave out the runs of other studies of the same name; several users may share a server."""
    study = study or study_of(store.root, sweep)
    studies = {run.tags.get(STUDY_TAG) for run in runs}
    if study is None and len(studies) > 1:
        raise ConfigError(
            f"sweep '{sweep}': '{store.address}' holds {len(studies)} sweeps of that name, and "
            f"none of them was started in '{store.root}'. Set tracking.root to the folder of the "
            "one that you mean, or name runs by their ids."
        )
    if study is None:
        return runs
    # segtune 0.1.0 set no tag; without a server, the store belongs to one root
    wanted = {study} if store.is_server else {study, None}
    return [run for run in runs if run.tags.get(STUDY_TAG) in wanted]


def study_of(root: Path, sweep: str) -> str | None:
    """Return the id of the study of a sweep under a store's root; None if there is none."""
    if not re.fullmatch(r"\w[\w.-]*", sweep):  # no sweep's name, so no path either
        return None
    try:
        return (root / "sweeps" / sweep / STUDY_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def best_run(runs: Sequence[RunRecord]) -> RunRecord:
    """Return the finished run with the best objective of its sweep: by default the highest mIoU.

    Raises:
        ConfigError: no run has finished.
    """
    finished = [r for r in runs if r.state == "finished" and r.miou is not None]
    if not finished:
        raise ConfigError(
            f"none of the {len(runs)} runs has finished with a segmenter, so there is no best run."
        )
    return max(finished, key=_objective)


def _objective(run: RunRecord) -> float:
    """Return the objective of a run, more is better; -inf if the run lacks it."""
    direction, _, metric = run.tags.get(OBJECTIVE_TAG, "maximize best/val/miou").partition(" ")
    value = run.metrics.get(metric)
    if value is None:
        return -math.inf
    return -value if direction == "minimize" else value


def search_runs(
    store: Store, tags: Mapping[str, str], experiments: Sequence[str] | None = None
) -> list[RunRecord]:
    """Return the runs that have these tags, oldest first, without deleted runs.

    Args:
        experiments: ids of the experiments to search; by default the store's experiment.

    Raises:
        ConfigError: MLflow's filters cannot express a value.
    """
    condition = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
    runs: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs(
            list(experiments or [store.experiment_id]),
            condition,
            ViewType.ACTIVE_ONLY,
            _PAGE_SIZE,
            ["attributes.start_time ASC"],
            token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return [record_of(r) for r in runs]


def quoted(text: str) -> str:
    r"""Quote a text for MLflow's filters, which have no escape character.

    Raises:
        ConfigError: the text has quotes of both kinds.

    >>> quoted("quickstart"), quoted("it's")
    ("'quickstart'", '"it\'s"')
    """
    if "'" in text and '"' in text:
        raise ConfigError(f"{text}: a name may have single or double quotes, not both.")
    return f'"{text}"' if "'" in text else f"'{text}'"


def curve(store: Store, run_id: str, metric: str, as_key: bool = False) -> list[tuple[int, float]]:
    """Return a metric's history as (step, value), by step; a repeated step has its last value.

    Args:
        as_key: `metric` is a key from the run's record, not a name.
    """
    key = metric if as_key else key_name(metric)
    try:
        rows = store.client.get_metric_history(run_id, key) or _legacy_rows(store, run_id, metric)
    except MlflowException as error:
        if not is_absent(error) or find_run(store, run_id) is not None:
            raise
        return []  # a registered version whose run was removed
    latest = {m.step: m.value for m in sorted(rows, key=lambda m: m.timestamp)}
    return sorted(latest.items())


def artifact(store: Store, run_id: str, name: str) -> Path | None:
    """Return the local path of a run's artifact; None only if the run has no such artifact.

    Raises:
        StorageError: the store cannot be read.
    """
    run = find_run(store, run_id)
    return None if run is None else fetch(store, run.info.artifact_uri, name)


def find_run(store: Store, run_id: str) -> Run | None:
    """Return MLflow's run, deleted or not; None if it is not in the store.

    Raises:
        StorageError: the store cannot be reached.
    """
    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def active_run(store: Store, run_id: str) -> Run:
    """Return MLflow's run.

    Raises:
        ConfigError: the run was deleted, or is not in the store.
        StorageError: the store cannot be reached.
    """
    run = find_run(store, run_id)
    if run is None:
        raise ConfigError(
            f"run '{run_id}' is not in the store '{store.address}'. Check the id, or set "
            "tracking.root. `mlflow gc` removes deleted runs for good."
        )
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        uri = shlex.quote(store.address)
        restore = f"MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {run_id}"
        raise ConfigError(
            f"run '{run_id}' ({run.info.run_name}) was deleted in MLflow. "
            f"Restore it with: {restore}"
        )
    return run


def record_of(run: Run) -> RunRecord:
    """Convert MLflow's run to a record."""
    ended = run.info.end_time or int(time.time() * 1000)
    state: Any = run.data.tags.get("segtune.state", run.info.status.lower())
    return RunRecord(
        id=run.info.run_id,
        name=run.info.run_name or run.info.run_id[:8],
        state=state,
        params={current_key(k): v for k, v in run.data.params.items()},
        metrics=run.data.metrics,
        tags=run.data.tags,
        started=run.info.start_time / 1000,
        seconds=(ended - run.info.start_time) / 1000,
    )


def _legacy_rows(store: Store, run_id: str, metric: str) -> list[Metric]:
    """Return a metric under its key of segtune 0.1.0; empty if two classes shared that key."""
    key = legacy_key(metric)
    if key == key_name(metric):
        return []
    head, iou, _ = metric.partition("iou/")
    path = artifact(store, run_id, "classes.json")
    classes = json.loads(path.read_text(encoding="utf-8")) if path else []
    sharing = [c for c in classes if legacy_key(f"{head}{iou}{c['name']}") == key]
    return list(store.client.get_metric_history(run_id, key)) if len(sharing) < 2 else []
