"""A worker's supervisor ends with its launcher, even if that is killed while the worker loads."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from segtune.errors import ConfigError, Interrupted
from segtune.runtime.signals import StopRequest
from segtune.sweeping import worker
from segtune.sweeping.worker import WorkerTask, _wait, start
from tests.sweeping.test_study import make_spec


def test_a_worker_gets_the_process_id_of_its_launcher_and_its_task():
    words = [sys.executable, "-c", "import sys; print(sys.argv[1], sys.stdin.read())"]
    with start(words, "a task", stdout=subprocess.PIPE) as process:
        assert process.stdout.read().decode().split(maxsplit=1) == [str(os.getpid()), "a task\n"]


def test_a_worker_ends_if_its_launcher_is_gone_at_the_first_look():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    stop = StopRequest()
    assert _wait(child, stop, launcher=2**22 + 1) < 0  # no process has such an id
    assert stop.requested and not child.is_alive()


def test_a_stop_before_the_child_listens_is_not_lost(monkeypatch):
    def first_thread(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)  # the child has no handler of its own yet
        return threading.Thread(*args, **options)

    def pull(task, space, stop, label, on_claim):
        if stop.requested:
            raise Interrupted("stopped")

    monkeypatch.setattr(worker, "threading", SimpleNamespace(Thread=first_thread))
    monkeypatch.setattr(worker, "build_space", lambda spec: None)
    monkeypatch.setattr(worker, "pull_trials", pull)
    stop, task = StopRequest(), SimpleNamespace(spec=None)
    with stop.listening():
        code = worker.supervise(task, "w", os.getppid(), stop)
    assert code == Interrupted.exit_code  # 0 if the child had lost the signal


def test_no_child_is_started_for_a_launcher_that_is_gone(monkeypatch):
    monkeypatch.setattr(worker, "build_space", lambda spec: None)
    monkeypatch.setattr(worker, "_wait", None)  # calling it would fail
    code = worker.supervise(SimpleNamespace(spec=None), "w", 2**22 + 1, StopRequest())
    assert code == Interrupted.exit_code


def test_a_space_that_cannot_be_built_ends_a_worker_with_one_message(tmp_path, monkeypatch, capsys):
    def build_space(spec):
        raise ConfigError("the dataset is not on this machine")

    monkeypatch.setattr(worker, "build_space", build_space)
    task = WorkerTask(make_spec(), tmp_path, parent="", threads=1)
    assert worker.main(task.to_json(), "w", os.getppid()) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert err == "ConfigError: the dataset is not on this machine\n"
