"""Jobs: videos and large images that a client sends now and asks for later.

A job is a folder `ID/` with `job.json`, the upload and, when it ends, `output/` as `predict` writes
it. Jobs that a killed server left unfinished go on when the next one starts: `predict` resumes.
"""

import json
import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from segtune.errors import Interrupted, SegtuneError, StorageError
from segtune.runtime.atomic import atomic_file
from segtune.runtime.log import to_stderr
from segtune.serving.problems import Problem

State = Literal["queued", "running", "done", "failed"]

_ID = re.compile(r"[0-9a-f]{16}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_STATE_FILE, _OUTPUT = "job.json", "output"
_WRITE_EVERY = 1.0  # seconds between two writes of a running job's progress


@dataclass(frozen=True)
class Job:
    """A job as clients see it.

    Attributes:
        name: the client's name of the upload, for answers.
        options: of `predict`.
        done, total: frames or files, while it runs.
        fault: why it failed.
        model: the version that computed it.
    """

    id: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    state: State = "queued"
    done: int = 0
    total: int = 0
    fault: str = ""
    model: str = ""
    created: float = 0.0


Progress = Callable[[int, int], None]
"""(frames or files that are done, all); raises Interrupted when the job is to stop."""


class Predictor(Protocol):
    """The model that works on the jobs."""

    @property
    def version(self) -> str:
        """The version that a job which begins now gets."""

    def predict(
        self, upload: Path, output: Path, options: dict[str, Any], fresh: bool, progress: Progress
    ) -> None:
        """Write the outputs of an upload; `fresh` removes those of another version."""


class JobStore:
    """The jobs in a folder, and the thread that works on them, one after the other.

    Args:
        max_bytes: size of the folder from which on new jobs are refused.
    """

    def __init__(self, root: Path, max_bytes: float, predictor: Predictor) -> None:
        self.root, self.max_bytes, self._predictor = root, max_bytes, predictor
        root.mkdir(parents=True, exist_ok=True)
        for folder in root.iterdir():
            if _ID.fullmatch(folder.name) and not (folder / _STATE_FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)  # an upload that a kill has cut
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._stopped: set[str] = set()
        self._running: str | None = None
        self._closing = False
        for job in sorted(self.all(), key=lambda job: job.created):
            if job.state in ("queued", "running"):
                self.start(replace(job, state="queued"))
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        jobs = []
        for folder in self.root.iterdir():
            if _ID.fullmatch(folder.name):
                with suppress(Problem):
                    jobs.append(self.get(folder.name))
        return sorted(jobs, key=lambda job: -job.created)

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            Problem: there is none of this id (404).
        """
        try:
            return Job(**json.loads((self._folder(job_id) / _STATE_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            raise Problem(404, f"there is no job '{job_id[:40]}'.") from None

    def reserve(self, name: str, options: dict[str, Any]) -> tuple[Job, Path]:
        """A new job and the file that its upload goes to; `start` puts it into the queue.

        Raises:
            Problem: the folder of jobs is full (429).
        """
        shortage = self._shortage()
        if shortage:
            raise Problem(429, shortage, 60)
        job = Job(secrets.token_hex(8), name, options, created=time.time())
        self._folder(job.id).mkdir(parents=True)
        suffix = Path(name).suffix.lower()
        return job, self._folder(job.id) / f"upload{suffix if _SUFFIX.fullmatch(suffix) else ''}"

    def _shortage(self) -> str:
        """Why the folder of jobs takes no more; empty while it has room."""
        used = 0
        for file in self.root.rglob("*"):
            with suppress(OSError):  # removed meanwhile
                used += file.stat().st_size if file.is_file() else 0
        if used < self.max_bytes:
            return ""
        limit = f"{used / 1e9:.1f} of {self.max_bytes / 1e9:g} GB"
        return f"jobs use {limit}: delete finished ones (DELETE /v1/jobs/ID)."

    def start(self, job: Job) -> None:
        """Put a job whose upload is complete into the queue."""
        self._write(job)
        self._waiting.put(job.id)

    def discard(self, job: Job) -> None:
        """Remove a job that was not started."""
        shutil.rmtree(self._folder(job.id), ignore_errors=True)

    def delete(self, job_id: str) -> None:
        """Stop a job and remove its files.

        Raises:
            Problem: there is none of this id (404).
        """
        job = self.get(job_id)
        with self._lock:
            self._stopped.add(job.id)
            if job.id != self._running:  # the worker removes the one that it works on
                self.discard(job)

    def files(self, job_id: str) -> list[str]:
        """The files of a finished job, relative to its output.

        Raises:
            Problem: there is no such job (404), or it is not finished (409).
        """
        output = self._output(job_id)
        files = [path for path in output.rglob("*") if path.is_file()]
        return sorted(path.relative_to(output).as_posix() for path in files)

    def file(self, job_id: str, name: str) -> Path:
        """One file of a finished job.

        Raises:
            Problem: there is none of this name (404).
        """
        if name not in self.files(job_id):  # names of existing files alone: no path is built
            raise Problem(404, f"job {job_id} has no file '{name[:200]}'.")
        return self._output(job_id) / name

    def close(self) -> None:
        """Stop the running job after its current frame; the next server resumes it."""
        self._closing = True
        self._waiting.put(None)
        self._thread.join()

    def _output(self, job_id: str) -> Path:
        job = self.get(job_id)
        if job.state != "done":
            raise Problem(409, f"job {job_id} is {job.state}. {job.fault}".rstrip())
        return self._folder(job_id) / _OUTPUT

    def _folder(self, job_id: str) -> Path:
        if not _ID.fullmatch(job_id):
            raise Problem(404, f"there is no job '{job_id[:40]}'.")
        return self.root / job_id

    def _write(self, job: Job) -> None:
        with atomic_file(self._folder(job.id) / _STATE_FILE) as unfinished:
            unfinished.write_text(json.dumps(asdict(job)), encoding="utf-8")

    def _work(self) -> None:
        while (job_id := self._waiting.get()) is not None and not self._closing:
            try:
                self._run(self.get(job_id))
            except Problem:
                pass  # deleted before its turn
            except Exception as error:  # its state cannot be written: the next server tries again
                to_stderr(f"job {job_id}: {type(error).__name__}: {error}")
            finally:
                self._running = None

    def _run(self, job: Job) -> None:
        with self._lock:
            if job.id in self._stopped:
                return
            self._running = job.id
            version, fresh = self._predictor.version, job.model != self._predictor.version
            job = replace(job, state="running", model=version)
            self._write(job)
        folder, written = self._folder(job.id), 0.0

        def progress(done: int, total: int) -> None:
            nonlocal job, written
            if self._closing or job.id in self._stopped:
                raise Interrupted("the job was stopped.")
            job = replace(job, done=done, total=total)
            if time.monotonic() - written > _WRITE_EVERY:
                written = time.monotonic()
                self._write(job)
                shortage = self._shortage()
                if shortage:
                    raise StorageError(shortage)

        try:
            upload = next(folder.glob("upload*"), folder / "upload")
            self._predictor.predict(upload, folder / _OUTPUT, job.options, fresh, progress)
            job = replace(job, state="done", done=job.total)
        except Interrupted:
            pass  # goes on in the next server, unless it was deleted
        except (SegtuneError, OSError) as error:
            job = replace(job, state="failed", fault=str(error).replace(str(upload), job.name))
        except Exception as error:  # one job never ends the others
            job = replace(job, state="failed", fault=f"{type(error).__name__}: {error}")
        with self._lock:
            self._running = None
            if job.id in self._stopped:
                self.discard(job)
            else:
                self._write(job)
