"""A worker as a Slurm job through submitit."""

import contextlib
import os
import signal
import subprocess

from submitit.core.utils import DelayedSubmission
from submitit.helpers import Checkpointable

from segtune.sweeping.worker import WorkerTask, command, start


class SlurmWorker(Checkpointable):
    """Runs one worker to its end; the result of the job is the worker's exit code."""

    def __init__(self, task: WorkerTask, label: str) -> None:
        self.task, self.label = task, label
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the job."""
        self._process = start(command(self.task, self.label), self.task.to_json())
        return self._process.wait()

    def checkpoint(self) -> DelayedSubmission:
        """Return the trial to the queue and submit the worker again; submitit calls this.

        It does so in a signal handler, while `__call__` waits for the process and holds the lock of
        the Popen object. The methods of that object would wait for the lock forever.
        """
        if self._process is not None:
            # both errors: the worker has ended
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(SlurmWorker(self.task, self.label))
