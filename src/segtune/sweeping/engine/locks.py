"""Locks between the processes of a machine.

The kernel releases a lock when its holder dies. A holder that is stopped (SIGSTOP, Ctrl-Z) would
keep it for good: when others have waited for it long enough, they end it. Its trial returns to the
queue like that of any worker that died.
"""

import contextlib
import os
import time
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from segtune.errors import StorageError

_LOOK_EVERY = 5.0  # seconds between two looks at the holder
_STOPPED_FOR = 60.0  # seconds after which a stopped holder is ended
_PATIENCE = 900.0  # seconds to wait for a holder that is not stopped, or cannot be ended


class ProcessLock:
    """A lock on a file that one process holds at a time; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, FileLock(path)

    def __enter__(self) -> "ProcessLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> bool:
        """Wait for the lock.

        Raises:
            StorageError: another process has held it for a quarter of an hour, or its file cannot
                be written.
        """
        began = time.monotonic()
        stopped: tuple[int, float] | None = None  # a stopped holder, and when it was first seen so
        while True:
            try:
                self._lock.acquire(timeout=_LOOK_EVERY)
                return True
            except Timeout:
                now, holder = time.monotonic(), _holder(self.path)
            except OSError as error:
                raise StorageError(f"the lock '{self.path}' cannot be taken: {error}.") from error
            if holder is None or holder.status() != psutil.STATUS_STOPPED:
                stopped = None
            elif stopped is None or stopped[0] != holder.pid:
                stopped = holder.pid, now
            elif now - stopped[1] >= _STOPPED_FOR:
                with contextlib.suppress(psutil.Error):  # it has ended, or is another user's
                    holder.kill()
            if now - began > _PATIENCE:
                who = f"process {holder.pid}" if holder else "a process of another machine"
                raise StorageError(
                    f"the lock '{self.path}' has been held by {who} for {_PATIENCE / 60:.0f} "
                    "minutes. End that process, and start the command again."
                )

    def release(self) -> None:
        """Let the next process have the lock."""
        self._lock.release()


def _holder(path: Path) -> psutil.Process | None:
    """The process on this machine that holds the lock on a file; None if it cannot be seen."""
    try:
        file = os.stat(path)
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 00:1b:93 0 EOF
        if words[1] != "FLOCK" or words[5].rpartition(":")[2] != str(file.st_ino):
            continue
        # another file system may have a file of this number: the process must have ours open
        if _has_open(words[4], file):
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(int(words[4]))
    return None


def _has_open(pid: str, file: os.stat_result) -> bool:
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for link in links:
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), file):
                return True
    return False
