"""List, read and hash many files; the hash of an unchanged file is computed once."""

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from segtune.data.source.text import read_text
from segtune.errors import DataError
from segtune.runtime.processors import available_processors
from segtune.runtime.regular import check_regular, read_regular

_BATCH = 20_000  # files that are looked up, hashed and stored together
_QUERY_ROWS = 500  # paths in one query
_KEPT_CHARACTERS = 5 * 10**7  # of parsed JSON, which takes about ten times as many bytes
_SKETCHED_KEYS = 50  # of a mapping, and characters of a text, in a sketch
_SKETCHED_ITEMS = (50, 20, 5, 2, 2)


def cache_dir() -> Path:
    """Folder for files that can be made again: `$SEGTUNE_CACHE`, else the user's cache folder.

    A user without a home folder, as in a container, gets a folder of their own among the temporary
    files.
    """
    folder = os.environ.get("SEGTUNE_CACHE") or platformdirs.user_cache_dir("segtune")
    folder = os.path.expanduser(folder)
    if folder.startswith("~"):
        return Path(tempfile.gettempdir()) / f"segtune-cache-{os.getuid()}"
    return Path(folder)


def walk(folder: Path, suffixes: Sequence[str] | None = None) -> Iterator[str]:
    """Files below a folder with one of the suffixes (lower case): relative with `/`, sorted.

    Hidden files and folders are skipped. Links are followed, but each folder is read once: not
    again through a link to a folder above, or to one that was read.

    Args:
        suffixes: None for all files, without pipes and devices.

    Raises:
        DataError: a pipe or a device has one of the suffixes; to read it may never end.
    """
    files: list[str] = []
    read_folders: set[tuple[int, int]] = set()
    pending = [""]  # folders relative to the first, each with a `/` at its end
    while pending:
        inside = pending.pop()
        here = os.path.join(folder, inside)
        if not _is_new(here, read_folders):
            continue
        folders: list[tuple[bool, str]] = []
        for entry in _visible(here):
            if _is_folder(entry):
                folders.append((entry.is_symlink(), entry.name))
            elif suffixes is None:
                files += [] if _is_special(entry) else [inside + entry.name]
            elif os.path.splitext(entry.name)[1].lower() in suffixes:
                if _is_special(entry):
                    raise DataError(f"'{entry.path}' is a pipe or a device, no file. Remove it.")
                files.append(inside + entry.name)
        # the last is read first: a folder itself comes before a link to it
        for _, name in sorted(folders, reverse=True):
            if not _leads_up(here, name):
                pending.append(f"{inside}{name}/")
    return iter(sorted(files))


def _visible(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder that are not hidden; none of a folder that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry that is no folder is neither a file nor a link that leads nowhere."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False


def _is_new(folder: str, read_folders: set[tuple[int, int]]) -> bool:
    """Whether a folder was not read yet, through another path; it counts as read from now on."""
    try:
        facts = os.stat(folder)
    except OSError:
        return False
    key = (facts.st_dev, facts.st_ino)
    is_new = key not in read_folders
    read_folders.add(key)
    return is_new


def _leads_up(here: str, folder: str) -> bool:
    """Whether a folder is a link to one that contains the link."""
    path = os.path.join(here, folder)
    if not os.path.islink(path):
        return False
    target, link = os.path.realpath(path), os.path.realpath(here)
    return target == link or link.startswith(target.rstrip(os.sep) + os.sep)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_json(path: Path) -> Any:
    """Read a JSON file; within `json_parsed_once` nobody may change what it returns.

    Raises:
        DataError: it cannot be read.
    """
    parsed = _PARSED.get()
    if parsed is not None and path in parsed.contents:
        return parsed.contents[path]
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error, " as JSON") from None
    if parsed is not None and parsed.characters + len(text) <= _KEPT_CHARACTERS:
        parsed.contents[path] = content
        parsed.characters += len(text)
    return content


def json_sketch(path: Path, read: Callable[[Path], Any] = read_json) -> Any:
    """The beginning of a JSON file's content, by which its format is known: see `sketch`.

    Args:
        read: parses the file; within `json_parsed_once` called once for each file.
    """
    parsed = _PARSED.get()
    if parsed is not None and path in parsed.sketches:
        return parsed.sketches[path]
    beginning = sketch(read(path))
    if parsed is not None:
        parsed.sketches[path] = beginning
    return beginning


