"""Bad weather: what passes by itself is waited for, with longer and longer pauses."""

import errno
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from segtune.errors import StorageError
from segtune.runtime.log import Log

Result = TypeVar("Result")

PATIENCE = 900.0
"""Seconds after which what was waited for is given up."""

_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ECONNREFUSED,
}
_WORDS = (
    "database is locked",
    "disk is full",
    "no space left",
    "connection",
    "timed out",
    "max retries exceeded",
)
_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_TYPES = {
    "OperationalError",
    "InterfaceError",
    "StorageInternalError",
    "ConnectionError",
    "Timeout",
}


def is_passing(error: BaseException) -> bool:
    """Whether an error is one that passes by itself: a full disk, a lock, a server that is away.

    >>> is_passing(OSError(28, "No space left on device")), is_passing(FileNotFoundError(2, "gone"))
    (True, False)
    """
    if isinstance(error, StorageError) and error.__cause__ is not None:
        return is_passing(error.__cause__)
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return True
    if getattr(error, "error_code", None) in _CODES:  # MLflow's
        return True
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _TYPES:
        return True
    return "MlflowException" in names and any(word in str(error).lower() for word in _WORDS)


def with_backoff(
    action: Callable[[], Result], say: Log = lambda _: None, patience: float = PATIENCE
) -> Result:
    """Does something, and again after a pause for as long as it fails for a reason that passes.

    Args:
        patience: seconds to go on for at most; then the last error is raised.
    """
    told = False

    def tell(state: object) -> None:
        nonlocal told
        if not told:
            error = state.outcome.exception()  # type: ignore[attr-defined]  # tenacity's RetryCallState
            say(f"waiting: {str(error).strip().splitlines()[0][:200]}")
            told = True

    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        wait=wait_exponential(multiplier=0.25, max=15),
        stop=stop_after_delay(patience),
        before_sleep=tell,
        reraise=True,
    )
    result: Result = retrying(action)
    return result
