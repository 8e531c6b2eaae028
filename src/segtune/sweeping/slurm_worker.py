"""A worker as a job of Slurm's, through submitit: preempted, it gives its trial back and is queued again."""

import subprocess

from submitit.core.utils import DelayedSubmission
from submitit.helpers import Checkpointable

from segtune.sweeping.worker import WorkerTask, command, start


class SlurmWorker(Checkpointable):
    """Runs one worker to its end, and returns its exit code."""

    def __init__(self, task: WorkerTask, label: str) -> None:
        self.task, self.label = task, label
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """The job."""
        self._process = start(command(self.task, self.label), self.task.to_json())
        return self._process.wait()

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit before the job is taken away: the trial is given back, and the worker queued again."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(SlurmWorker(self.task, self.label))
