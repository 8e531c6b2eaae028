"""Where a study lives: a journal file on this machine, or a PostgreSQL database that many machines reach."""

import hashlib
import json
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from segtune.errors import ConfigError, StorageError
from segtune.runtime.retry import with_backoff
from segtune.sweeping.location import without_password
from segtune.sweeping.spec import shared


@dataclass(frozen=True)
class StudyStorage:
    """An open storage.

    Attributes:
        exclusive: a block that one process at a time is in, over all that use the study; a process that dies in it
            leaves it.
        now: seconds of the one clock that all leases are read against.
    """

    optuna: BaseStorage
    exclusive: Callable[[], AbstractContextManager[Any]]
    now: Callable[[], float]


def open_storage(folder: Path, url: str | None, name: str) -> StudyStorage:
    """Opens or creates the storage of a sweep.

    Args:
        folder: of the journal file and its locks.
        url: `postgresql://USER@HOST/DATABASE`; None for the journal file.

    Raises:
        ConfigError: a URL of another kind, or a driver that is not installed.
        StorageError: what cannot be read, written or reached.
    """
    return _database(url, name) if url else _journal(folder)


def _patient(storage: BaseStorage) -> BaseStorage:
    return cast(BaseStorage, _Patient(storage))


def _journal(folder: Path) -> StudyStorage:
    path = folder / "journal.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(_JournalFile(path))
    except OSError as error:
        raise StorageError(
            f"the study in '{folder}' cannot be written: {error}. Set tracking.root."
        ) from None
    except (ValueError, KeyError) as error:
        raise StorageError(f"the study '{path}' cannot be read: {error}.") from None
    return StudyStorage(_patient(storage), lambda: FileLock(folder / "claim.lock"), time.time)


class _KernelLock:
    """A lock that the kernel gives back when its holder is killed; Optuna's own stays for another 30 seconds."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


class _JournalFile(JournalFileBackend):
    """Optuna's journal, whose lines are written whole or not at all: half of one would spoil the file for good."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, _KernelLock(path.with_suffix(".lock"))
        lock: Any = self.lock
        super().__init__(str(path), lock_obj=lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends lines; after a fault on the way, such as a full disk, the file is as it was."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self.lock.acquire()
        try:
            with self.path.open("r+b") as file:
                size = _end_of_last_line(file)
                try:
                    file.seek(size)
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, size)
                    raise
        finally:
            self.lock.release()


def _end_of_last_line(file: IO[bytes]) -> int:
    """Where the last whole line ends: what stands behind it, somebody was killed while writing."""
    end = file.seek(0, os.SEEK_END)
    while end:
        file.seek(end - 1)
        if file.read(1) == b"\n":
            break
        end -= 1
    return end


class _Patient:
    """A storage whose every call waits for what passes: a full disk, a lock, a server that is away."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        if not callable(found):
            return found
        return lambda *args, **options: with_backoff(lambda: found(*args, **options))


def _database(url: str, name: str) -> StudyStorage:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = shared(url)
    except ValueError as error:
        raise ConfigError(f"sweep.storage='{without_password(url)}': {error}.") from None
    place = urlsplit(url).hostname or "the local socket"
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    try:
        engine = sqlalchemy.create_engine(address, pool_pre_ping=True)
        with _advisory_lock(
            engine, key
        ):  # two processes that create the tables at once would both fail
            storage = RDBStorage(
                address, engine_kwargs={"pool_pre_ping": True}, skip_compatibility_check=False
            )
    except ModuleNotFoundError:
        raise ConfigError(
            "sweep.storage: PostgreSQL needs its driver: pip install 'segtune[postgres]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"the study's database at {place} cannot be reached: {str(error).splitlines()[0][:200]}. "
            "Check sweep.storage, and that the server runs."
        ) from None

    def now() -> float:
        with engine.connect() as connection:
            found = connection.execute(
                sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
            )
            return float(found.scalar_one())

    patient = _patient(get_storage(storage))
    for pool in (engine, storage.engine):
        weakref.finalize(
            patient, pool.dispose
        )  # closes its connections with the last who uses the study
    return StudyStorage(patient, lambda: _advisory_lock(engine, key), now)


@contextmanager
def _advisory_lock(engine: Any, key: int) -> Iterator[None]:
    """PostgreSQL's session lock: the server gives it back when the connection is gone."""
    import sqlalchemy

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), {"key": key})
