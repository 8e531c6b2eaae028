"""Files and folders that get their name only when they are complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from segtune.runtime.temporary import locked_folder


@contextmanager
def atomic_file(target: Path, shared: bool = False) -> Iterator[Path]:
    """Give a path beside `target` to write to; it becomes `target` when the block succeeds.

    After an error the unfinished file is removed, and an earlier `target` stays as it was.

    Args:
        shared: other processes may write the same target now: the unfinished file gets a unique
            name. Otherwise its name is fixed, so that the next call replaces one left by a crash.

    Raises:
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{uuid4().hex}.part" if shared else f".{target.name}.part")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file or a folder is on the disk, so that a loss of power leaves it whole.

    Raises:
        OSError: the disk is full or broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder beside `target` to fill; it becomes `target` when the block succeeds.

    After an error the unfinished folder is removed, and an earlier `target` stays as it was.

    Args:
        overwrite: replace an earlier folder. Otherwise several processes may build the same
            folder, and the first one stays. An unfinished one that a crash has left is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if overwrite:
        unfinished, lock = target.with_name(f".{target.name}.part"), None
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    else:
        unfinished, lock = locked_folder(target.parent, f".{target.name}.", ".part")
    try:
        yield unfinished
        if overwrite:
            shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(unfinished, target)
        except OSError:
            if overwrite or not target.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)
