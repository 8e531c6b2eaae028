"""Retry operations that fail for a temporary reason, with longer and longer pauses."""

import errno
import threading
import time
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
from segtune.runtime.log import Log, to_stderr
from segtune.runtime.signals import StopRequest, is_stop_requested

Result = TypeVar("Result")

PATIENCE = 900.0
"""Seconds of retries, after which the last error is raised."""

_STOP_PATIENCE = 5.0
"""Seconds of an outage after which a stop request ends the retries; a short lock may pass."""

_ERRNO = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ECONNREFUSED,
}
_FULL_DISK = ("no space left", "disk quota exceeded", "disk is full", "disk i/o error")
_TORCH_WRITER = ("pytorchstreamwriter failed", "inline_container.cc", "file write failed")
_MLFLOW_MESSAGES = (
    "database is locked",
    "connection",
    "timed out",
    "max retries exceeded",
    *_FULL_DISK,
)
_MLFLOW_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_TYPES = {
    "OperationalError",
    "InterfaceError",
    "StorageInternalError",
    "ConnectionError",
    "Timeout",
}
_DAMAGE = (
    "no such table",
    "no such column",
    "has no column",
    "malformed",
    "not a database",
    "readonly database",
    "unable to open database file",
    "can't locate revision",
)


def is_damage(error: BaseException) -> bool:
    """Whether an error says that a database is damaged or not writable; waiting does not help.

    >>> is_damage(RuntimeError("(sqlite3.DatabaseError) database disk image is malformed"))
    True
    """
    message = str(error).lower()
    return any(text in message for text in _DAMAGE)


def is_passing(error: BaseException) -> bool:
    """Whether an error is temporary, such as a full disk, a lock or an unreachable server.

    >>> is_passing(OSError(28, "No space left on device")), is_passing(FileNotFoundError(2, "gone"))
    (True, False)
    """
    if isinstance(error, StorageError):
        return error.__cause__ is not None and is_passing(error.__cause__)
    if isinstance(error, OSError) and error.errno in _ERRNO:
        return True
    names = {cls.__name__ for cls in type(error).__mro__}
    message = str(error).lower()
    # libraries that write files in native code pass the reason on as text
    if names & {"SafetensorError", "RuntimeError", "OSError"} and _has(message, _FULL_DISK):
        return True
    if "RuntimeError" in names and _has(message, _TORCH_WRITER):
        return True
    if is_damage(error):
        return False
    if getattr(error, "error_code", None) in _MLFLOW_CODES or names & _TYPES:
        return True
    return "MlflowException" in names and _has(message, _MLFLOW_MESSAGES)


def _has(message: str, texts: tuple[str, ...]) -> bool:
    return any(text in message for text in texts)


class _Outages:
    """The reasons for which this process waits now: each is printed once, not by every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: set[str] = set()

    def begin(self, reason: str, say: Log) -> None:
        with self._lock:
            is_new = reason not in self._reasons
            self._reasons.add(reason)
        if is_new:
            say(f"waiting for a store, a server or a disk: {reason}")

    def end(self, reason: str) -> None:
        with self._lock:
            self._reasons.discard(reason)


_OUTAGES = _Outages()


def reason_of(error: BaseException | None) -> str:
    """Return the first line of an error, at most 200 characters."""
    if type(error).__name__ == "StorageInternalError" and error and error.__cause__:
        error = error.__cause__  # Optuna's own text guesses at invalid data
    lines = str(error).strip().splitlines()
    return (lines or [type(error).__name__])[0][:200]


def with_backoff(
    action: Callable[[], Result], say: Log = to_stderr, patience: float = PATIENCE
) -> Result:
    """Call a function, and call it again after a pause as long as it fails for a temporary reason.

    After Ctrl-C or SIGTERM it retries for another few seconds only.

    Args:
        say: prints one line for each outage.
        patience: seconds of retries; after them, the last error is raised.
    """
    reasons: set[str] = set()

    def report(state: RetryCallState) -> None:
        reason = reason_of(state.outcome.exception() if state.outcome else None)
        reasons.add(reason)
        _OUTAGES.begin(reason, say)

    def is_over(state: RetryCallState) -> bool:
        waited = state.seconds_since_start or 0.0
        return is_stop_requested() and waited >= _STOP_PATIENCE

    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        wait=wait_exponential(multiplier=0.25, max=15),
        sleep=_sleep,
        stop=lambda state: is_over(state) or stop_after_delay(patience)(state),
        before_sleep=report,
        reraise=True,
    )
    try:
        result: Result = retrying(action)
    finally:
        for reason in reasons:
            _OUTAGES.end(reason)
    return result


def lasting(error: Exception) -> StorageError:
    """Return the error to raise when a temporary failure has lasted too long."""
    return StorageError(f"{reason_of(error)} (for {PATIENCE / 60:.0f} minutes)")


class Outage:
    """Waits between attempts at long work that fails for a temporary reason.

    Args:
        say: prints one line for each outage.
        patience: seconds without a success, after which the error is raised.
    """

    def __init__(self, say: Log = to_stderr, patience: float = PATIENCE) -> None:
        self._say, self._patience = say, patience
        self._began: float | None = None
        self._pause = 0.0

    def wait(self, error: Exception, stop: StopRequest) -> None:
        """Wait before the next attempt; a stop request ends the pause.

        Raises:
            Exception: the error, if it is not temporary or has lasted too long.
        """
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._pause = 0.5
            if is_passing(error):
                self._say(f"waiting for a store, a server or a disk: {reason_of(error)}")
        if not is_passing(error) or now - self._began > self._patience:
            raise error
        self._pause = min(15.0, 2 * self._pause)
        end = now + self._pause
        while time.monotonic() < end and not stop.requested:
            time.sleep(0.1)

    def end(self) -> None:
        """Note a success."""
        self._began = None


def _sleep(seconds: float) -> None:
    """Sleep; a stop request ends the pause."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))
        if is_stop_requested():
            return
