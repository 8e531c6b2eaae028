"""Where a study lives: a journal file on this machine, or a PostgreSQL database that many machines reach."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from segtune.errors import ConfigError, StorageError


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


def _journal(folder: Path) -> StudyStorage:
    path = folder / "journal.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock: Any = _KernelLock(folder / "journal.lock")
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except OSError as error:
        raise StorageError(f"the study in '{folder}' cannot be written: {error}. Set tracking.root.") from None
    except (ValueError, KeyError) as error:
        raise StorageError(f"the study '{path}' cannot be read: {error}.") from None
    return StudyStorage(storage, lambda: FileLock(folder / "claim.lock"), time.time)


class _KernelLock:
    """A lock that the kernel gives back when its holder is killed; Optuna's own stays for another 30 seconds."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _database(url: str, name: str) -> StudyStorage:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    if not url.startswith("postgresql"):
        raise ConfigError(
            f"sweep.storage='{url}': only postgresql://USER@HOST/DATABASE is shared by many machines. Leave it out for "
            "a journal file under tracking.root."
        )
    place = urlsplit(url).hostname or "the local socket"
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    try:
        engine = sqlalchemy.create_engine(address, pool_pre_ping=True)
        with _advisory_lock(engine, key):  # two processes that create the tables at once would both fail
            storage = RDBStorage(address, engine_kwargs={"pool_pre_ping": True}, skip_compatibility_check=False)
    except ModuleNotFoundError:
        raise ConfigError("sweep.storage: PostgreSQL needs its driver: pip install 'segtune[postgres]'") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"the study's database at {place} cannot be reached: {str(error).splitlines()[0][:200]}. "
            "Check sweep.storage, and that the server runs."
        ) from None

    def now() -> float:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())"))
            return float(found.scalar_one())

    return StudyStorage(storage, lambda: _advisory_lock(engine, key), now)


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
