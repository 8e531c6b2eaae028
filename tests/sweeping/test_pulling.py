"""A process that runs trial after trial keeps nothing of those that ended."""

import gc
import weakref
from types import SimpleNamespace

import pytest

from segtune.errors import Interrupted
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.pulling import pull_trials


class Trained:
    """Refers to itself, as a trainer and its module do, and keeps a file open."""

    def __init__(self, path):
        self.itself, self.file = self, path.open("w")

    def __del__(self):
        self.file.close()


def test_the_files_of_a_trial_are_closed_before_the_next_one_begins(tmp_path):
    stop, alive = StopRequest(), []
    study = SimpleNamespace(claim=lambda space: object(), spec=SimpleNamespace(name="t"))

    def run(claim):
        assert [trained for trained in alive if trained() is not None] == []
        assert gc.get_freeze_count() > len(gc.get_objects())  # of what was loaded before
        alive.append(weakref.ref(Trained(tmp_path / "map.bin")))
        stop.requested = len(alive) == 5

    gc.disable()
    try:
        with pytest.raises(Interrupted):
            pull_trials(study, None, run, stop)
    finally:
        gc.enable()
    assert len(alive) == 5 and gc.get_freeze_count() == 0
