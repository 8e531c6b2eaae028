"""The store of runs and models: MLflow on SQLite under `mlruns/`, or an MLflow server."""

import logging
import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.version import VERSION

from segtune.config.commands import command
from segtune.config.schema import TrackingConfig
from segtune.data.source.files import cache_dir
from segtune.errors import ConfigError, StorageError, nearest
from segtune.runtime.addresses import with_password, without_password
from segtune.runtime.atomic import atomic_file
from segtune.runtime.log import to_stderr
from segtune.runtime.retry import reason_of
from segtune.runtime.temporary import temporary_folder
from segtune.tracking.client import StoreClient, without_secrets
from segtune.tracking.relocation import ARTIFACTS, follow, has_moved

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # segtune reports progress
# standard output is for results
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# an unreachable server must not stop a training for minutes: the outbox tries again
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)
# it prints a traceback for every lock; StoreClient raises the error
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes:
        root: folder of checkpoints and studies and, without a server, of MLflow's files.
        uri: MLflow's tracking and registry URI.
    """

    root: Path
    uri: str
    client: StoreClient
    experiment_id: str
    experiment: str

    @property
    def address(self) -> str:
        """The URI without a password, for messages and reports."""
        return without_password(self.uri)

    @property
    def is_server(self) -> bool:
        """Whether MLflow keeps the runs elsewhere than in the root's own SQLite file."""
        return self.uri != _sqlite_uri(self.root)

    @property
    def tracking(self) -> TrackingConfig:
        """The config that opens this store again, from any folder."""
        uri = self.uri if self.is_server else None
        return TrackingConfig(root=str(self.root), uri=uri, experiment=self.experiment)


_OPEN_STORES: dict[tuple[int, Path, str, str], Store] = {}
"""Stores that this process has opened: a second call costs nothing."""
_BOOKKEEPING_IDS: dict[tuple[Path, str, str], str] = {}


def open_store(config: TrackingConfig) -> Store:
    """Open the store and create it if it does not exist; several processes may do so at once.

    Raises:
        StorageError: the folder cannot be written, or the server cannot be reached.
    """
    root = Path(os.path.expanduser(config.root)).absolute()
    uri = with_password(config.uri) if config.uri else _sqlite_uri(root)
    key = (os.getpid(), root, uri, config.experiment)
    if key in _OPEN_STORES and _OPEN_STORES[key].client.is_current:
        return _OPEN_STORES[key]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # MLflow's first migration fails if two processes run it at once
        with _lock(root):
            if not config.uri:
                _prepare_database(root)
            client = StoreClient(uri, None if config.uri else root / "mlflow.db")
            location = None if config.uri else (root / ARTIFACTS).as_uri()
            experiment_id = _get_or_create_experiment(client, config.experiment, uri, location)
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the store's database '{root / 'mlflow.db'}' cannot be used: {error}. If it is "
            "damaged, restore it from a copy; or set tracking.root to another folder."
        ) from error
    except OSError as error:
        raise StorageError(
            f"the store '{root}' cannot be written: {error}. "
            "Set tracking.root to a folder that can be written."
        ) from error
    except StorageError:
        raise
    except Exception as error:  # MLflow passes on the errors of its database layer
        reason = f"{type(error).__name__}: {without_secrets(reason_of(error), uri)}"
        raise StorageError(
            f"the store '{without_password(uri)}' cannot be opened ({reason}). "
            "Check tracking.uri, and that tracking.root can be written."
        ) from error
    _OPEN_STORES[key] = Store(root, uri, client, experiment_id, config.experiment)
    return _OPEN_STORES[key]


def open_for_reading(config: TrackingConfig) -> Store:
    """Open a store that exists; takes no lock and writes nothing.

    Raises:
        ConfigError: there is no store, or no such experiment in it.
        StorageError: the store cannot be read, or was moved and not yet opened at its new place.
    """
    root = Path(os.path.expanduser(config.root)).absolute()
    uri, database = config.uri or _sqlite_uri(root), None if config.uri else root / "mlflow.db"
    if database is not None:
        if not database.is_file():
            raise ConfigError(
                f"there is no store in '{root}' yet. Train or sweep first, or name another folder: "
                "tracking.root=DIR."
            )
        _refuse_moved(root, config)
    client = StoreClient(uri, database)
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is None:
        names = [e.name for e in client.search_experiments()]
        raise ConfigError(
            f"tracking.experiment={config.experiment}: '{without_password(uri)}' has no such "
            f"experiment; {nearest(config.experiment, names)}"
        )
    refuse_deleted(experiment, uri)
    return Store(root, uri, client, str(experiment.experiment_id), config.experiment)


