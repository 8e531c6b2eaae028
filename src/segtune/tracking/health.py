"""What a crash may leave in a store: messages held back, runs that nobody works on, broken checkpoints."""

import json
import time
import zipfile
from pathlib import Path

from filelock import FileLock, Timeout

from segtune.errors import ConfigError
from segtune.tracking.outbox import Outbox
from segtune.tracking.runs import (
    OUTBOX,
    TRAININGS,
    WRITER_LOCK,
    RunRecord,
    RunWriter,
    get_run,
    search_runs,
)
from segtune.tracking.store import Store

_SILENT = 3600.0  # seconds without a change after which a run of version 0.1.0 counts as left


def held_back(root: Path) -> list[Path]:
    """Files of messages that could not be sent to the tracking server."""
    return sorted((root / "runs").glob(f"*/{OUTBOX}"))


def broken_outboxes(root: Path) -> list[Path]:
    """Those that hold a line which cannot be read, so that nothing behind it is ever sent."""
    return [path for path in held_back(root) if not _readable(path)]


def undeliverable(store: Store) -> dict[Path, str]:
    """Outboxes whose run was deleted or removed, each with the reason and the way back."""
    found = {}
    for path in held_back(store.root):
        try:
            get_run(store, path.parent.name)
        except ConfigError as error:
            found[path] = str(error)
    return found


def _readable(path: Path) -> bool:
    try:
        return all(isinstance(json.loads(line), dict) for line in path.read_bytes().splitlines())
    except ValueError:
        return False


def mend_outbox(path: Path) -> int:
    """Takes the unreadable lines out of an outbox; returns how many."""
    with FileLock(f"{path}.lock"):
        lines = path.read_bytes().splitlines()
        good = []
        for line in lines:
            try:
                good.append(json.loads(line))
            except ValueError:
                continue
        Outbox(path, lambda message: None).rewrite(good)
    return len(lines) - len(good)


def stray_runs(store: Store) -> list[RunRecord]:
    """Runs of any experiment that are marked as running while no process writes them.

    Those of other machines are not judged, and those of a sweep by the sweep alone.
    """
    found = []
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    for run in search_runs(store, {"segtune.state": "running"}, experiments):
        folder = store.root / "runs" / run.id
        if (
            run.tags.get("segtune.kind") in TRAININGS
            and folder.is_dir()
            and not _is_written(folder)
        ):
            found.append(run)
    return found


def _is_written(folder: Path) -> bool:
    lock = folder / WRITER_LOCK
    if not lock.exists():
        newest = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
        return time.time() - newest < _SILENT
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def end_stray(store: Store, run: RunRecord) -> None:
    """Marks a run as interrupted: it can be resumed."""
    RunWriter(store, run.id).finish("interrupted")


def broken_checkpoints(root: Path) -> list[Path]:
    """Checkpoints that were cut off: a whole one is a zip archive, whose table stands at its end."""
    return [
        path for path in sorted((root / "runs").glob("*/last.ckpt")) if not zipfile.is_zipfile(path)
    ]
