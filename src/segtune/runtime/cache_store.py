"""One store for every cache: entries are folders that are built aside and renamed when complete.

`ROOT/KEY` is always a complete entry. A process killed at any moment leaves, beside it, at most
`KEY.unfinished` or `KEY.removed`, which the next process that builds here deletes. The lock
`KEY.lock` lies beside the entry, so that removing an entry never removes its lock. Each entry holds
`.contents.json` with the size of each of its files: an entry with a missing or cut file is built
again.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from segtune.errors import DataError
from segtune.runtime.retry import is_passing, with_backoff

T = TypeVar("T")

_CONTENTS = ".contents.json"
_UNFINISHED, _REMOVED = ".unfinished", ".removed"


class StaleEntry(ValueError):
    """Raised by a reader of an entry: it must be built again."""


@dataclass(frozen=True)
class CacheStore:
    """Entries of one kind in the cache folder.

    Attributes:
        root: folder of the entries.
        max_bytes: size of all entries together; the least recently used are removed first. None
            keeps them all.
    """

    root: Path
    max_bytes: float | None = None

    def open(self, key: str, build: Callable[[Path], object], read: Callable[[Path], T]) -> T:
        """Open an entry; build it first if there is none, or if it is damaged.

        Args:
            key: of everything that the entry depends on; the name of its folder.
            build: writes the entry's files into the empty folder that it gets.
            read: opens the entry's files. In a store with `max_bytes`, another process may remove
                them as soon as it returns; files that are open or mapped by then stay readable.

        Raises:
            DataError: the cache folder cannot be written.
        """
        folder = self.root / key
        if self.max_bytes is None and _is_complete(folder):
            with suppress(OSError, ValueError, KeyError, EOFError):  # damaged: built again below
                return read(folder)
        with self._lock(folder):
            if _is_complete(folder):
                with suppress(OSError, ValueError, KeyError, EOFError):
                    return _read(folder, read)
            with_backoff(lambda: self._build(folder, build))  # the disk may be full for a while
            return _read(folder, read)

    def _lock(self, folder: Path) -> AbstractContextManager[object]:
        """The lock of an entry, acquired until the end of a `with` block."""
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            return FileLock(_beside(folder, ".lock")).acquire()
        except OSError as error:
            raise _not_writable(folder, error) from None

    def _build(self, folder: Path, build: Callable[[Path], object]) -> None:
        unfinished = _beside(folder, _UNFINISHED)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir()
        except OSError as error:
            if is_passing(error):
                raise
            raise _not_writable(folder, error) from None
        try:
            build(unfinished)
            text = json.dumps(_sizes(unfinished))
            (unfinished / _CONTENTS).write_text(text, encoding="utf-8")
            _remove(folder)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _remove_remains(folder.parent)
        if self.max_bytes is not None:
            self._make_room(folder, self.max_bytes)

    def _make_room(self, newest: Path, max_bytes: float) -> None:
        """Remove the least recently used entries that no other process builds or opens now."""
        entries = [path for path in self.root.iterdir() if path.is_dir() and path != newest]
        entries = [path for path in entries if path.suffix not in (_UNFINISHED, _REMOVED)]
        sizes = {folder: _bytes_in(folder) for folder in entries}
        total = _bytes_in(newest) + sum(sizes.values())
        for folder in sorted(entries, key=_used_at):
            if total <= max_bytes:
                return
            if _remove_unless_locked(folder):
                total -= sizes[folder]


def _read(folder: Path, read: Callable[[Path], T]) -> T:
    """Read an entry and note the time of use."""
    result = read(folder)
    with suppress(OSError):  # a cache that can be read only
        (folder / _CONTENTS).touch()
    return result


def _is_complete(folder: Path) -> bool:
    """Whether every file of the entry is there, at its full size."""
    try:
        sizes = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        return all(os.lstat(folder / name).st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    """Relative path -> size in bytes, of every file of an entry; a link's own size."""
    sizes = {}
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            sizes[os.path.relpath(path, folder)] = os.lstat(path).st_size
    return sizes


def _remove_remains(root: Path) -> None:
    """Remove what killed processes left; what other processes build or remove now stays."""
    for path in list(root.iterdir()):
        if path.suffix in (_UNFINISHED, _REMOVED):
            with suppress(Timeout, OSError), FileLock(path.with_suffix(".lock"), timeout=0):
                shutil.rmtree(path, ignore_errors=True)


def _remove_unless_locked(folder: Path) -> bool:
    """Remove an entry unless another process works on it; whether it is removed."""
    try:
        with FileLock(_beside(folder, ".lock"), timeout=0):
            _remove(folder)
    except (Timeout, OSError):
        return False
    return True


def _remove(folder: Path) -> None:
    """Remove an entry: rename it first, so that nobody finds half of it."""
    removed = _beside(folder, _REMOVED)
    shutil.rmtree(removed, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _bytes_in(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):  # another process removes it
        total = sum(_sizes(folder).values())
    return total


def _used_at(folder: Path) -> float:
    """Time of last use; 0 for a folder that is no complete entry."""
    with suppress(OSError):
        return (folder / _CONTENTS).stat().st_mtime
    return 0.0


def _not_writable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"the cache folder '{folder}' cannot be written: {error}. Set SEGTUNE_CACHE to a folder "
        "that can."
    )
