"""What can go wrong, one class per exit code: each carries one message that a user can act on.

A message says what was found, where, what is allowed, and what to do. The command line prints it without a traceback.
"""

import difflib
from collections.abc import Iterable


class SegtuneError(Exception):
    """Base of everything that segtune raises on purpose; exit code 1 means a fault of ours."""

    exit_code = 1


class ConfigError(SegtuneError):
    """A verb, key, value or group member that cannot be used."""

    exit_code = 2


class DataError(SegtuneError):
    """A dataset, image, mask, video or model folder that cannot be read as what it claims to be."""

    exit_code = 3


class PartialError(SegtuneError):
    """The work ended, but not for all of its input: what could be done is kept."""

    exit_code = 4


class StorageError(SegtuneError):
    """A store (runs, registry, study, output folder) that cannot be read or written."""

    exit_code = 5


class Interrupted(SegtuneError):
    """Stopped by the user; the message names the command that goes on from there."""

    exit_code = 130


class LeaseLost(SegtuneError):
    """A trial that another worker has taken over: this one writes nothing more about it."""


class OutOfMemory(ConfigError, MemoryError):
    """A step that does not fit into the device's memory."""


class Diverged(ConfigError):
    """A loss that is not finite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the closest ones, else the first few that exist.

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
