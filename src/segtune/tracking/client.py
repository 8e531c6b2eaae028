"""MLflow's client with typed errors: an answer of the store, or the failure to get one.

MLflow raises one exception for everything. From this client, `MlflowException` is an answer about
the request, such as "does not exist". Any other failure (no connection, a lock, a full disk, no
permission, a deleted or damaged database) is a StorageError with its cause.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service import utils as mlflow_cache

from segtune.errors import StorageError
from segtune.runtime.addresses import without_password
from segtune.runtime.retry import is_damage, is_passing

_ANSWERS = {
    "ALREADY_EXISTS",
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_FOUND",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's codes for a fault of the request; all others are faults of the store or of the way."""
_ABSENT = {"INVALID_PARAMETER_VALUE", "NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"}
_REASON_LENGTH = 200


def is_absent(error: MlflowException) -> bool:
    """Whether the store answered that the named thing does not exist.

    MLflow calls a missing alias, and an id that it would never give, an invalid parameter.
    """
    return error.error_code in _ABSENT


class StoreClient(MlflowClient):
    """MLflow's client of one store.

    Args:
        uri: tracking and registry URI.
        database: the SQLite file behind the URI; None for a server. If it is removed or replaced
            while it is in use, MLflow would go on to write to the removed file.
    """

    def __init__(self, uri: str, database: Path | None = None) -> None:
        super().__init__(tracking_uri=uri, registry_uri=uri)
        self._uri, self._database = uri, database
        self._identity = None if database is None else _identity(database)

    def __getattribute__(self, name: str) -> Any:
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute
        return self._typed(attribute)

    def _typed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            self._check_database()
            _forget_other_stores(self._uri)
            try:
                return method(*args, **options)
            except Exception as error:
                typed = store_error(self._uri, error)
                if typed is error:
                    raise
                raise typed from error

        return call

    @property
    def is_current(self) -> bool:
        """Whether the database is still the file that was opened; always true for a server."""
        return self._database is None or _identity(self._database) == self._identity

    def _check_database(self) -> None:
        """Raise StorageError if the database is no longer the file that was opened."""
        if self._database is not None and not self.is_current:
            state = "was replaced" if self._database.exists() else "was deleted"
            raise StorageError(
                f"the store's database '{self._database}' {state} while it was in use. Put it back "
                "from a copy and run the command again: messages that it did not receive wait in "
                f"'{self._database.parent / 'runs'}'."
            )


_last_uri = [""]  # of the store that the process used last


def _forget_other_stores(uri: str) -> None:
    """Forget where another store keeps the files of its runs.

    MLflow remembers the folder of a run by the run's id for the whole process. The copy of a store
    holds the same ids, so its files would be written into the original.
    """
    if _last_uri[0] != uri:
        mlflow_cache._artifact_repos_cache.clear()
        _last_uri[0] = uri


def store_error(uri: str, error: Exception) -> Exception:
    """Return the error to raise in place of an error of MLflow: itself, or a StorageError."""
    names = {cls.__name__ for cls in type(error).__mro__}
    is_answer = isinstance(error, MlflowException) and error.error_code in _ANSWERS
    is_answer = is_answer or bool(names & {"IntegrityError", "DataError"})  # of the database
    concerns_store = names & {"MlflowException", "OSError", "SQLAlchemyError"}
    if not concerns_store or (is_answer and not is_damage(error)):
        return error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = next((line for line in lines if "Error)" in line), lines[0])[:_REASON_LENGTH]
    if "readonly database" in reason:
        advice = "Check that you may write its file, or set tracking.root to another folder"
    elif is_damage(error):
        advice = "Its database is damaged or of another version: restore it from a copy"
    elif is_passing(error):
        advice = "Run the command again when it answers"
    else:
        advice = "Check tracking.uri, tracking.root and your permissions"
    return StorageError(
        f"the store '{without_password(uri)}' cannot be used ({without_secrets(reason, uri)}). "
        f"{advice}."
    )


def without_secrets(text: str, uri: str) -> str:
    """Remove a store's address, which may hold a password, from a text."""
    return text.replace(uri, without_password(uri))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and number of a file; None if it does not exist."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
