"""Temporary failures are waited for, with one line for each outage; a stop request is heard."""

import threading
import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from safetensors import SafetensorError

from segtune.errors import StorageError
from segtune.runtime import retry
from segtune.runtime.retry import Outage, is_passing, with_backoff
from segtune.runtime.signals import StopRequest


def caused(error):
    storage_error = StorageError("the store cannot be used")
    storage_error.__cause__ = error
    return storage_error


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (SafetensorError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter"), True),
        (caused(FULL), True),
        (MlflowException("database is locked", codes.TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("Max retries exceeded"), True),
        (MlflowException("no such table: runs", codes.TEMPORARILY_UNAVAILABLE), False),
        (MlflowException("unable to open database file", codes.TEMPORARILY_UNAVAILABLE), False),
        (MlflowException("disk image is malformed", codes.BAD_REQUEST), False),
        (MlflowException("no right", codes.PERMISSION_DENIED), False),
        (StorageError("the database was deleted"), False),
        (SafetensorError("header too large"), False),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_only_what_passes_by_itself_is_waited_for(error, expected):
    assert is_passing(error) is expected


def test_an_outage_that_several_threads_meet_is_told_once(monkeypatch):
    monkeypatch.setattr(retry, "wait_exponential", lambda **_: lambda state: 0.05)
    lines, ends = [], time.monotonic() + 0.5

    def reach():
        if time.monotonic() < ends:
            raise FULL
        return 7

    threads = [threading.Thread(target=with_backoff, args=(reach, lines.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines) == 1 and lines[0].startswith("waiting for")


def test_a_stop_request_ends_the_retries(monkeypatch):
    monkeypatch.setattr(retry, "_STOP_PATIENCE", 0.0)
    stop = StopRequest()

    def fail():
        stop.requested = True
        raise FULL

    with stop.listening(), pytest.raises(OSError, match="No space"):
        with_backoff(fail, lambda line: None)


def test_an_outage_of_long_work_is_waited_for_until_it_lasts_too_long(monkeypatch):
    clock, lines = [0.0], []
    monkeypatch.setattr(retry.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 1.0))
    outage, stop = Outage(lines.append, patience=100.0), StopRequest()
    with pytest.raises(StorageError):
        outage.wait(StorageError("the database was deleted"), stop)
    assert not lines
    outage.end()
    with pytest.raises(StorageError):
        while True:
            outage.wait(caused(FULL), stop)
    assert 100.0 < clock[0] < 130.0 and len(lines) == 1
    stop.requested = True
    outage.end()
    outage.wait(caused(FULL), stop)  # returns at once
    assert len(lines) == 2
