"""A lock whose holder is stopped does not block the others for good."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from segtune.errors import StorageError
from segtune.sweeping.engine import locks
from segtune.sweeping.engine.locks import ProcessLock, _holder

HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """A process that holds the lock `x.lock`."""
    monkeypatch.setattr(locks, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(locks, "_STOPPED_FOR", 0.3)
    monkeypatch.setattr(locks, "_PATIENCE", 1.0)
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "x.lock")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_stopped_holder_is_ended_and_the_lock_is_free(tmp_path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    with ProcessLock(tmp_path / "x.lock"):
        assert holder.wait(10) == -signal.SIGKILL


def test_a_holder_that_works_is_not_ended_and_waiting_for_it_has_an_end(tmp_path, holder):
    with pytest.raises(StorageError, match=rf"held by process {holder.pid} for"):
        ProcessLock(tmp_path / "x.lock").acquire()
    assert holder.poll() is None


def test_a_holder_that_is_stopped_for_a_moment_is_not_ended(tmp_path, holder):
    for _ in range(3):
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(StorageError), pytest.MonkeyPatch.context() as patch:
            patch.setattr(locks, "_PATIENCE", 0.15)
            ProcessLock(tmp_path / "x.lock").acquire()
        os.kill(holder.pid, signal.SIGCONT)
        time.sleep(0.05)
    assert holder.poll() is None


def test_the_holder_is_found_by_its_open_file(tmp_path, holder):
    assert _holder(tmp_path / "x.lock") == psutil.Process(holder.pid)
    assert _holder(tmp_path / "another.lock") is None
    (tmp_path / "free.lock").touch()
    assert _holder(tmp_path / "free.lock") is None
