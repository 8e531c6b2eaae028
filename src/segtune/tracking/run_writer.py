"""Write a run to the store: parameters, metrics, tags, artifacts and its final state."""

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from filelock import FileLock, Timeout
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from segtune.errors import ConfigError, DataError
from segtune.runtime.retry import is_passing, with_backoff
from segtune.runtime.strict_json import to_json
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.client import without_secrets
from segtune.tracking.inputs import log_inputs
from segtune.tracking.names import key_name
from segtune.tracking.outbox import Message, Outbox
from segtune.tracking.relocation import ARTIFACTS
from segtune.tracking.runs import State, active_run
from segtune.tracking.store import Store, refuse_deleted

OUTBOX = "outbox.jsonl"
WRITER_LOCK = ".writer.lock"
LOCKED_KINDS = ("run", "confirm")
"""Kinds of run whose folder is locked during training; trials of a sweep have a lease instead."""
_MLFLOW_STATUS = {
    "finished": "FINISHED",
    "pruned": "FINISHED",
    "infeasible": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_UNFINISHED_ARTIFACT = ".artifact.uploading.*"  # left by MLflow when its process is killed
_PARENT_TAG = "mlflow.parentRunId"
_VERB_OF_KIND = {"run": "train", "trial": "sweep", "workflow": "promote"}
_LONGEST_PARAM = 6000  # characters, MLflow's limit
_PARAMS_PER_BATCH = 100  # MLflow's limit


class RunWriter:
    """Writes one run to the store; messages that cannot be sent wait in the run's outbox."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.folder = store.root / "runs" / run_id
        self._outbox = Outbox(self.folder / OUTBOX, self._deliver)
        self._lock: FileLock | None = None
        # of a run that is written again: an epoch that is trained twice is recorded once
        self._recorded: set[tuple[str, int, float]] = set()

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> "RunWriter":
        """Create a run, with its parameters and tags; wait until the server can be reached.

        Args:
            parent: id of the run under which MLflow lists this one.
        """
        client = store.client
        run_tags = {"segtune.state": "running"}
        for key, value in tags.items():
            run_tags[key_name(key)] = without_secrets(value, store.uri)
        if parent:
            run_tags[_PARENT_TAG] = parent
        run_tags |= {"mlflow.source.name": _source(tags), "mlflow.source.type": "LOCAL"}
        try:
            run = with_backoff(
                lambda: client.create_run(store.experiment_id, run_name=name, tags=run_tags)
            )
        except MlflowException:
            refuse_deleted(store.client.get_experiment(store.experiment_id), store.uri)
            raise
        writer = cls(store, run.info.run_id)
        if tags.get("segtune.kind") in LOCKED_KINDS:
            writer._lock_folder()
        rows = [(key_name(k), str(v)[:_LONGEST_PARAM]) for k, v in params.items()]
        for start in range(0, len(rows), _PARAMS_PER_BATCH):
            writer._outbox.send({"params": dict(rows[start : start + _PARAMS_PER_BATCH])})
        return writer

    @classmethod
    def reopen(cls, store: Store, run_id: str) -> "RunWriter":
        """Mark an interrupted run as running again; wait until the server can be reached."""
        with_backoff(lambda: active_run(store, run_id))
        for path in (store.root / ARTIFACTS / run_id).rglob(_UNFINISHED_ARTIFACT):
            path.unlink(missing_ok=True)
        writer = cls(store, run_id)
        writer._lock_folder()
        writer._recorded = writer._waiting_points() | with_backoff(writer._stored_points)
        writer._outbox.send({"state": "running"})
        return writer

    def _lock_folder(self) -> None:
        """Lock the run's folder; the kernel releases the lock when this process ends or dies."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / WRITER_LOCK, timeout=0)
            self._lock.acquire()
        except (OSError, Timeout):  # only `segtune doctor` needs the lock
            self._lock = None

    def metrics(self, values: Mapping[str, float], step: int, as_keys: bool = False) -> None:
        """Log the metrics of one epoch in one call, without those that are recorded already.

        Args:
            as_keys: the names are keys already, read from another run's metrics.
        """
        named = {k if as_keys else key_name(k): float(v) for k, v in values.items()}
        rows = {k: v for k, v in named.items() if (k, step, v) not in self._recorded}
        if rows:
            self._outbox.send({"metrics": rows, "step": step, "time": int(time.time() * 1000)})

    def _stored_points(self) -> set[tuple[str, int, float]]:
        """Return the (key, step, value) that the store has."""
        client = self.store.client
        points: set[tuple[str, int, float]] = set()
        for key in client.get_run(self.run_id).data.metrics:
            if not key.startswith("system/"):
                history = client.get_metric_history(self.run_id, key)
                points |= {(key, metric.step, metric.value) for metric in history}
        return points

    def _waiting_points(self) -> set[tuple[str, int, float]]:
        """Return the (key, step, value) that wait in the outbox."""
        points: set[tuple[str, int, float]] = set()
        for message in self._outbox.waiting():
            rows = message.get("metrics")
            if isinstance(rows, Mapping) and isinstance(message.get("step"), int):
                points |= {(key, message["step"], value) for key, value in rows.items()}
        return points

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        tags = {key_name(k): self._without_secrets(str(v)) for k, v in values.items()}
        self._outbox.send({"tags": tags})

    def inputs(self, datasets: Sequence[Mapping[str, Any]]) -> None:
        """Log the datasets of the run; each has name, digest, source, context and profile."""
        self._outbox.send({"inputs": [dict(d) for d in datasets]})

    def data(self, name: str, value: Any) -> None:
        """Save plain data as an artifact: YAML if the name ends in `.yaml`, otherwise JSON."""
        if name.endswith(".yaml"):
            self.text(name, yaml.safe_dump(value, sort_keys=False))
        else:
            self.text(name, to_json(value, indent=2, default=str))

    def text(self, name: str, text: str) -> None:
        """Save a text artifact."""
        self._outbox.send({"text": self._without_secrets(text), "name": name})

    def _without_secrets(self, text: str) -> str:
        """Remove the password of the server's address from a text that others may read."""
        return without_secrets(text, self.store.uri)

    def image(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Save a PNG artifact of RGB pixels, (H, W, 3)."""
        _, png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._outbox.send({"png": base64.b64encode(png.tobytes()).decode(), "name": name})

    def folder_artifact(self, folder: Path, name: str) -> None:
        """Save a folder's files as artifacts."""
        inside = folder.relative_to(self.folder) if folder.is_relative_to(self.folder) else folder
        self._outbox.send({"folder": str(inside), "name": name})

    def finish(self, state: State) -> None:
        """End the run; the tag `segtune.state` holds the exact state, for example "pruned"."""
        self._outbox.send({"state": state, "time": int(time.time() * 1000)})
        if self._lock is not None:
            self._lock.release()

    def deliver_outbox(self) -> bool:
        """Send the messages that wait in the outbox; return whether none is left."""
        return self._outbox.flush()

    def _deliver(self, message: Message) -> None:
        try:
            self._send(message)
        except MlflowException as error:
            if not is_passing(error):
                active_run(self.store, self.run_id)  # raises the better message for a deleted run
            raise

    def _send(self, message: Message) -> None:
        client, run_id = self.store.client, self.run_id
        if "params" in message:
            client.log_batch(run_id, params=[Param(k, v) for k, v in message["params"].items()])
        elif "metrics" in message:
            now, step = message["time"], message["step"]
            metrics = [Metric(k, v, now, step) for k, v in message["metrics"].items()]
            client.log_batch(run_id, metrics=metrics)
        elif "inputs" in message:
            log_inputs(client, run_id, message["inputs"])
        elif "tags" in message:
            client.log_batch(run_id, tags=[RunTag(k, v) for k, v in message["tags"].items()])
        elif "state" in message:
            self._send_state(message["state"], message.get("time"))
        elif "folder" in message:
            self._send_folder(self.folder / message["folder"], message["name"])
        elif "text" in message:
            self._send_file(message["text"].encode(), message["name"])
        else:
            self._send_file(base64.b64decode(message["png"]), message["name"])

    def _send_state(self, state: State, end_time: int | None) -> None:
        client, run_id = self.store.client, self.run_id
        if state == "running":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, _MLFLOW_STATUS[state], end_time=end_time)
        # last: a sweep reads this tag, so it must not be set before the run has ended
        client.set_tag(run_id, "segtune.state", state)

    def _send_folder(self, folder: Path, name: str) -> None:
        if not folder.is_dir():  # no fault of the store, so other messages can be sent
            raise DataError(f"the folder '{folder}' is gone, so its files cannot be saved.")
        self.store.client.log_artifacts(self.run_id, str(folder), name)

    def _send_file(self, content: bytes, name: str) -> None:
        with temporary_folder() as folder:  # MLflow's own would stay after a kill
            path = folder / Path(name).name
            path.write_bytes(content)
            parent = str(Path(name).parent)
            self.store.client.log_artifact(self.run_id, str(path), "" if parent == "." else parent)


def deliver_outboxes(store: Store) -> int:
    """Send the waiting messages of all runs; return the number of runs that still have some."""
    paths = list((store.root / "runs").glob(f"*/{OUTBOX}"))
    for number, path in enumerate(paths):
        try:
            if not RunWriter(store, path.parent.name).deliver_outbox():
                return len(paths) - number  # the server is away for the others, too
        except ConfigError:  # the run was deleted: its messages wait until it is restored
            continue
    return 0


def _source(tags: Mapping[str, str]) -> str:
    """Return the verb that created a run, for MLflow's source column, e.g. "segtune train"."""
    sweep = tags.get("segtune.sweep") or tags.get("segtune.confirms", "")
    kind = tags.get("segtune.kind", "run")
    words = ("segtune", _VERB_OF_KIND.get(kind, kind), sweep)
    return " ".join(word for word in words if word)