def sketch(content: Any, limits: Sequence[int] = _SKETCHED_ITEMS) -> Any:
    """The first entries of each list and mapping, and of those inside.

    Args:
        limits: how many items of a list are kept, for each level; deeper ones are left out.

    >>> sketch({"a": [1, [2, [3]]]}, limits=[9, 9, 1])
    {'a': [1, [2]]}
    """
    limit, deeper = (limits[0], limits[1:]) if limits else (0, ())
    if isinstance(content, dict):
        keys = list(content)[:_SKETCHED_KEYS] if limit else []
        return {key: sketch(content[key], deeper) for key in keys}
    if isinstance(content, list):
        return [sketch(item, deeper) for item in content[:limit]]
    return content[:_SKETCHED_KEYS] if isinstance(content, str) else content


@dataclass
class _Parsed:
    """JSON files that were parsed, and how many characters they have together."""

    contents: dict[Path, Any] = field(default_factory=dict)
    sketches: dict[Path, Any] = field(default_factory=dict)
    characters: int = 0


_PARSED: ContextVar[_Parsed | None] = ContextVar("_PARSED", default=None)


@contextmanager
def json_parsed_once() -> Iterator[None]:
    """Keep the JSON files that are read in the block, so that each format need not parse them.

    Of large sets only the beginning of each file is kept.
    """
    if _PARSED.get() is not None:
        yield
        return
    token = _PARSED.set(_Parsed())
    try:
        yield
    finally:
        _PARSED.reset(token)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date of month 13
        raise _unreadable(path, error, " as YAML") from None
    if not isinstance(content, dict):
        raise DataError(f"'{path}' holds {type(content).__name__}; a mapping of keys is expected.")
    return content


def digests(paths: Sequence[Path]) -> list[bytes]:
    """sha256 of each file's bytes.

    Hashes are stored in the cache folder. A file whose size and time of change (in nanoseconds) are
    those of its stored hash is not read again. If the cache folder cannot be written, every file is
    read.

    Raises:
        DataError: a file cannot be read.
    """
    hashes: list[bytes] = []
    with ThreadPoolExecutor(available_processors()) as pool:
        for start in range(0, len(paths), _BATCH):
            hashes += _batch_digests(paths[start : start + _BATCH], pool)
    return hashes


def _batch_digests(paths: Sequence[Path], pool: ThreadPoolExecutor) -> list[bytes]:
    states = [_state(path) for path in paths]
    stored = _load_hashes([str(path) for path in paths])
    hashes: dict[int, bytes] = {}
    for index, path in enumerate(paths):
        state, sha256 = stored.get(str(path), ("", b""))
        if state == states[index]:
            hashes[index] = sha256
    changed = [index for index in range(len(paths)) if index not in hashes]
    new_hashes = list(pool.map(_hash, [paths[index] for index in changed]))
    hashes.update(zip(changed, new_hashes, strict=True))
    _store_hashes([(str(paths[index]), states[index], hashes[index]) for index in changed])
    return [hashes[index] for index in range(len(paths))]


def _hash(path: Path) -> bytes:
    try:
        check_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _state(path: Path) -> str:
    """Size and times of a file's last change."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _unreadable(path: Path, error: Exception, form: str = "") -> DataError:
    message = " ".join(str(error).split())[:200]
    return DataError(f"'{path}' cannot be read{form}: {message}")


def _database() -> sqlite3.Connection:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "digests.sqlite", timeout=60)
    database.execute(
        "CREATE TABLE IF NOT EXISTS digests "
        "(path TEXT PRIMARY KEY, state TEXT, sha256 BLOB) WITHOUT ROWID"
    )
    return database


def _load_hashes(paths: Sequence[str]) -> Mapping[str, tuple[str, bytes]]:
    """Path -> state and hash, of the paths that have a stored hash."""
    stored: dict[str, tuple[str, bytes]] = {}
    try:
        with closing(_database()) as database:
            for start in range(0, len(paths), _QUERY_ROWS):
                part = paths[start : start + _QUERY_ROWS]
                marks = ",".join("?" * len(part))
                query = f"SELECT path, state, sha256 FROM digests WHERE path IN ({marks})"
                for path, state, sha256 in database.execute(query, part):
                    stored[path] = (state, sha256)
    except (sqlite3.Error, OSError):
        return {}
    return stored


def _store_hashes(rows: Sequence[tuple[str, str, bytes]]) -> None:
    if not rows:
        return
    try:
        with closing(_database()) as database, database:
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
    except (sqlite3.Error, OSError):
        pass  # another process writes, or the disk is full: the files are hashed again next time
