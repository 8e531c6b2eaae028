"""One training at a time in a process: what it seeds and sets belongs to the whole process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segtune.errors import ConfigError

_TRAINING = threading.Lock()


@contextmanager
def only_training() -> Iterator[None]:
    """Holds the process for one training while the block runs; also a decorator.

    Raises:
        ConfigError: another thread of this process trains, or an outer call of this one.
    """
    if not _TRAINING.acquire(blocking=False):
        raise ConfigError(
            "another training runs in this process, in another thread or around this call. Random state, number of "
            "threads and determinism belong to the whole process, so that both would give other numbers. Wait until "
            "it ends, or start each training in a process of its own: segtune train …, or workers of segtune sweep."
        )
    try:
        yield
    finally:
        _TRAINING.release()
