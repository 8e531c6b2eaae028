"""Runs: what one fine-tuning was, and what came out of it; written as it goes, read by reports."""

import base64
import json
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import mlflow.artifacts
import numpy as np
import yaml
from filelock import FileLock, Timeout
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from segtune.errors import ConfigError, StorageError
from segtune.runtime.retry import is_passing, with_backoff
from segtune.runtime.strict_json import to_json
from segtune.tracking.inputs import log_inputs
from segtune.tracking.names import key_name, legacy_key
from segtune.tracking.outbox import Message, Outbox
from segtune.tracking.store import Store, refuse_deleted

State = Literal["running", "finished", "pruned", "infeasible", "failed", "interrupted"]
_STATUS = {
    "finished": "FINISHED",
    "pruned": "FINISHED",
    "infeasible": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_PARENT = "mlflow.parentRunId"
OUTBOX = "outbox.jsonl"
WRITER_LOCK = ".writer.lock"
TRAININGS = ("run", "confirm")
"""Kinds of run whose folder is locked while it is trained; those of a sweep have a lease instead."""
_CANDIDATES = 8  # of an ambiguous id that a message names


class RunWriter:
    """Writes one run to the store; what cannot be sent because the server is away is sent later."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.folder = store.root / "runs" / run_id
        self._outbox = Outbox(self.folder / OUTBOX, self._deliver)
        self._lock: FileLock | None = None

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> "RunWriter":
        """Starts a run, once the server can be reached; parameters and tags go in one batch."""
        client = store.client
        own = {"segtune.state": "running"} | {key_name(k): v for k, v in tags.items()}
        own |= {_PARENT: parent} if parent else {}
        own |= {"mlflow.source.name": _source(tags), "mlflow.source.type": "LOCAL"}
        try:
            run = with_backoff(
                lambda: client.create_run(store.experiment_id, run_name=name, tags=own)
            )
        except MlflowException:
            refuse_deleted(store.client.get_experiment(store.experiment_id), store.uri)
            raise
        writer = cls(store, run.info.run_id)
        if tags.get("segtune.kind") in TRAININGS:
            writer._hold()
        rows = [(key_name(k), str(v)[:6000]) for k, v in params.items()]
        for start in range(0, len(rows), 100):
            writer._outbox.send({"params": dict(rows[start : start + 100])})
        return writer

    @classmethod
    def reopen(cls, store: Store, run_id: str) -> "RunWriter":
        """Goes on with a run that was interrupted."""
        with_backoff(lambda: _get(store, run_id))
        writer = cls(store, run_id)
        writer._hold()
        writer._outbox.send({"state": "running"})
        return writer

    def _hold(self) -> None:
        """Locks the run's folder; the kernel gives the lock back when this process ends, however it ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / WRITER_LOCK, timeout=0)
            self._lock.acquire()
        except (OSError, Timeout):  # nothing depends on it but `segtune doctor`
            self._lock = None

    def metrics(self, values: Mapping[str, float], step: int, as_keys: bool = False) -> None:
        """Logs the metrics of one epoch in one call; `as_keys` for names that are keys of another run's metrics."""
        rows = {k if as_keys else key_name(k): float(v) for k, v in values.items()}
        self._outbox.send({"metrics": rows, "step": step, "time": int(time.time() * 1000)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Sets tags."""
        self._outbox.send({"tags": {key_name(k): str(v) for k, v in values.items()}})

    def inputs(self, datasets: Sequence[Mapping[str, Any]]) -> None:
        """Logs datasets that the run reads: each with name, digest, source, context and profile."""
        self._outbox.send({"inputs": [dict(d) for d in datasets]})

    def data(self, name: str, value: Any) -> None:
        """Keeps plain data as a JSON or YAML artifact, by the name's suffix."""
        is_yaml = name.endswith(".yaml")
        text = (
            yaml.safe_dump(value, sort_keys=False)
            if is_yaml
            else to_json(value, indent=2, default=str)
        )
        self.text(name, text)

    def text(self, name: str, text: str) -> None:
        """Keeps a text artifact."""
        self._outbox.send({"text": text, "name": name})

    def image(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Keeps a picture, (H, W, 3) RGB."""
        _, png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._outbox.send({"png": base64.b64encode(png.tobytes()).decode(), "name": name})

    def folder_artifact(self, folder: Path, name: str) -> None:
        """Keeps a folder's files."""
        self._outbox.send({"folder": str(folder), "name": name})

    def finish(self, state: State) -> None:
        """Ends the run; a pruned one reads as pruned in `segtune.state`."""
        self._outbox.send({"state": state, "time": int(time.time() * 1000)})
        if self._lock is not None:
            self._lock.release()

    def _deliver(self, message: Message) -> None:
        try:
            self._send(message)
        except MlflowException as error:
            if not is_passing(error):
                _get(self.store, self.run_id)  # says so where the run was deleted
            raise

    def _send(self, message: Message) -> None:
        client, run_id = self.store.client, self.run_id
        if "params" in message:
            client.log_batch(run_id, params=[Param(k, v) for k, v in message["params"].items()])
        elif "metrics" in message:
            now, step = message["time"], message["step"]
            client.log_batch(
                run_id, metrics=[Metric(k, v, now, step) for k, v in message["metrics"].items()]
            )
        elif "inputs" in message:
            log_inputs(client, run_id, message["inputs"])
        elif "tags" in message:
            client.log_batch(run_id, tags=[RunTag(k, v) for k, v in message["tags"].items()])
        elif "state" in message:
            if message["state"] == "running":
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(
                    run_id, _STATUS[message["state"]], end_time=message.get("time")
                )
            client.set_tag(
                run_id, "segtune.state", message["state"]
            )  # last: whoever settles a sweep goes by it
        elif "folder" in message:
            client.log_artifacts(run_id, message["folder"], message["name"])
        elif "text" in message:
            client.log_text(run_id, message["text"], message["name"])
        else:
            png = base64.b64decode(message["png"])
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / Path(message["name"]).name
                path.write_bytes(png)
                client.log_artifact(run_id, str(path), str(Path(message["name"]).parent))


def _source(tags: Mapping[str, str]) -> str:
    """The verb that a run came from, for MLflow's source column."""
    sweep = tags.get("segtune.sweep") or tags.get("segtune.confirms", "")
    verb = {"run": "train", "trial": "sweep", "workflow": "promote"}.get(
        tags.get("segtune.kind", "run")
    )
    return " ".join(filter(None, ("segtune", verb or tags["segtune.kind"], sweep)))


def deliver_held(store: Store) -> int:
    """Sends what was held back of any run while the server was away; returns how many runs still wait."""
    left = 0
    for path in (store.root / "runs").glob(f"*/{OUTBOX}"):
        try:
            left += not RunWriter(store, path.parent.name)._outbox.flush()
        except ConfigError:  # the run was deleted: what is held back waits for a restore
            continue
    return left


@dataclass(frozen=True)
class RunRecord:
    """A run as a report reads it.

    Attributes:
        metrics: last value of each metric.
        params: as logged, all text.
        copy: folder of a registered version's own copy, where the run itself is gone.
        uri: the version whose copy that is.
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
        """MIoU on val of the segmenter that the run kept; None where it kept none."""
        return self.metrics.get("best/val/miou")


def get_run(store: Store, named: str) -> RunRecord:
    """One run, by its id or by the beginning of its id (4 characters and more), with or without `runs:/`.

    Raises:
        ConfigError: no such run, or several that begin so.
    """
    text = named.removeprefix("runs:/")
    if not is_id_prefix(text):
        return record_of(_get(store, text))
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    found = store.client.search_runs(
        experiments, f"attributes.run_id LIKE '{text}%'", max_results=_CANDIDATES + 1
    )
    if len(found) == 1:
        return record_of(found[0])
    if not found:
        return record_of(_get(store, text))
    rows = [f"{r.info.run_id} ({r.info.run_name})" for r in found[:_CANDIDATES]]
    more = ", …" if len(found) > _CANDIDATES else ""
    raise ConfigError(
        f"run '{text}': several ids begin so: {', '.join(rows)}{more}. Give more of the id."
    )


def is_id_prefix(text: str) -> bool:
    """Whether a text may be the beginning of a run's id.

    >>> is_id_prefix("3fa9"), is_id_prefix("3fa"), is_id_prefix("street"), is_id_prefix("0" * 32)
    (True, False, False, False)
    """
    return 4 <= len(text) < 32 and all(c in "0123456789abcdef" for c in text)


def delete_run(store: Store, run_id: str) -> None:
    """Takes a run out of every list; MLflow keeps it as deleted."""
    store.client.delete_run(run_id)


def sweep_runs(store: Store, sweep: str) -> list[RunRecord]:
    """All trials of a sweep, oldest first."""
    return search_runs(store, {"segtune.sweep": sweep, "segtune.kind": "trial"})


def sweep_parent(store: Store, sweep: str) -> str | None:
    """The run that stands for a sweep; None before the sweep was started."""
    found = search_runs(store, {"segtune.sweep": sweep, "segtune.kind": "sweep"})
    return found[0].id if found else None


def curve(store: Store, run_id: str, metric: str, as_key: bool = False) -> list[tuple[int, float]]:
    """A metric's history as (step, value), by step; a step that was redone counts once, with its last value.

    Args:
        as_key: `metric` is a key of the run's record, not a name.
    """
    key = metric if as_key else key_name(metric)
    try:
        rows = store.client.get_metric_history(run_id, key) or _legacy_rows(store, run_id, metric)
    except MlflowException:  # of a registered version whose run is gone
        if find_run(store, run_id) is not None:
            raise
        return []
    latest = {m.step: m.value for m in sorted(rows, key=lambda m: m.timestamp)}
    return sorted(latest.items())


def artifact(store: Store, run_id: str, name: str) -> Path | None:
    """A run's artifact as a local path; None where it has none of that name."""
    try:
        path = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=name, tracking_uri=store.uri
        )
    except (MlflowException, OSError):
        return None
    return Path(path)


def _legacy_rows(store: Store, run_id: str, metric: str) -> list[Metric]:
    """A metric as segtune 0.1.0 named it; nothing where two of the run's classes shared that name."""
    key = legacy_key(metric)
    if key == key_name(metric):
        return []
    head, found, _ = metric.partition("iou/")
    path = artifact(store, run_id, "classes.json")
    classes = json.loads(path.read_text(encoding="utf-8")) if path else []
    sharing = [c for c in classes if legacy_key(f"{head}{found}{c['name']}") == key]
    return list(store.client.get_metric_history(run_id, key)) if len(sharing) < 2 else []


def _get(store: Store, run_id: str) -> Run:
    run = find_run(store, run_id)
    if run is None:
        raise ConfigError(
            f"run '{run_id}' is not in the store '{store.uri}'. Check the id, or set tracking.root; a run that was "
            "deleted and then removed by `mlflow gc` is gone for good."
        )
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        restore = (
            f"MLFLOW_TRACKING_URI={shlex.quote(store.uri)} mlflow runs restore --run-id {run_id}"
        )
        raise ConfigError(
            f"run '{run_id}' ({run.info.run_name}) was deleted in MLflow. Restore it with: {restore}"
        )
    return run


def find_run(store: Store, run_id: str) -> Run | None:
    """A run as MLflow has it, deleted or not; None where it is not in the store.

    Raises:
        StorageError: the store cannot be reached.
    """
    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        if is_passing(error):
            raise StorageError(f"the store '{store.uri}' cannot be read ({error}).") from error
        return None


def quoted(text: str) -> str:
    r"""A text as MLflow's filters take it; they know no escapes.

    Raises:
        ConfigError: a text with quotes of both kinds.

    >>> quoted("quickstart"), quoted("it's")
    ("'quickstart'", '"it\'s"')
    """
    if "'" in text and '"' in text:
        raise ConfigError(f"{text}: a name may hold single or double quotes, not both.")
    return f'"{text}"' if "'" in text else f"'{text}'"


def search_runs(
    store: Store, tags: Mapping[str, str], experiments: Sequence[str] | None = None
) -> list[RunRecord]:
    """Runs that have these tags and were not deleted, oldest first.

    Args:
        experiments: ids of those to look in; by default the store's.

    Raises:
        ConfigError: a value that MLflow's filters cannot hold.
    """
    where = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
    found: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs(
            list(experiments or [store.experiment_id]),
            where,
            ViewType.ACTIVE_ONLY,
            1000,
            ["attributes.start_time ASC"],
            token,
        )
        found.extend(page)
        token = page.token
        if not token:
            return [record_of(r) for r in found]


def record_of(run: Run) -> RunRecord:
    """A run of MLflow's as reports read it."""
    ended = run.info.end_time or int(time.time() * 1000)
    state: Any = run.data.tags.get("segtune.state", run.info.status.lower())
    return RunRecord(
        id=run.info.run_id,
        name=run.info.run_name or run.info.run_id[:8],
        state=state,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        started=run.info.start_time / 1000,
        seconds=(ended - run.info.start_time) / 1000,
    )


def best_run(runs: Sequence[RunRecord]) -> RunRecord:
    """The finished run of highest mIoU.

    Raises:
        ConfigError: none has finished.
    """
    finished = [r for r in runs if r.state == "finished" and r.miou is not None]
    if not finished:
        raise ConfigError(
            f"none of the {len(runs)} runs has finished with a segmenter; nothing can be chosen."
        )
    return max(finished, key=lambda r: r.miou or 0.0)
