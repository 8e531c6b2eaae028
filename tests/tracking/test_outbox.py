"""Messages that cannot be sent to the tracking server arrive later, once and in order."""

import pytest
from mlflow.exceptions import MlflowException

from segtune.config.schema import TrackingConfig
from segtune.tracking.outbox import Outbox
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import curve, get_run
from segtune.tracking.store import open_store


class Server:
    """Receives messages while it is available."""

    def __init__(self):
        self.away, self.received = False, []

    def deliver(self, message):
        if self.away:
            raise ConnectionError("connection refused")
        self.received.append(message["n"])


def test_waiting_messages_are_delivered_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("segtune.tracking.outbox._PAUSE", 0.0)
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


def test_a_run_that_ends_while_the_server_is_away_is_complete_afterwards(tmp_path, monkeypatch):
    store = open_store(TrackingConfig(root=str(tmp_path)))
    run = RunWriter.create(store, "r", {"a": 1}, {})

    def away(*_, **__):
        raise MlflowException(
            "API request failed with exception HTTPConnectionPool: Max retries exceeded"
        )

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
