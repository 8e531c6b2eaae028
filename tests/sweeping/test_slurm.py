"""A worker in a Slurm job: preemption, and jobs that end before their sweep."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from segtune.errors import Interrupted
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.launchers import _is_lost, _slurm_executor
from segtune.sweeping.worker import WorkerTask
from tests.sweeping.test_study import make_spec

pytest.importorskip("submitit", reason="needs submitit: pip install 'segtune[slurm]'")

from submitit.core.job_environment import SignalHandler
from submitit.core.utils import DelayedSubmission

from segtune.sweeping import slurm_worker


def test_a_job_imports_nothing_from_the_working_folder(tmp_path):
    task = WorkerTask(make_spec(slurm={"cluster": "local"}), tmp_path, parent="", threads=1)
    words = shlex.split(_slurm_executor(task)._executor._submitit_command_str)
    assert words[:2] == [sys.executable, "-P"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_preempted_job_ends_its_worker_and_is_queued_again(tmp_path, monkeypatch, number):
    process = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(slurm_worker, "start", lambda *_: process)
    task = WorkerTask(make_spec(), tmp_path, parent="", threads=1)
    job, requeued = slurm_worker.SlurmWorker(task, "w"), []
    slurm = SimpleNamespace(global_rank=0, _requeue=requeued.append)
    paths = SimpleNamespace(submitted_pickle=tmp_path / "job.pkl")
    submission = DelayedSubmission(job)
    submission.set_timeout(60, 3)
    handler = SignalHandler(slurm, paths, submission)
    before = signal.signal(number, handler.checkpoint_and_try_requeue)
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    try:
        with pytest.raises(SystemExit):
            job()  # waits for the process when the signal comes
    finally:
        signal.signal(number, before)
        process.kill()
    assert process.wait() == -signal.SIGTERM and requeued == [3]
    again = DelayedSubmission.load(paths.submitted_pickle).function
    assert isinstance(again, slurm_worker.SlurmWorker) and again.task == task


def test_a_job_that_ends_by_a_signal_is_replaced_unless_the_sweep_was_stopped(tmp_path):
    spec = make_spec()
    study, task = SweepStudy(tmp_path, spec), WorkerTask(spec, tmp_path, parent="", threads=1)
    codes = (0, -1, Interrupted.exit_code)
    assert [_is_lost(code, task) for code in codes] == [False, True, True]
    study.request_stop()
    assert [_is_lost(code, task) for code in codes] == [False, True, False]
