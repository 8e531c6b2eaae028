"""Temporary folders that do not stay when their process is killed.

A process locks its folder. The kernel frees the lock when the process, and those that it forked,
have ended; the next process that makes a folder at the same place removes those without a lock.
"""

import fcntl
import functools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from uuid import uuid4


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder, which is removed when the block ends.

    Raises:
        OSError: it cannot be written.
    """
    folder, lock = locked_folder(*_place(), mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def folder_of_process() -> Path:
    """The folder for files that this process needs until it ends.

    Raises:
        OSError: it cannot be written.
    """
    return _folder_of(os.getpid())


@functools.cache
def _folder_of(process: int) -> Path:
    """Create the folder of a process; a forked child has one of its own, and removes it, too."""
    folder, _ = locked_folder(*_place(), mode=0o700)  # the lock stays until the process ends
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    return folder


def locked_folder(
    place: Path, prefix: str = "", suffix: str = "", mode: int = 0o777
) -> tuple[Path, int]:
    """Create a folder in `place` for this process, and remove those that killed processes left.

    Args:
        prefix: beginning of the names of all such folders; `suffix` is the end.
        mode: permissions of the folder, less those that the process never gives.

    Returns:
        The folder, and the descriptor of its lock, which the caller closes.

    Raises:
        OSError: it cannot be written.
    """
    names = re.compile(f"{re.escape(prefix)}[0-9a-f]{{12}}{re.escape(suffix)}")
    for name in filter(names.fullmatch, os.listdir(place)):
        _remove_unless_locked(place / name)
    while True:
        folder = place / f"{prefix}{uuid4().hex[:12]}{suffix}"
        folder.mkdir(mode)
        with suppress(FileNotFoundError):  # removed by another process before it was locked
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # NFS locks no folders: there, nobody removes what is left
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_unless_locked(folder: Path) -> None:
    with suppress(OSError):  # locked, removed by another process, or no folder
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _place() -> tuple[Path, str]:
    """Where the user's temporary folders are, and the beginning of their names.

    That is a folder of their own; the system's if somebody else has made a file of that name.
    """
    system = Path(tempfile.gettempdir())
    place = system / f"segtune-{os.getuid()}"
    with suppress(FileExistsError):  # also of a file
        place.mkdir(mode=0o700)
    facts = place.lstat()
    is_own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    return (place, "") if is_own else (system, "segtune-")
