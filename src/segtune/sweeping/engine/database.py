"""A study in PostgreSQL, and the lock over all processes that use it.

No process can keep the others waiting for good. The server ends a connection whose transaction is
silent for half a minute, as that of a stopped process or of a lost machine, and releases its locks.
"""

import hashlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, get_storage
from sqlalchemy.exc import SQLAlchemyError

from segtune.errors import ConfigError, StorageError
from segtune.runtime.addresses import without_password
from segtune.runtime.retry import with_backoff
from segtune.sweeping.engine.study_storage import StudyStorage, patient, shared

_SILENCE = 30.0  # seconds of silence in a transaction, after which the server ends it
# a lost server is noticed within a minute; libpq itself waits for hours
_CONNECT = {
    "connect_timeout": 20,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class _LockLost(Exception):
    """The server released the lock that this thread took."""


def open_database(url: str, name: str) -> StudyStorage:
    """Open the storage of a study in PostgreSQL; create its tables if there are none.

    Args:
        name: of the study.

    Raises:
        ConfigError: the URL is of another kind, or its driver is not installed.
        StorageError: the database cannot be reached.
    """
    try:
        url = shared(url)
    except ValueError as error:
        raise ConfigError(f"storage='{without_password(url)}': {error}.") from None
    host = urlsplit(url).hostname or "the local socket"
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    options: dict[str, Any] = {"connect_args": _CONNECT}
    try:
        # the lock's connections are closed at once: one that came back to a pool after the study
        # was given up would stay open
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, **options)
        _bound_silence(engine)
        lock = DatabaseLock(engine, name)
        with engine.connect():  # an address may be wrong: the lock would wait for its server
            pass
        # under a lock: two processes that create the tables at the same time would both fail
        with lock.held():
            pooled = options | {"pool_pre_ping": True}
            storage = RDBStorage(address, engine_kwargs=pooled, skip_compatibility_check=False)
        _bound_silence(storage.engine)
    except ModuleNotFoundError:
        raise ConfigError(
            "a storage in PostgreSQL needs its driver: pip install 'segtune[postgres]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error).splitlines()[0][:200]
        raise StorageError(
            f"the study's database at {host} cannot be reached: {reason}. "
            "Check its address, and that the server runs."
        ) from error

    def now() -> float:
        with engine.connect() as connection:
            query = sqlalchemy.text("SELECT extract(epoch FROM clock_timestamp())")
            return float(connection.execute(query).scalar_one())

    study = patient(get_storage(storage), lock.check)
    weakref.finalize(study, storage.engine.dispose)  # with the last user of the study
    return StudyStorage(study, lock.held, lambda: with_backoff(now))


def _bound_silence(engine: Any) -> None:
    """Make the server end a connection whose transaction is silent for too long."""

    def on_connect(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {_SILENCE * 1000:.0f}")
        connection.commit()

    sqlalchemy.event.listen(engine, "connect", on_connect)
    engine.dispose()  # of connections from before


class DatabaseLock:
    """PostgreSQL's lock over all processes that use a study.

    The lock belongs to a transaction. The server releases it when its holder's connection is gone,
    or has been silent for half a minute.

    Args:
        name: of the study.
    """

    def __init__(self, engine: Any, name: str) -> None:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._engine, self._key = engine, key
        self._of_thread = threading.local()  # the connection whose transaction holds the lock

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while the block runs.

        Raises:
            StorageError: the server released the lock; the block wrote nothing after that.
        """
        connection = self._acquire()
        self._of_thread.connection = connection
        try:
            yield
        except _LockLost as error:
            raise StorageError(
                "the study's database released this process's lock: it was restarted, or this "
                "process stood still"
            ) from error.__cause__
        finally:
            self._of_thread.connection = None
            _end(connection)

    def check(self) -> None:
        """Check that this thread still has the lock, if it took it.

        A process that was stopped, or whose server was restarted, must not write as if it had it.
        """
        connection = getattr(self._of_thread, "connection", None)
        if connection is None:
            return
        try:
            connection.execute(sqlalchemy.text("SELECT 1"))
        except SQLAlchemyError as error:
            raise _LockLost from error

    def _acquire(self) -> Any:
        """Wait for the lock; return the connection whose transaction holds it."""
        query = sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)")

        def acquire() -> Any:
            connection = self._engine.connect()
            try:
                connection.execute(query, {"key": self._key})
            except BaseException:
                _end(connection)
                raise
            return connection

        return with_backoff(acquire)


def _end(connection: Any) -> None:
    """End a connection's transaction; the server may have ended it already."""
    try:
        connection.commit()
    except SQLAlchemyError:
        connection.invalidate()
    finally:
        connection.close()
