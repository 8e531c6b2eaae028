"""Let a store work wherever it lies: its database holds absolute locations of its artifacts.

After a move they lead nowhere, and a copy would read and write the files of the original. So the
locations are rewritten when the store is opened at another place.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
ARTIFACTS = "artifacts"


def follow(root: Path) -> list[str]:
    """Rewrite the locations of a store that was moved or copied; return the earlier folders.

    Locations of experiments that the user put elsewhere stay as they are.

    Raises:
        sqlite3.DatabaseError: the database cannot be read or written.
    """
    with closing(sqlite3.connect(root / "mlflow.db", timeout=60)) as database:
        if not _has_tables(database):
            return []
        earlier = [folder for folder in _folders(database) if _has_moved(database, folder, root)]
        for folder in earlier:
            with database:  # all columns or none
                for table, column in _COLUMNS:
                    _rewrite(database, table, column, (folder, root / ARTIFACTS))
    return [str(folder.parent) for folder in earlier]


def has_moved(root: Path) -> bool:
    """Whether `follow` would rewrite the locations of a store; only reads.

    Raises:
        sqlite3.DatabaseError: the database cannot be read.
    """
    address = f"{(root / 'mlflow.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=60)) as database:
        if not _has_tables(database):
            return False
        return any(_has_moved(database, folder, root) for folder in _folders(database))


def _has_tables(database: sqlite3.Connection) -> bool:
    """Whether the database has all columns; another version of MLflow migrates it first."""
    for table, column in _COLUMNS:
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        if column not in names:
            return False
    return True


def _folders(database: sqlite3.Connection) -> Iterator[Path]:
    """Yield the local folders of the experiments that are named as ours are."""
    query = "SELECT DISTINCT artifact_location FROM experiments"
    for (location,) in database.execute(query).fetchall():
        parts = urlsplit(location or "")
        path = Path(unquote(parts.path))
        if parts.scheme == "file" and path.name == ARTIFACTS:
            yield path


def _has_moved(database: sqlite3.Connection, folder: Path, root: Path) -> bool:
    """Whether the files that were in a folder now lie under the root."""
    here = root / ARTIFACTS
    if folder == here or (folder.exists() and here.exists() and os.path.samefile(folder, here)):
        return False
    query = (
        "SELECT r.run_uuid FROM runs r JOIN experiments e USING (experiment_id) "
        "WHERE e.artifact_location = ?"
    )
    runs = [row[0] for row in database.execute(query, [folder.as_uri()])]
    if not runs:
        return not folder.exists()
    return any((here / run).exists() for run in runs)


def _rewrite(
    database: sqlite3.Connection, table: str, column: str, folders: tuple[Path, Path]
) -> None:
    old, new = folders
    for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (after, len(before) + 1, before, len(before) + 1, before + "/"),
        )
