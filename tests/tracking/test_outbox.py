"""Messages that cannot be sent to the tracking server arrive later, once and in order."""

import errno
import json
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from segtune.config.schema import TrackingConfig
from segtune.errors import StorageError
from segtune.runtime import lines
from segtune.tracking import outbox
from segtune.tracking.outbox import Outbox
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import artifact, curve, get_run
from segtune.tracking.store import open_store


class Server:
    """Receives messages while it is available; the same message twice is one message."""

    def __init__(self):
        self.away, self.received, self.refused = False, [], set()

    def deliver(self, message):
        if self.away:
            raise ConnectionError("connection refused")
        if message["n"] in self.refused:
            raise ValueError(f"no {message['n']}")
        if message["n"] not in self.received:
            self.received.append(message["n"])


class Killed(BaseException):
    """Stands for the end of the process at this point."""


class Faults:
    """Kills the process, or fills the disk, at a random point of its work on an outbox."""

    POINTS = ("before delivery", "after delivery", "half a line", "whole line", "before removal")

    def __init__(self, monkeypatch, server, rng):
        self.server, self.rng, self.point, self.is_disk_full = server, rng, None, False
        self.append, self.unlink = lines.append_whole, Path.unlink
        monkeypatch.setattr(outbox, "append_whole", self.append_with_faults)
        monkeypatch.setattr(Path, "unlink", lambda path, **o: self.unlink_with_faults(path, **o))
        monkeypatch.setattr("segtune.runtime.retry._sleep", lambda seconds: None)

    def kill_at(self, *points):
        if self.point in points:
            self.point = None
            raise Killed

    def deliver(self, message):
        self.kill_at("before delivery")
        self.server.deliver(message)
        self.kill_at("after delivery")

    def append_with_faults(self, path, text):
        if self.is_disk_full:
            self.is_disk_full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.point == "half a line":
            with path.open("ab") as file:
                file.write(text[: int(self.rng.integers(len(text)))])
        self.kill_at("half a line")
        self.append(path, text)
        self.kill_at("whole line")

    def unlink_with_faults(self, path, missing_ok=False):
        if path.name == "outbox.jsonl":
            self.kill_at("before removal")
        self.unlink(path, missing_ok)


