"""A worker's supervisor ends with its launcher, even if that is killed while the worker loads."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from segtune.errors import ConfigError, Interrupted
from segtune.runtime.signals import StopRequest
from segtune.sweeping import worker
from segtune.sweeping.engine import children
from segtune.sweeping.engine.children import supervise
from segtune.sweeping.worker import WorkerTask, command, start
from tests.sweeping.test_study import make_spec


def test_a_worker_gets_the_process_id_of_its_launcher_and_its_task():
    words = [sys.executable, "-c", "import sys; print(sys.argv[1], sys.stdin.read())"]
    with start(words, "a task", stdout=subprocess.PIPE) as process:
        assert process.stdout.read().decode().split(maxsplit=1) == [str(os.getpid()), "a task\n"]


def test_a_worker_and_what_it_starts_import_nothing_from_the_working_folder(tmp_path):
    (tmp_path / "tenacity.py").write_text("raise SystemExit('a data file ran')")
    task = WorkerTask(make_spec(), tmp_path, parent="", threads=1)
    assert command(task, "worker")[:2] == [sys.executable, "-P"]
    inner = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', '{}']))"
    for code in ("import tenacity", inner.format("import tenacity")):
        with start([sys.executable, "-c", code], "a task") as process:
            assert process.wait() == 0


def test_a_worker_ends_if_its_launcher_is_gone():
    stop, looks = StopRequest(), iter([False])

    def pull(on_claim):
        while not stop.requested:
            time.sleep(0.05)
        raise Interrupted("stopped")

    code = supervise(1, lambda _: pull, stop, print, lambda: next(looks, True))
    assert code == Interrupted.exit_code and stop.requested
    assert not multiprocessing.active_children()


def test_a_stop_before_the_child_listens_is_not_lost(monkeypatch):
    def first_thread(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)  # the child has no handler of its own yet
        return threading.Thread(*args, **options)

    def pull(on_claim):
        if stop.requested:
            raise Interrupted("stopped")

    monkeypatch.setattr(children, "threading", SimpleNamespace(Thread=first_thread))
    stop = StopRequest()
    with stop.listening():
        code = supervise(1, lambda _: pull, stop, print)
    assert code == Interrupted.exit_code  # 0 if the child had lost the signal


def test_no_child_is_started_for_a_launcher_that_is_gone():
    code = supervise(1, None, StopRequest(), print, lambda: True)  # calling None would fail
    assert code == Interrupted.exit_code


def test_a_fault_of_every_trial_ends_all_children_with_its_exit_code(tmp_path, capfd):
    def work(number):
        def pull(on_claim):
            if number == 1:
                raise ConfigError("no such key")
            time.sleep(3)  # it ends after its step

        return pull

    assert supervise(3, work, StopRequest(), print) == ConfigError.exit_code
    assert capfd.readouterr().err == "ConfigError: no such key\n"


@pytest.mark.parametrize(("claims", "lives", "code"), [(True, 30, 0), (False, 20, 1)])
def test_a_child_that_dies_is_replaced_unless_it_never_claims(claims, lives, code, tmp_path):
    def pull(on_claim):
        with (tmp_path / "lives").open("a") as file:
            file.write("x")
        if len((tmp_path / "lives").read_text()) == 30:
            return
        if claims:
            on_claim()
        os.kill(os.getpid(), signal.SIGKILL)

    lines = []
    assert supervise(1, lambda _: pull, StopRequest(), lines.append) == code
    assert len((tmp_path / "lives").read_text()) == lives and "SIGKILL" in lines[0]


def test_a_space_that_cannot_be_built_ends_a_worker_with_one_message(tmp_path, monkeypatch, capsys):
    def build_space(spec):
        raise ConfigError("the dataset is not on this machine")

    monkeypatch.setattr(worker, "build_space", build_space)
    task = WorkerTask(make_spec(), tmp_path, parent="", threads=1)
    assert worker.main(task.to_json(), "w", os.getppid()) == ConfigError.exit_code
    err = capsys.readouterr().err
    assert err == "ConfigError: the dataset is not on this machine\n"
