"""The first process of a distributed run decides, and the others follow."""

import signal
from types import SimpleNamespace

import pytest

from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.runtime.signals import StopRequest
from segtune.training import ranks
from segtune.training.callbacks import BestAndLastCheckpoint, EpochLogger
from segtune.training.components import _check_devices
from segtune.training.ranks import Decisions, check_start_of_processes, rank, with_followers
from tests.conftest import TINY
from tests.training.test_callbacks import Trained

CHOICES = Decisions(
    "run",
    7,
    {"precision": "bf16", "channels_last": True, "accumulate": 2, "val_every": 3, "minutes": None},
    None,
)
ALONE = SimpleNamespace(strategy=SimpleNamespace(launcher=None))


class Follower:
    """Lightning's trainer in a process that hears the answers of the first one."""

    current_epoch, max_epochs, is_global_zero, should_stop = 0, 10, False, False

    def __init__(self, answer: bool) -> None:
        self.strategy = SimpleNamespace(broadcast=lambda own: answer)
        self.saved = 0

    def save_checkpoint(self, path: object) -> None:
        self.saved += 1


@pytest.mark.parametrize("is_due", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 1e9])  # the duration of a save that this process knows
def test_a_follower_saves_when_the_first_process_does(tmp_path, is_due, seconds):
    trainer = Follower(is_due)
    writer = SimpleNamespace(seconds=seconds)
    BestAndLastCheckpoint(tmp_path, StopRequest(), writer).on_train_epoch_end(trainer, None)
    assert trainer.saved == is_due


@pytest.mark.parametrize("is_over", [True, False])
def test_a_follower_ends_when_the_first_process_prunes(is_over):
    trainer, lines = Follower(is_over), []
    EpochLogger(("road",), lines.append, lines.append, [1.0] * 10).on_train_epoch_end(
        trainer, Trained()
    )
    assert trainer.should_stop == is_over and not lines


def test_nothing_is_left_to_measure_in_a_follower():
    words = [word for word in TINY if not word.startswith("hp.num_epochs")]
    config = compose([*words, "trainer.minutes=5", "trainer.accumulate=auto"]).config
    followed = CHOICES.applied_to(config)
    assert followed.hp["num_epochs"] == 7 and followed.trainer.minutes is None
    assert followed.trainer.accumulate == 2 and followed.trainer.val_every == 3
    assert (followed.trainer.precision, followed.trainer.channels_last) == ("bf16", True)


def test_the_variables_of_other_programs_mean_nothing(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert rank() == 0
    with with_followers(ALONE, CHOICES):
        assert rank() == 0  # in this process; those that Lightning starts get a number
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert rank() == 1 and ranks.decisions() == CHOICES
    assert rank() == 0


def test_several_processes_of_torchrun_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_start_of_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="trainer.devices=2"):
        check_start_of_processes()


@pytest.mark.parametrize(
    ("devices", "batch", "val", "message"),
    [
        (2, 3, 9, "does not divide it. The nearest that can be divided: 4"),
        (4, 2, 9, "The nearest that can be divided: 4"),
        (3, 3, 2, "Set trainer.devices=2"),
    ],
)
def test_each_device_needs_a_share_of_a_batch_and_of_both_splits(devices, batch, val, message):
    words = [*TINY, f"trainer.devices={devices}", f"hp.batch_size={batch}"]
    with pytest.raises(ConfigError, match=message):
        _check_devices(compose(words).config, 9, val)


def test_a_follower_hears_no_signal(monkeypatch):
    heard = {}
    monkeypatch.setattr(
        ranks.signal, "signal", lambda number, handler: heard.update({number: handler})
    )
    monkeypatch.setattr(ranks.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    ranks.follow_first_process()
    assert set(heard) == {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    assert set(heard.values()) == {signal.SIG_IGN}
