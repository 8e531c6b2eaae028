"""Jobs: videos and large images that a client sends now and asks for later.

A job is a folder `ID/` with `job.json`, the upload and, when it ends, `output/` as `predict` writes
it. The folder is the queue: several servers may share it. A server holds `ID.lock` while it
receives or computes a job, so that no other one touches it; a killed server holds no lock.
"""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from segtune.errors import StorageError
from segtune.runtime.atomic import atomic_file
from segtune.serving.problems import Problem

State = Literal["queued", "running", "done", "failed"]

_ID = re.compile(r"[0-9a-f]{16}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_STATE_FILE, _DELETED, OUTPUT = "job.json", "deleted", "output"
_PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class Job:
    """A job as clients see it.

    Attributes:
        name: the client's name of the upload, for answers.
        options: of `predict`.
        done, total: frames or files, while it runs.
        fault: why it failed.
        uri: the served name that it was sent to; only servers of this name compute it.
        model: the version that computed it.
    """

    id: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    state: State = "queued"
    done: int = 0
    total: int = 0
    fault: str = ""
    uri: str = ""
    model: str = ""
    created: float = 0.0


class JobStore:
    """The jobs in a folder.

    Args:
        max_bytes: size of the folder from which on new jobs are refused.
        uri: the served name; the jobs of others stay for their own server.

    Raises:
        StorageError: the folder cannot be written.
    """

    def __init__(self, root: Path, max_bytes: float, uri: str = "") -> None:
        self.root, self.max_bytes, self.uri = root, max_bytes, uri
        self.changed = threading.Event()  # set when a job was added
        self._held: dict[str, FileLock] = {}
        self._ended: set[str] = set()
        # held for moments: while room is looked for and taken
        self._room = FileLock(root / ".room.lock", timeout=_PATIENCE)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with self._room:
                pass
        except OSError as error:
            raise StorageError(
                f"jobs={root}: {error.strerror or error}; name a folder that can be written."
            ) from None

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        jobs = []
        for job_id in self._ids():
            with suppress(Problem):
                jobs.append(self.get(job_id))
        return sorted(jobs, key=lambda job: -job.created)

    def of_others(self) -> dict[str, int]:
        """Served name -> number of its unfinished jobs, for the names that are not served here."""
        jobs = [job for job in self.all() if job.state in ("queued", "running")]
        return Counter(job.uri for job in jobs if job.uri not in ("", self.uri))

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            Problem: there is none of this id (404).
        """
        folder = self.folder(job_id)
        try:
            if not (folder / _DELETED).exists():
                state = json.loads((folder / _STATE_FILE).read_text("utf-8"))
                return Job(**{key: state[key] for key in state if key in Job.__dataclass_fields__})
        except (OSError, ValueError, TypeError):
            pass
        raise Problem(404, f"there is no job '{job_id[:40]}'.")

    def reserve(self, name: str, options: dict[str, Any], size: int) -> tuple[Job, Path]:
        """A new job and an empty file of `size` bytes for its upload; `start` begins it.

        Raises:
            Problem: the folder of jobs has no room for it (429).
        """
        job = Job(secrets.token_hex(8), name, options, uri=self.uri, created=time.time())
        folder, suffix = self.folder(job.id), Path(name).suffix.lower()
        upload = folder / f"upload{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        try:
            with self._room:
                shortage = self.shortage(size)
                if shortage:
                    raise Problem(429, shortage, 60)
                self._hold(job.id)
                try:
                    folder.mkdir()
                    with upload.open("wb") as file:
                        file.truncate(size)  # other uploads see how much room is taken
                except BaseException:
                    self.discard(job.id)
                    raise
        except Timeout:
            raise Problem(429, "other uploads begin just now; come again.", 5) from None
        return job, upload

    def shortage(self, more: int = 0) -> str:
        """Why the folder of jobs has no room for `more` bytes; empty while it has."""
        used = 0
        for folder, _, names in os.walk(self.root):  # passes over folders that vanish
            for file in names:
                with suppress(OSError):  # removed meanwhile
                    used += os.lstat(os.path.join(folder, file)).st_size
        if used + more <= self.max_bytes:
            return ""
        upload = f", and the upload may take {more / 1e9:.2g} GB" if more else ""
        used_share = f"{used / 1e9:.2g} of {self.max_bytes / 1e9:g} GB"
        return f"jobs use {used_share}{upload}: delete finished ones (DELETE /v1/jobs/ID)."

    def start(self, job: Job) -> None:
        """Put a job whose upload is complete into the queue."""
        self.write(job)
        self.release(job.id)
        self.changed.set()

    def discard(self, job_id: str) -> None:
        """Remove a job that this server holds."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)
        self._lock_path(job_id).unlink(missing_ok=True)
        self.release(job_id)

    def delete(self, job_id: str) -> None:
        """Stop a job and remove its files.

        Raises:
            Problem: there is none of this id (404).
        """
        job = self.get(job_id)
        with suppress(FileNotFoundError):  # another request has deleted it
            (self.folder(job.id) / _DELETED).touch()
        self._taken(job.id)  # a server that computes it removes it itself

    def is_deleted(self, job_id: str) -> bool:
        """Whether a client has deleted a job that a server still holds."""
        return (self.folder(job_id) / _DELETED).exists()

    def take(self) -> Job | None:
        """The oldest unfinished job that no server holds; hold it until `release` or `discard`.

        Uploads that a kill has cut, and deleted jobs, are removed.
        """
        waiting = []
        for job_id in self._ids():
            if job_id in self._ended:
                continue
            created, is_ours = self._look(job_id)
            if is_ours:
                waiting.append((created, job_id))
        for _, job_id in sorted(waiting):
            job = self._taken(job_id)
            if job is not None and job.uri in ("", self.uri):
                return job
            if job is not None:
                self.release(job_id)
        return None

    def _look(self, job_id: str) -> tuple[float, bool]:
        """When a job was made, and whether this server may compute, or remove, it."""
        try:
            job = self.get(job_id)
        except Problem:  # an upload that still arrives, or one that a kill has cut
            return 0.0, True
        if job.state in ("done", "failed"):
            self._ended.add(job_id)
            return job.created, False
        return job.created, job.uri in ("", self.uri)

    def release(self, job_id: str) -> None:
        """Hold a job no longer."""
        self._held.pop(job_id).release()

    def write(self, job: Job) -> None:
        """Store the state of a job that this server holds."""
        with atomic_file(self.folder(job.id) / _STATE_FILE) as unfinished:
            unfinished.write_text(json.dumps(asdict(job)), encoding="utf-8")

    def files(self, job_id: str) -> list[str]:
        """The files of a finished job, relative to its output.

        Raises:
            Problem: there is no such job (404), or it is not finished (409).
        """
        output = self._output(job_id)
        names = []
        for folder, _, files in os.walk(output):
            inside = Path(folder).relative_to(output)
            names += [(inside / file).as_posix() for file in files]
        return sorted(name for name in names if not name.startswith("."))

    def file(self, job_id: str, name: str) -> Path:
        """One file of a finished job.

        Raises:
            Problem: there is none of this name (404).
        """
        if name not in self.files(job_id):  # names of existing files alone: no path is built
            raise Problem(404, f"job {job_id} has no file '{name[:200]}'.")
        return self._output(job_id) / name

    def folder(self, job_id: str) -> Path:
        """The folder of a job.

        Raises:
            Problem: this is no id (404).
        """
        if not _ID.fullmatch(job_id):
            raise Problem(404, f"there is no job '{job_id[:40]}'.")
        return self.root / job_id

    def _ids(self) -> Iterator[str]:
        return (path.name for path in list(self.root.iterdir()) if _ID.fullmatch(path.name))

    def _output(self, job_id: str) -> Path:
        job = self.get(job_id)
        if job.state != "done":
            raise Problem(409, f"job {job_id} is {job.state}. {job.fault}".rstrip())
        return self.folder(job_id) / OUTPUT

    def _lock_path(self, job_id: str) -> Path:
        return self.root / f"{job_id}.lock"

    def _hold(self, job_id: str) -> None:
        """Hold a job.

        Raises:
            Timeout: another server, or another thread of this one, holds it.
        """
        # an upload is begun in one thread and ended in another
        lock = FileLock(self._lock_path(job_id), timeout=0, thread_local=False)
        lock.acquire()
        self._held[job_id] = lock

    def _taken(self, job_id: str) -> Job | None:
        """Hold a job and return it as it is now; None if another server has it or ended it.

        A folder without a job is removed: an upload that a kill has cut, or a deleted job.
        """
        try:
            self._hold(job_id)
        except Timeout:
            return None
        folder = self.folder(job_id)
        if (folder / _DELETED).exists() or not (folder / _STATE_FILE).exists():
            self.discard(job_id)
            return None
        try:
            job = self.get(job_id)
        except Problem:  # its state cannot be read now
            self.release(job_id)
            return None
        if job.state in ("done", "failed"):
            self.release(job_id)
            return None
        return job
