"""Retry operations that fail for a temporary reason, with longer and longer pauses."""

import errno
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from segtune.errors import StorageError
from segtune.runtime.log import Log, silent

Result = TypeVar("Result")

PATIENCE = 900.0
"""Seconds of retries, after which the last error is raised."""

_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ECONNREFUSED,
}
_MLFLOW_MESSAGES = (
    "database is locked",
    "disk is full",
    "no space left",
    "connection",
    "timed out",
    "max retries exceeded",
)
_MLFLOW_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_TYPES = {
    "OperationalError",
    "InterfaceError",
    "StorageInternalError",
    "ConnectionError",
    "Timeout",
}


def is_passing(error: BaseException) -> bool:
    """Whether an error is temporary, such as a full disk, a lock or an unreachable server.

    >>> is_passing(OSError(28, "No space left on device")), is_passing(FileNotFoundError(2, "gone"))
    (True, False)
    """
    if isinstance(error, StorageError) and error.__cause__ is not None:
        return is_passing(error.__cause__)
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return True
    if getattr(error, "error_code", None) in _MLFLOW_CODES:
        return True
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & _TYPES:
        return True
    message = str(error).lower()
    return "MlflowException" in names and any(text in message for text in _MLFLOW_MESSAGES)


def with_backoff(
    action: Callable[[], Result], say: Log = silent, patience: float = PATIENCE
) -> Result:
    """Call a function, and call it again after a pause as long as it fails for a temporary reason.

    Args:
        say: prints the first error.
        patience: seconds of retries; after them, the last error is raised.
    """

    def report_first_error(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number == 1:
            say(f"waiting: {str(error).strip().splitlines()[0][:200]}")

    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        wait=wait_exponential(multiplier=0.25, max=15),
        stop=stop_after_delay(patience),
        before_sleep=report_first_error,
        reraise=True,
    )
    result: Result = retrying(action)
    return result
