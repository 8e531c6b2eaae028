"""The place of a sweep's study: the database's URL is kept in the sweep's folder.

The URL may hold a password. It is in a file that only its owner may read, and in no run, study or
process list.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from segtune.errors import ConfigError, StorageError
from segtune.runtime.atomic import atomic_file

_FILE = "storage.json"
_DAMAGE = (ValueError, KeyError, TypeError, RecursionError)


def sweep_folder(root: str | Path, name: str) -> Path:
    """Return the folder of a sweep under a store's root."""
    return Path(root).expanduser().absolute() / "sweeps" / name


def remember(folder: Path, url: str | None) -> None:
    """Keep the URL of a study's database in the sweep's folder; None keeps nothing.

    Raises:
        StorageError: the folder cannot be written.
    """
    if url is None:
        return
    with suppress(OSError, *_DAMAGE):  # then it is written anew
        if _read(folder) == url:
            return
    try:
        with atomic_file(folder / _FILE, shared=True) as unfinished:
            unfinished.touch(mode=0o600)
            unfinished.write_text(json.dumps({"storage": url}), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the sweep's folder '{folder}' cannot be written: {error}. Set tracking.root."
        ) from None


def remembered(folder: Path) -> str | None:
    """Return the URL of a study's database; None if the study is a file in the folder.

    Raises:
        ConfigError: only another user may read the URL, or its file is damaged.
    """
    try:
        return _read(folder)
    except PermissionError:
        owner = (folder / _FILE).stat().st_uid
        raise ConfigError(
            f"sweep '{folder.name}' keeps its study in a database; only its owner (user id "
            f"{owner}) may read the address in '{folder / _FILE}'. Give it: "
            "sweep.storage=postgresql://USER@HOST/DATABASE"
        ) from None
    except _DAMAGE:
        raise ConfigError(
            f"'{folder / _FILE}' cannot be read. Give the study's address again: "
            "sweep.storage=postgresql://USER@HOST/DATABASE"
        ) from None


def address(folder: Path) -> str | None:
    """Return the URL of a study's database: of the folder, else SEGTUNE_STORAGE; None for a file.

    The variable keeps a password off the command line. A study that has a file stays in its file.

    Raises:
        ConfigError: see `remembered`.
    """
    known = remembered(folder)
    if known is not None or (folder / "journal.log").is_file():
        return known
    return os.environ.get("SEGTUNE_STORAGE") or None


def _read(folder: Path) -> str | None:
    path = folder / _FILE
    if not path.is_file():
        return None
    url = json.loads(path.read_text(encoding="utf-8"))["storage"]
    if not isinstance(url, str):
        raise TypeError(f"no address: {url}")
    return url