@pytest.mark.parametrize("seed", range(40))
def test_each_message_arrives_once_and_in_order_whatever_happens(seed, tmp_path, monkeypatch):
    rng, server = np.random.default_rng(seed), Server()
    faults = Faults(monkeypatch, server, rng)
    monkeypatch.setattr(outbox, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(outbox, "_PAUSE_SHARE", 0)
    path, told = tmp_path / "run" / "outbox.jsonl", []
    box, kept = Outbox(path, faults.deliver, told.append), []
    for number in range(60):
        if rng.random() < 0.3:
            server.away = not server.away
        if rng.random() < 0.15:
            server.refused.add(number)
        faults.is_disk_full = rng.random() < 0.1
        faults.point = rng.choice(Faults.POINTS) if rng.random() < 0.3 else None
        try:
            box.send({"n": number})
            kept.append(number)
        except Killed:
            box = Outbox(path, faults.deliver, told.append)  # the next process
        except ValueError:  # refused at once: the caller knows it
            pass
    server.away, faults.point = False, None
    assert box.flush() and not path.exists()
    aside = []
    if box.refused.exists():
        aside = [json.loads(row) for row in box.refused.read_text().splitlines()]
    refused = [json.loads(row["message"])["n"] for row in aside]
    told = [line for line in told if "cannot be recorded" in line]
    assert len(told) == len(refused) == len(set(refused)) and set(refused) <= server.refused
    assert set(kept) == (set(server.received) | set(refused)) & set(kept)
    assert server.received == sorted(server.received)  # in the order of their sending


def test_a_failed_write_leaves_the_complete_lines(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"one\n" + b"half")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            lines.append_whole(path, b"x" * 100 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"one\n"
    lines.append_whole(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(
    "line", [b"{half", b"[]", b"\xff\xfe", b'{"metrics": 3}', b'{"folder": "x"}']
)
def test_a_damaged_or_refused_message_does_not_block_the_others(line, tmp_path, capsys):
    store = open_store(TrackingConfig(root=str(tmp_path)))
    run = RunWriter.create(store, "r", {}, {})
    path = run.folder / "outbox.jsonl"
    path.parent.mkdir(parents=True)
    good = json.dumps({"metrics": {"val/miou": 0.4}, "step": 0, "time": 1}).encode()
    path.write_bytes(line + b"\n" + good + b"\n" + b'{"metrics"')
    assert deliver_outboxes(store) == 0 and not path.exists()
    assert curve(store, run.run_id, "val/miou") == [(0, 0.4)]
    assert "cannot be recorded" in capsys.readouterr().err
    assert len((run.folder / "outbox.refused.jsonl").read_text().splitlines()) == 1


def test_a_message_is_kept_if_the_store_fails_for_good(tmp_path):
    def fail(message):
        raise StorageError("the database was deleted")

    box = Outbox(tmp_path / "outbox.jsonl", fail)
    with pytest.raises(StorageError):
        box.send({"n": 0})
    server = Server()
    assert Outbox(box.path, server.deliver).flush() and server.received == [0]


def test_a_server_that_never_answers_costs_a_twentieth_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(outbox.time, "monotonic", lambda: clock[0])

    def hang(message):
        clock[0] += 40.0
        raise ConnectionError("timed out")

    lines: list[str] = []
    box, hours = Outbox(tmp_path / "outbox.jsonl", hang, lines.append), 4
    attempts = 0
    while clock[0] < hours * 3600:
        before = clock[0]
        box.send({"n": 0})
        attempts += clock[0] > before
        clock[0] += 10.0  # an epoch
    assert attempts * 40.0 < 0.06 * hours * 3600
    assert len(lines) == 1 and "timed out. Its records wait in" in lines[0]
    clock[0] += 900.0
    assert Outbox(box.path, lambda message: None).flush()


def test_waiting_messages_are_delivered_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(outbox, "_PAUSE_SHARE", 0)
    server = Server()
    box = Outbox(tmp_path / "run" / "outbox.jsonl", server.deliver)
    box.send({"n": 0})
    server.away = True
    box.send({"n": 1})
    box.send({"n": 2})
    assert server.received == [0] and not box.flush()
    server.away = False
    again = Outbox(box.path, server.deliver)  # another process
    again.send({"n": 3})
    assert again.flush() and server.received == [0, 1, 2, 3] and not box.path.exists()


def test_a_fault_of_ours_is_raised_and_does_not_wait(tmp_path):
    def refuse(message):
        raise ValueError("no such metric")

    with pytest.raises(ValueError, match="no such metric"):
        Outbox(tmp_path / "outbox.jsonl", refuse).send({"n": 0})


def away(*_, **__):
    raise MlflowException(
        "API request failed with exception HTTPConnectionPool: Max retries exceeded"
    )


def test_a_run_that_ends_while_the_server_is_away_is_complete_afterwards(tmp_path, monkeypatch):
    store = open_store(TrackingConfig(root=str(tmp_path)))
    run = RunWriter.create(store, "r", {"a": 1}, {})

    with monkeypatch.context() as patch:
        patch.setattr(type(store.client), "log_batch", away)
        run.metrics({"val/miou": 0.4}, 0)
        run.text("note.txt", "after it")
        run.finish("finished")
        assert get_run(store, run.run_id).state == "running"
    assert deliver_outboxes(store) == 0
    assert get_run(store, run.run_id).state == "finished"
    assert curve(store, run.run_id, "val/miou") == [(0, 0.4)]
    assert deliver_outboxes(store) == 0
    assert not (tmp_path / "runs" / run.run_id / "outbox.jsonl").exists()


@pytest.mark.parametrize("write", ["set_terminated", "set_tag"])
def test_a_run_whose_process_dies_in_finish_stays_running(tmp_path, monkeypatch, write):
    store = open_store(TrackingConfig(root=str(tmp_path)))
    run = RunWriter.create(store, "r", {}, {})

    def die(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(type(store.client), write, die)
        run.finish("finished")
    assert get_run(store, run.run_id).state == "running"
    run.finish("finished")  # a sweep finishes the runs of dead workers
    assert get_run(store, run.run_id).state == "finished"
    assert store.client.get_run(run.run_id).info.status == "FINISHED"


def test_an_epoch_that_is_trained_again_is_recorded_once(tmp_path, monkeypatch):
    store = open_store(TrackingConfig(root=str(tmp_path)))
    first = RunWriter.create(store, "r", {}, {})
    first.metrics({"val/miou": 0.1, "train/lr": 1.0}, 0)
    first.metrics({"val/miou": 0.2}, 1)
    with monkeypatch.context() as patch:  # the server is away when the worker is killed
        patch.setattr(outbox, "_FIRST_PAUSE", 0.0)
        patch.setattr(outbox, "_PAUSE_SHARE", 0)
        patch.setattr(type(store.client), "log_batch", away)
        first.metrics({"val/miou": 0.3}, 2)
        again = RunWriter.reopen(store, first.run_id)
    for step, value in enumerate((0.1, 0.2, 0.3, 0.4)):
        again.metrics({"val/miou": value, "train/lr": 1.0 / (step + 1)}, step)
    for key, values in {
        "val/miou": (0.1, 0.2, 0.3, 0.4),
        "train/lr": (1, 1 / 2, 1 / 3, 1 / 4),
    }.items():
        rows = store.client.get_metric_history(first.run_id, key)
        assert sorted((m.step, m.value) for m in rows) == list(enumerate(values))
    again.metrics({"val/miou": 0.5}, 1)  # on another machine the values may differ: the last counts
    assert curve(store, first.run_id, "val/miou")[1] == (1, 0.5)


def test_a_kill_while_an_artifact_is_copied_leaves_nothing(tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    run = RunWriter.create(store, "r", {}, {})
    child = os.fork()
    if not child:
        shutil.copyfileobj = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        run.text("a.txt", "whole")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    def left():
        return [*place.glob("*/*"), *store.root.rglob(".artifact*")]

    assert len(left()) == 2
    RunWriter.reopen(store, run.run_id).text("a.txt", "whole")
    assert left() == []
    assert artifact(store, run.run_id, "a.txt").read_text() == "whole"
