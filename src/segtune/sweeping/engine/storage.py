"""The storage of a study: a journal file on this machine, or a shared PostgreSQL database."""

import json
import time
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from segtune.errors import StorageError
from segtune.runtime.lines import append_whole
from segtune.sweeping.engine.database import open_database
from segtune.sweeping.engine.locks import ProcessLock
from segtune.sweeping.engine.study_storage import StudyStorage, patient


def open_storage(folder: Path, url: str | None, name: str) -> StudyStorage:
    """Open or create the storage of a sweep.

    Args:
        folder: holds the journal file and its locks.
        url: `postgresql://USER@HOST/DATABASE`; None for the journal file.
        name: of the study.

    Raises:
        ConfigError: the URL is of another kind, or its driver is not installed.
        StorageError: the storage cannot be read, written or reached.
    """
    if url is None:
        return _journal(folder)
    return open_database(url, name)


def _journal(folder: Path) -> StudyStorage:
    path = folder / "journal.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(_JournalFile(path))
    except OSError as error:
        raise StorageError(
            f"the study in '{folder}' cannot be written: {error}. Choose another folder."
        ) from None
    except Exception as error:  # a damaged line may raise anything
        raise StorageError(
            f"the study '{path}' cannot be read ({type(error).__name__}: {error}). Restore it from "
            "a copy."
        ) from None
    return StudyStorage(patient(storage), lambda: ProcessLock(folder / "claim.lock"), time.time)


class _JournalFile(JournalFileBackend):
    """Optuna's journal with atomic appends: an incomplete line would make the file unreadable."""

    def __init__(self, path: Path) -> None:
        # Optuna's own lock stays for another 30 seconds when its holder is killed
        self.path, self.lock = path, ProcessLock(path.with_suffix(".lock"))
        lock: Any = self.lock
        super().__init__(str(path), lock_obj=lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines; a failed write, as on a full disk, leaves the file as it was."""
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        text = "".join(lines).encode()
        self.lock.acquire()
        try:
            append_whole(self.path, text)
        finally:
            self.lock.release()
