"""The storage of a study: a journal file on this machine, or a shared PostgreSQL database."""

import hashlib
import json
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from segtune.errors import ConfigError, StorageError
from segtune.runtime.addresses import without_password
from segtune.runtime.lines import append_whole
from segtune.runtime.retry import with_backoff
from segtune.sweeping.engine.locks import ProcessLock


@dataclass(frozen=True)
class StudyStorage:
    """An open storage.

    Attributes:
        exclusive: returns a lock over all processes that use the study. The lock of a process
            that dies is released.
        now: returns the seconds of the clock by which the time of a budget is counted.
    """

    optuna: BaseStorage
    exclusive: Callable[[], AbstractContextManager[Any]]
    now: Callable[[], float]


def open_storage(folder: Path, url: str | None, name: str) -> StudyStorage:
    """Open or create the storage of a sweep.

    Args:
        folder: holds the journal file and its locks.
        url: `postgresql://USER@HOST/DATABASE`; None for the journal file.
        name: of the study.

    Raises:
        ConfigError: the URL is of another kind, or its driver is not installed.
        StorageError: the storage cannot be read, written or reached.
    """
    return _database(url, name) if url else _journal(folder)


def shared(url: str) -> str:
    """Return the URL of a storage that many machines can share.

    Raises:
        ValueError: the URL is of another kind.
    """
    scheme, separator, address = url.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(
            "only postgresql://USER@HOST/DATABASE is shared by many machines; leave it out for a "
            "journal file"
        )
    return f"postgresql://{address}"


def _journal(folder: Path) -> StudyStorage:
    path = folder / "journal.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(_JournalFile(path))
    except OSError as error:
        raise StorageError(
            f"the study in '{folder}' cannot be written: {error}. Choose another folder."
        ) from None
    except (ValueError, KeyError) as error:
        raise StorageError(f"the study '{path}' cannot be read: {error}.") from None
    return StudyStorage(_patient(storage), lambda: ProcessLock(folder / "claim.lock"), time.time)


class _JournalFile(JournalFileBackend):
    """Optuna's journal with atomic appends: an incomplete line would make the file unreadable."""

    def __init__(self, path: Path) -> None:
        # Optuna's own lock stays for another 30 seconds when its holder is killed
        self.path, self.lock = path, ProcessLock(path.with_suffix(".lock"))
        lock: Any = self.lock
        super().__init__(str(path), lock_obj=lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines; a failed write, as on a full disk, leaves the file as it was."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        text = "".join(lines).encode()
        self.lock.acquire()
        try:
            append_whole(self.path, text)
        finally:
            self.lock.release()


class _Patient:
    """A storage that repeats a call while the disk is full, a lock is held or a server is away."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._storage, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **options: with_backoff(lambda: attribute(*args, **options))


def _patient(storage: BaseStorage) -> BaseStorage:
    return cast(BaseStorage, _Patient(storage))


def _database(url: str, name: str) -> StudyStorage:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = shared(url)
    except ValueError as error:
        raise ConfigError(f"storage='{without_password(url)}': {error}.") from None
    host = urlsplit(url).hostname or "the local socket"
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    lock_key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    options = {"pool_pre_ping": True}
    try:
        engine = sqlalchemy.create_engine(address, **options)
        # under a lock: two processes that create the tables at the same time would both fail
        with _advisory_lock(engine, lock_key):
            storage = RDBStorage(address, engine_kwargs=options, skip_compatibility_check=False)
    except ModuleNotFoundError:
        raise ConfigError(
            "a storage in PostgreSQL needs its driver: pip install 'segtune[postgres]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error).splitlines()[0][:200]
        raise StorageError(
            f"the study's database at {host} cannot be reached: {reason}. "
            "Check its address, and that the server runs."
        ) from None

    def now() -> float:
        with engine.connect() as connection:
            query = sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
            return float(connection.execute(query).scalar_one())

    patient = _patient(get_storage(storage))
    for pool in (engine, storage.engine):  # close the connections with the last user of the study
        weakref.finalize(patient, pool.dispose)
    return StudyStorage(patient, lambda: _advisory_lock(engine, lock_key), now)


@contextmanager
def _advisory_lock(engine: Any, key: int) -> Iterator[None]:
    """Hold PostgreSQL's session lock; the server releases it when the connection is gone."""
    import sqlalchemy

    lock = sqlalchemy.text("SELECT pg_advisory_lock(:key)")
    unlock = sqlalchemy.text("SELECT pg_advisory_unlock(:key)")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(lock, {"key": key})
        try:
            yield
        finally:
            connection.execute(unlock, {"key": key})
