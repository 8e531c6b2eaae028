"""An open storage of a study, whichever kind it has."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

from optuna.storages import BaseStorage

from segtune.runtime.retry import with_backoff


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


class _Patient:
    """A storage that repeats a call while the disk is full, a lock is held or a server is away.

    Args:
        check: called before each attempt at a call of the storage.
    """

    def __init__(self, storage: BaseStorage, check: Callable[[], None]) -> None:
        self._storage, self._check = storage, check

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._storage, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **options: Any) -> Any:
            self._check()
            return attribute(*args, **options)

        return lambda *args, **options: with_backoff(lambda: call(*args, **options))


def patient(storage: BaseStorage, check: Callable[[], None] = lambda: None) -> BaseStorage:
    """Return a storage that waits while it cannot be used for a reason that passes.

    Args:
        check: called before each attempt at a call of the storage.
    """
    return cast(BaseStorage, _Patient(storage, check))
