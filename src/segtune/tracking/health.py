"""Find and repair damage after a crash: waiting messages, stray runs, broken checkpoints."""

import time
import zipfile
from pathlib import Path

from filelock import FileLock, Timeout

from segtune.errors import ConfigError
from segtune.tracking.run_writer import LOCKED_KINDS, OUTBOX, WRITER_LOCK, RunWriter
from segtune.tracking.runs import RunRecord, get_run, search_runs
from segtune.tracking.store import Store

# seconds without a change after which a run of segtune 0.1.0, which has no lock, counts as stray
_SILENT = 3600.0


def outbox_files(root: Path) -> list[Path]:
    """Return the files of messages that wait for the tracking server."""
    return sorted((root / "runs").glob(f"*/{OUTBOX}"))


def refused_files(root: Path) -> list[Path]:
    """Return the files of messages that the tracking server refused."""
    return sorted((root / "runs").glob("*/outbox.refused.jsonl"))


def undeliverable(store: Store) -> dict[Path, str]:
    """Return the outboxes whose run was deleted, each with the error message."""
    messages = {}
    for path in outbox_files(store.root):
        try:
            get_run(store, path.parent.name)
        except ConfigError as error:
            messages[path] = str(error)
    return messages


def stray_runs(store: Store) -> list[RunRecord]:
    """Return runs of any experiment that are marked as running while no process writes them.

    Runs of other machines and trials of sweeps are left out: a sweep checks its own trials.
    """
    strays = []
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    for run in search_runs(store, {"segtune.state": "running"}, experiments):
        if run.tags.get("segtune.kind") not in LOCKED_KINDS:
            continue
        folder = store.root / "runs" / run.id
        if folder.is_dir() and not _has_writer(folder):
            strays.append(run)
    return strays


def end_stray(store: Store, run: RunRecord) -> None:
    """Mark a run as interrupted, so that it can be resumed."""
    RunWriter(store, run.id).finish("interrupted")


def broken_checkpoints(root: Path) -> list[Path]:
    """Return truncated checkpoints: a complete one is a zip archive with its index at the end."""
    checkpoints = sorted((root / "runs").glob("*/last.ckpt"))
    return [path for path in checkpoints if not (path.is_file() and zipfile.is_zipfile(path))]


def _has_writer(folder: Path) -> bool:
    lock = folder / WRITER_LOCK
    if not lock.exists():
        newest = max((path.stat().st_mtime for path in folder.rglob("*")), default=0.0)
        return time.time() - newest < _SILENT
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
