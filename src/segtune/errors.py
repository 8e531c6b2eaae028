"""Errors that users can act on, one class for each exit code.

A message states the value, its place, what is allowed, and what to do. The command line prints it
without a traceback.
"""

import difflib
from collections.abc import Iterable


class SegtuneError(Exception):
    """Base of all errors that segtune raises on purpose; exit code 1 means a fault of segtune."""

    exit_code = 1


class ConfigError(SegtuneError):
    """A verb, key, value or group member that cannot be used."""

    exit_code = 2


class DataError(SegtuneError):
    """A dataset, image, mask, video or model folder that cannot be read or is not valid."""

    exit_code = 3


class PartialError(SegtuneError):
    """Work that failed for a part of its input; the other results are kept."""

    exit_code = 4


class StorageError(SegtuneError):
    """A store (runs, registry, study, output folder) that cannot be read or written."""

    exit_code = 5


class Interrupted(SegtuneError):
    """Stopped by the user; the message holds the command that resumes the work."""

    exit_code = 130


class LeaseLost(SegtuneError):
    """A trial that another worker has taken over: this worker must not write to it any more."""


class OutOfMemory(ConfigError, MemoryError):
    """A step that does not fit into the device's memory."""


class Diverged(ConfigError):
    """A loss that is not finite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the closest known names, else the first twelve.

    >>> nearest("swfit", ["swift", "unet"])
    "did you mean 'swift'?"
    >>> nearest("zzz", ["unet", "swift"])
    'known: swift, unet'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    if not names:
        return "none exist"
    more = f", … ({len(names)} in all)" if len(names) > 12 else ""
    return "known: " + ", ".join(names[:12]) + more
