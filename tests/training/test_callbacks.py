"""The lines that a run prints while it trains."""

from types import SimpleNamespace

from segtune.training import callbacks
from segtune.training.callbacks import EpochLogger
from segtune.training.lightning_module import FineTuning


def trainer_in(epoch: int, epochs: int) -> SimpleNamespace:
    alone = SimpleNamespace(broadcast=lambda decision: decision)
    return SimpleNamespace(
        current_epoch=epoch, max_epochs=epochs, is_global_zero=True, strategy=alone
    )


class Trained(FineTuning):
    """A module with a loss and nothing else."""

    train_loss, scores = 0.5, None

    def __init__(self) -> None:
        super(FineTuning, self).__init__()


def test_the_time_left_follows_the_work_of_the_epochs_to_come(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    epoch_logger = EpochLogger(("road",), lines.append, lambda *_: None, [1, 1, 4, 4])
    for epoch in (0, 1):
        now[0] += 20.0
        epoch_logger.on_train_epoch_end(trainer_in(epoch, 4), Trained())
    assert lines == [
        "epoch 1/4  loss 0.5000  20 s, 180 s to go",
        "epoch 2/4  loss 0.5000  40 s, 160 s to go",
    ]


def test_the_time_left_is_right_if_small_crops_take_as_long_as_large_ones(
    monkeypatch,
):
    now, lines = [0.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    epoch_logger = EpochLogger(("road",), lines.append, lambda *_: None, [1, 1, 4, 4, 4, 4, 4, 4])
    for epoch in range(6):
        now[0] += 20.0
        epoch_logger.on_train_epoch_end(trainer_in(epoch, 8), Trained())
    assert lines[-1] == "epoch 6/8  loss 0.5000  120 s, 40 s to go"


def test_the_time_left_includes_the_time_after_the_last_epoch(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    epoch_logger = EpochLogger(("road",), lines.append, lambda *_: None, [1, 1], ending=30.0)
    for epoch in (0, 1):
        now[0] += 20.0
        epoch_logger.on_train_epoch_end(trainer_in(epoch, 2), Trained())
    assert lines == [
        "epoch 1/2  loss 0.5000  20 s, 50 s to go",
        "epoch 2/2  loss 0.5000  40 s, 30 s to go",
    ]
