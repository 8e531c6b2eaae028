"""The store of runs and registered segmenters: MLflow on sqlite under `mlruns/`, or an MLflow server."""

import json
import logging
import os
import shlex
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.version import VERSION

from segtune.config.schema import TrackingConfig
from segtune.data.source.files import cache_dir
from segtune.errors import StorageError

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # progress is ours to tell
os.environ.setdefault(
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"
)  # results are what goes there
# a server that is away must not hold up a training for minutes: the outbox tries again
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        root: folder of checkpoints, studies and, by default, of everything else.
        uri: MLflow's tracking and registry URI.
    """

    root: Path
    uri: str
    client: MlflowClient
    experiment_id: str
    experiment: str

    @property
    def tracking(self) -> TrackingConfig:
        """What opens it again, from any folder."""
        uri = None if self.uri == _sqlite(self.root) else self.uri
        return TrackingConfig(root=str(self.root), uri=uri, experiment=self.experiment)


def open_store(config: TrackingConfig) -> Store:
    """Opens the store, creating it on first use; several processes may do so at once.

    Raises:
        StorageError: the folder cannot be written, or the server cannot be reached.
    """
    root = Path(os.path.expanduser(config.root)).absolute()
    uri = config.uri or _sqlite(root)
    key = (os.getpid(), root, uri, config.experiment)
    if key in _OPEN and (config.uri or (root / "mlflow.db").is_file()):
        return _OPEN[key]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(
            root / ".store.lock", timeout=120
        ):  # MLflow's first migration fails when two run it at once
            empty = None if config.uri or (root / "mlflow.db").exists() else _empty_database()
            if empty is not None:
                shutil.copyfile(empty, root / "new.db")
                (root / "new.db").replace(root / "mlflow.db")
            if not config.uri:
                _check_database(root / "mlflow.db")
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment_id = _experiment(client, config.experiment, root, uri, bool(config.uri))
    except (OSError, sqlite3.DatabaseError) as error:
        raise StorageError(
            f"the store '{root}' cannot be written: {error}. Set tracking.root to a folder that can."
        ) from None
    except StorageError:
        raise
    except Exception as error:  # MLflow lets its database layer's errors through
        raise StorageError(
            f"the store '{uri}' cannot be opened ({type(error).__name__}: {str(error).splitlines()[0][:200]}). "
            "Check tracking.uri, or that tracking.root can be written."
        ) from error
    _OPEN[key] = Store(root, uri, client, experiment_id, config.experiment)
    return _OPEN[key]


def _check_database(path: Path) -> None:
    """That SQLite can open the file: MLflow tries for minutes where it cannot, as below a path of 512 characters.

    Raises:
        sqlite3.DatabaseError: it cannot.
    """
    with closing(sqlite3.connect(path)) as database:
        try:
            database.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # that passes
                raise


_OPEN: dict[tuple[int, Path, str, str], Store] = {}
"""Stores that this process has opened: a second call costs nothing."""


def _sqlite(root: Path) -> str:
    """SQLAlchemy's URI of the store's own database; `%` and `?` would have a meaning in it."""
    return "sqlite:///" + str(root / "mlflow.db").replace("%", "%25").replace("?", "%3F")


def _empty_database() -> Path | None:
    """MLflow's tables without a run, kept in the cache folder: its migrations take seconds, a copy takes none.

    None where the cache folder cannot be written.
    """
    path = cache_dir() / f"mlflow-{VERSION}.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _migrate(path)
    except OSError:
        return None
    return path


def _migrate(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        migrated, empty = Path(folder) / "migrated.db", Path(folder) / "empty.db"
        MlflowClient(tracking_uri=f"sqlite:///{migrated}").search_experiments(max_results=1)
        with closing(sqlite3.connect(migrated)) as database:
            database.execute(
                "DELETE FROM experiments"
            )  # the first one knows where this database lies
            database.commit()
            database.execute("VACUUM INTO ?", [str(empty)])
        empty.replace(path)


def _experiment(client: MlflowClient, name: str, root: Path, uri: str, is_server: bool) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        refuse_deleted(found, uri)
        return str(found.experiment_id)
    location = None if is_server else (root / "artifacts").as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def refuse_deleted(experiment: Experiment, uri: str) -> None:
    """Says how to restore an experiment.

    Raises:
        StorageError: it was deleted in MLflow.
    """
    if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        return
    restore = f"MLFLOW_TRACKING_URI={shlex.quote(uri)} mlflow experiments restore --experiment-id "
    raise StorageError(
        f"the experiment '{experiment.name}' of '{uri}' was deleted in MLflow, and its runs with it. Restore both "
        f"with: {restore}{experiment.experiment_id}. Or record in another: tracking.experiment=NAME."
    )


_KEY = "segtune"  # of the view that the link opens
_COLUMNS = {
    "metrics.`best/val/miou`": 105,
    "metrics.`test/miou`": 105,
    "params.`template`": 100,
    "attributes.`Dataset`": 150,
    "attributes.`Source`": 100,
    "metrics.`cost/latency_ms`": 105,
    "metrics.`cost/params_m`": 105,
}
"""Columns of the view in their order, each with its width in pixels: what matters most fits into 1440."""


def run_table(store: Store, port: int = 5000) -> tuple[str, str]:
    """How to see the runs in MLflow: the command that serves them (empty for a server), and the address.

    The address opens the table of runs, the best first, with the columns that matter. A page of MLflow's own choosing
    would be one for traces of language models. Both are empty where the store cannot be reached.
    """
    try:
        _share_view(store)
    except (MlflowException, OSError):  # no reason to lose the result that these lines stand below
        return "", ""
    page = f"#/experiments/{store.experiment_id}/runs?viewStateShareKey={_KEY}&workflowType=machine_learning"
    if store.uri.startswith(("http://", "https://")):
        return "", f"{store.uri.rstrip('/')}/{page}"
    mlflow = ["mlflow"] if shutil.which("mlflow") else [sys.executable, "-m", "mlflow"]
    serve = shlex.join([*mlflow, "ui", "--backend-store-uri", store.uri, "--port", str(port)])
    return serve, f"http://127.0.0.1:{port}/{page}"


def _share_view(store: Store) -> None:
    """Keeps the table's columns and order with the experiment, where MLflow's page looks for a shared view."""
    tag = f"mlflow.sharedViewState.{_KEY}"
    tags = store.client.get_experiment(store.experiment_id).tags
    columns = list(_COLUMNS)
    # sorted by a metric, the table is flat; by time, MLflow folds the trials under their sweep
    view = json.dumps({
        "selectedColumns": columns, "columnOrder": columns, "columnWidths": _COLUMNS,
        "orderByKey": columns[0], "orderByAsc": False,
    })  # fmt: skip
    if tags.get(tag) != view:
        store.client.set_experiment_tag(store.experiment_id, tag, view)
    if "mlflow.experimentKind" not in tags:
        store.client.set_experiment_tag(
            store.experiment_id, "mlflow.experimentKind", "custom_model_development"
        )


def bookkeeping(store: Store, create: bool = False) -> str | None:
    """Id of the experiment that keeps what is no run: the datasets' entries, with every read of a split.

    Args:
        create: make it where it does not exist; else None stands for that.
    """
    name = f"{store.experiment}-bookkeeping"
    key = (store.root, store.uri, name)
    if key not in _BOOKKEEPING:
        found = store.client.get_experiment_by_name(name)
        if found is None and not create:
            return None
        is_server = store.uri != _sqlite(store.root)
        _BOOKKEEPING[key] = _experiment(store.client, name, store.root, store.uri, is_server)
    return _BOOKKEEPING[key]


_BOOKKEEPING: dict[tuple[Path, str, str], str] = {}
