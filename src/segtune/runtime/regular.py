"""Refuse what is no regular file: a pipe waits forever for its writer, a device never ends."""

import errno
import os
import stat
from pathlib import Path


def check_regular(path: str | Path) -> None:
    """Check that a path names a regular file, or a link to one.

    Raises:
        OSError: it names something else, or nothing.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_regular(path: str | Path) -> bytes:
    """Read a regular file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    check_regular(path)
    return Path(path).read_bytes()
