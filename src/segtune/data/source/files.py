"""Listing and hashing many files: each is hashed once, and again only when its size or time of change differs."""

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from segtune.errors import DataError

_CHUNK = 20_000  # rows that are asked for, hashed and written together


def cache_dir() -> Path:
    """Folder for what can be made again: `$SEGTUNE_CACHE`, else the user's cache folder.

    For a user without a home folder (a container's, say), a folder of their own among the temporary files.
    """
    folder = os.path.expanduser(
        os.environ.get("SEGTUNE_CACHE") or platformdirs.user_cache_dir("segtune")
    )
    if folder.startswith("~"):
        return Path(tempfile.gettempdir()) / f"segtune-cache-{os.getuid()}"
    return Path(folder)


def walk(folder: Path, suffixes: Sequence[str]) -> Iterator[str]:
    """Files below a folder with one of the suffixes (lower case), relative with `/`, sorted; no hidden ones."""
    top = str(folder)
    found = []
    for here, folders, names in os.walk(top, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        inside = os.path.relpath(here, top).replace(os.sep, "/")
        prefix = "" if inside == "." else inside + "/"
        found += [
            prefix + n for n in names if n[0] != "." and os.path.splitext(n)[1].lower() in suffixes
        ]
    return iter(sorted(found))


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None


def digests(paths: Sequence[Path]) -> list[bytes]:
    """sha256 of each file's bytes; those that were hashed before, and have not changed since, are not read.

    A file counts as unchanged while its size and its time of change (in nanoseconds) are the same. What was found is
    kept in the cache folder; where that cannot be written, every file is read.

    Raises:
        DataError: a file cannot be read.
    """
    found: list[bytes] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _CHUNK):
            part = paths[start : start + _CHUNK]
            states = [_state(p) for p in part]
            known = _recall([str(p) for p in part])
            stale = [i for i, p in enumerate(part) if known.get(str(p), ("", b""))[0] != states[i]]
            fresh = list(pool.map(lambda i: _hash(part[i]), stale))  # noqa: B023  # used up within this round
            _remember([(str(part[i]), states[i], h) for i, h in zip(stale, fresh, strict=True)])
            changed = dict(zip(stale, fresh, strict=True))
            found += [changed[i] if i in changed else known[str(p)][1] for i, p in enumerate(part)]
    return found


def _hash(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return (
                hashlib.file_digest(file, "sha256").digest()
                if _HAS_DIGEST
                else hashlib.sha256(file.read()).digest()
            )
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None


_HAS_DIGEST = hasattr(hashlib, "file_digest")  # Python 3.11


def _state(path: Path) -> str:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _database() -> sqlite3.Connection:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(folder / "digests.sqlite", timeout=60)
    base.execute(
        "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, sha256 BLOB) WITHOUT ROWID"
    )
    return base


def _recall(paths: Sequence[str]) -> Mapping[str, tuple[str, bytes]]:
    try:
        base = _database()
    except (sqlite3.Error, OSError):
        return {}
    found: dict[str, tuple[str, bytes]] = {}
    try:
        for start in range(0, len(paths), 500):
            part = paths[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = base.execute(
                f"SELECT path, state, sha256 FROM digests WHERE path IN ({marks})", part
            )
            found.update((p, (s, h)) for p, s, h in rows)
    except sqlite3.Error:
        return {}
    finally:
        base.close()
    return found


def _remember(rows: Sequence[tuple[str, str, bytes]]) -> None:
    if not rows:
        return
    try:
        base = _database()
    except (sqlite3.Error, OSError):
        return
    try:
        with base:
            base.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
    except sqlite3.Error:
        pass  # another process writes, or the disk is full: they are hashed again next time
    finally:
        base.close()
