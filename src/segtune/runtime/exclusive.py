"""One training at a time in a process: seeds and thread counts belong to the whole process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from segtune.errors import ConfigError

_TRAINING = threading.Lock()


@contextmanager
def only_training() -> Iterator[None]:
    """Reserve the process for one training while the block runs; also a decorator.

    Raises:
        ConfigError: another thread of this process trains, or the block runs inside a training.
    """
    if not _TRAINING.acquire(blocking=False):
        raise ConfigError(
            "another training runs in this process, in another thread or around this call. Random "
            "state, number of threads and determinism belong to the whole process, so both "
            "trainings would give other results. Wait until it ends, or start each training in a "
            "process of its own: segtune train …, or workers of segtune sweep."
        )
    try:
        yield
    finally:
        _TRAINING.release()