def _refuse_moved(root: Path, config: TrackingConfig) -> None:
    try:
        is_moved = has_moved(root)
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the store's database '{root / 'mlflow.db'}' cannot be read: {error}. If it is "
            "damaged, restore it from a copy; or set tracking.root to another folder."
        ) from error
    if is_moved:
        raise StorageError(
            f"the store '{root}' was moved or copied, and its database names the earlier place. "
            f"Run this once, which follows the move: {command('list', 'runs', tracking=config)}"
        )


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Lock the opening of a store; a store that exists can be read without the right to write."""
    lock = FileLock(root / ".store.lock", timeout=120)
    try:
        lock.acquire()
    except OSError:
        if not (root / "mlflow.db").is_file():
            raise
    try:
        yield
    finally:
        lock.release()


def bookkeeping_experiment(store: Store, create: bool = False) -> str | None:
    """Return the id of the experiment of dataset entries, which are no runs.

    Args:
        create: create the experiment if it does not exist; otherwise return None.
    """
    name = f"{store.experiment}-bookkeeping"
    key = (store.root, store.uri, name)
    if key not in _BOOKKEEPING_IDS:
        if not create and store.client.get_experiment_by_name(name) is None:
            return None
        location = None if store.is_server else (store.root / ARTIFACTS).as_uri()
        _BOOKKEEPING_IDS[key] = _get_or_create_experiment(store.client, name, store.uri, location)
    return _BOOKKEEPING_IDS[key]


def refuse_deleted(experiment: Experiment, uri: str) -> None:
    """Raise an error with the command that restores a deleted experiment.

    Raises:
        StorageError: the experiment was deleted in MLflow.
    """
    if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        return
    address = without_password(uri)
    restore = f"MLFLOW_TRACKING_URI={shlex.quote(address)} mlflow experiments restore"
    restore += " --experiment-id "
    raise StorageError(
        f"the experiment '{experiment.name}' of '{address}' was deleted in MLflow, together with "
        f"its runs. Restore all of them with: {restore}{experiment.experiment_id}. "
        "Or use another experiment: tracking.experiment=NAME."
    )


def _sqlite_uri(root: Path) -> str:
    """Return SQLAlchemy's URI of the root's database; `%` and `?` are special in a URI."""
    return "sqlite:///" + str(root / "mlflow.db").replace("%", "%25").replace("?", "%3F")


def _prepare_database(root: Path) -> None:
    """Create the root's database if it does not exist, and check that SQLite can open it.

    MLflow itself would try for minutes to open a file that SQLite refuses, for example because its
    path has more than 512 characters.

    Raises:
        OSError: the file cannot be written.
        sqlite3.DatabaseError: SQLite cannot open the file.
        StorageError: the file is missing, although there are runs.
    """
    path = root / "mlflow.db"
    is_lost = not path.exists() or path.stat().st_size == 0
    runs = list((root / ARTIFACTS).glob(f"*/{ARTIFACTS}")) if is_lost else []
    if runs:
        raise StorageError(
            f"the store '{root}' holds the files of {len(runs)} runs, but its database 'mlflow.db' "
            "is missing or empty. Put it back from a copy, or start a new store: tracking.root=DIR."
        )
    empty = None if path.exists() else _empty_database()
    if empty is not None:
        shutil.copyfile(empty, root / "new.db")
        (root / "new.db").replace(path)
    with closing(sqlite3.connect(path)) as database:
        try:
            database.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # a lock is temporary
                raise
            return
    try:
        for earlier in follow(root):
            to_stderr(f"the store '{root}' was in '{earlier}' before: its runs are read here now")
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):  # else what can be read is still read
            raise


def _empty_database() -> Path | None:
    """Return a database with MLflow's tables and no run, from the cache folder.

    MLflow's migrations take seconds; a copy of this file takes milliseconds. None if the cache
    folder cannot be written.
    """
    path = cache_dir() / f"mlflow-{VERSION}.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _create_empty_database(path)
    except OSError:
        return None
    return path


def _create_empty_database(path: Path) -> None:
    with temporary_folder() as folder:
        migrated, empty = folder / "migrated.db", folder / "empty.db"
        MlflowClient(tracking_uri=f"sqlite:///{migrated}").search_experiments(max_results=1)
        with closing(sqlite3.connect(migrated)) as database:
            # MLflow's default experiment holds the path of this temporary database
            database.execute("DELETE FROM experiments")
            database.commit()
            database.execute("VACUUM INTO ?", [str(empty)])
        with atomic_file(path) as unfinished:
            shutil.copyfile(empty, unfinished)


def _get_or_create_experiment(
    client: StoreClient, name: str, uri: str, location: str | None
) -> str:
    """Return the id of an experiment.

    Args:
        location: URI of the folder of its artifacts; None lets the server choose.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        refuse_deleted(experiment, uri)
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process created it first
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)
