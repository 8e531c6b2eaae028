"""Loggers beside MLflow: files that the tools themselves read, and a logger that fails."""

import pytest

import segtune
from segtune.errors import ConfigError
from segtune.plugins.registry import parts
from segtune.training import loggers
from segtune.training.loggers import LoggedRun, Loggers, RunLogger
from tests.conftest import TINY

SHORT = [word for word in TINY if not word.startswith("hp.num_epochs")] + ["hp.num_epochs=1"]


@pytest.fixture
def run(tmp_path):
    return LoggedRun("0123", "swift-street", tmp_path, {"seed": 0})


def test_tensorboards_own_reader_finds_the_metrics(run):
    pytest.importorskip("tensorboard", reason="needs segtune[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = Loggers({"tensorboard": {}}, run, print)
    opened.open()
    opened.metrics({"val/miou": 0.25}, 0)
    opened.metrics({"val/miou": 0.5}, 1)
    opened.finish("finished")
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/miou")] == [(0, 0.25), (1, 0.5)]


def test_wandb_offline_writes_a_run(run, monkeypatch):
    pytest.importorskip("wandb", reason="needs segtune[wandb]")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    opened = Loggers({"wandb": {"mode": "offline"}}, run, print)
    opened.open()
    opened.metrics({"val/miou": 0.25}, 0)
    opened.finish("finished")
    (written,) = run.folder.rglob("run-0123.wandb")
    assert written.stat().st_size > 0


def test_a_logger_without_its_package_is_refused(run, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(loggers, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'segtune\[wandb\]'"):
        Loggers({"wandb": {}}, run, print).open()


class Breaking(RunLogger):
    """A logger whose disk is full."""

    def metrics(self, values, epoch):
        raise OSError("disk full")

    def finish(self, state):
        raise AssertionError("it was dropped")


def test_a_logger_that_fails_is_dropped_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "TensorBoardLogger", lambda run: Breaking())
    assert "tensorboard" in parts("logger")
    lines = []
    words = [*SHORT, "tracking.loggers={tensorboard: {}}", f"tracking.root={tmp_path}/store"]
    assert segtune.train(*words, say=lines.append).state == "finished"
    dropped = [line for line in lines if "is dropped" in line]
    assert dropped == ["logger 'tensorboard' is dropped: OSError: disk full"]
