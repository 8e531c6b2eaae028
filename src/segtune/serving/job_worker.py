"""The thread of a server that computes jobs, one after the other."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from segtune.errors import Interrupted, SegtuneError, StorageError
from segtune.runtime.log import to_stderr
from segtune.serving.jobs import OUTPUT, Job, JobStore

_LOOK_EVERY = 5.0  # seconds between two looks for jobs of servers that were killed
_WRITE_EVERY = 1.0  # seconds between two writes of a running job's progress
_COUNTING_SHARE = 0.05  # of the time, at most, for counting the bytes of the folder

Progress = Callable[[int, int], None]
"""(frames or files that are done, all); raises Interrupted when the job is to stop."""


class Predictor(Protocol):
    """One version of the served model."""

    @property
    def version(self) -> str:
        """The version."""

    def predict(
        self, upload: Path, output: Path, options: dict[str, Any], progress: Progress
    ) -> None:
        """Write the outputs of an upload, or the rest of them."""


class JobWorker:
    """Computes the jobs of a store. `close` ends the thread.

    Args:
        current: returns the version that a job which begins now gets.
    """

    def __init__(self, store: JobStore, current: Callable[[], Predictor]) -> None:
        self._store, self._current = store, current
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the running job after its current frame; the next server resumes it."""
        self._is_closing = True
        self._store.changed.set()
        self._thread.join()

    def _work(self) -> None:
        store = self._store
        while not self._is_closing:
            store.changed.clear()
            try:
                job = store.take()
                if job is not None:
                    self._run(job)
                    continue
            except Exception as error:  # a full disk, say: the next look tries again
                to_stderr(f"jobs in '{store.root}': {type(error).__name__}: {error}")
            if not self._is_closing:
                store.changed.wait(_LOOK_EVERY)

    def _run(self, job: Job) -> None:
        """Compute a job that this server holds, and let it go."""
        store = self._store
        try:
            job = self._result(job)
            if not store.is_deleted(job.id):
                store.write(job)
        finally:
            if store.is_deleted(job.id):
                store.discard(job.id)
            else:
                store.release(job.id)

    def _result(self, job: Job) -> Job:
        """Compute a job; return it as it is then."""
        folder = self._store.folder(job.id)
        output = folder / OUTPUT
        if (output / "regions.json").exists():  # a kill came before the state was written
            return replace(job, state="done", done=job.total)
        predictor = self._current()
        report = _Report(self, replace(job, state="running", model=predictor.version))
        upload = next(folder.glob("upload*"), folder / "upload")
        try:
            report.write()
            predictor.predict(upload, output, job.options, report)
            return replace(report.job, state="done", done=report.job.total)
        except Interrupted:
            return replace(report.job, state="queued")  # the next server goes on, if it may
        except (SegtuneError, OSError) as error:
            fault = str(error).replace(str(upload), job.name)
        except Exception as error:  # one job never ends the others
            fault = f"{type(error).__name__}: {error}"
        return replace(report.job, state="failed", fault=fault)

    def check(self, job: Job) -> None:
        """Raise if a job is to stop.

        Raises:
            Interrupted: the server ends, or the job was deleted.
        """
        if self._is_closing or self._store.is_deleted(job.id):
            raise Interrupted("the job was stopped.")


class _Report:
    """Takes the progress of a job, and stops it where it must not go on."""

    def __init__(self, worker: JobWorker, job: Job) -> None:
        self.job = job
        self._worker, self._store = worker, worker._store
        self._written = self._counted = 0.0

    def __call__(self, done: int, total: int) -> None:
        self._worker.check(self.job)
        self.job = replace(self.job, done=done, total=total)
        now = time.monotonic()
        if now > self._written + _WRITE_EVERY:
            self.write()
        if now > self._counted:
            shortage = self._store.shortage()
            took = time.monotonic() - now
            self._counted = now + max(_WRITE_EVERY, took / _COUNTING_SHARE)
            if shortage:
                raise StorageError(shortage)

    def write(self) -> None:
        """Store the state of the job."""
        self._store.write(self.job)
        self._written = time.monotonic()
