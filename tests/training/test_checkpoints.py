"""Checkpoints that a thread writes."""

import errno
import os
import threading
from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segtune.training.checkpoints import Checkpoints


def test_what_is_written_is_what_was_there_when_it_was_asked_for(tmp_path):
    weights = torch.ones(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    checkpoints = Checkpoints()
    checkpoints.save_checkpoint({"weights": weights, "epoch": 3}, tmp_path / "last.ckpt")
    weights.zero_()
    checkpoints.teardown()
    kept = checkpoints.load_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert kept["weights"].sum() == 300 and kept["epoch"] == 3
    assert kept["weights"].stride() == weights.stride()
    assert checkpoints.seconds > 0


def test_the_one_before_is_waited_for(tmp_path, monkeypatch):
    free, order = threading.Event(), []
    whole = TorchCheckpointIO.save_checkpoint

    def held(self, checkpoint, path, storage_options=None):
        assert free.wait(30)
        order.append(checkpoint["epoch"])
        whole(self, checkpoint, path)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", held)
    checkpoints = Checkpoints()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert order == []  # the caller has gone on
    threading.Timer(0.2, free.set).start()
    checkpoints.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")
    assert order[:1] == [1]
    checkpoints.teardown()
    assert order == [1, 2]
    assert checkpoints.load_checkpoint(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 2}


@pytest.mark.parametrize("asked", ["save_checkpoint", "teardown"])
def test_what_kept_it_from_being_written_is_raised_by_what_waits_next(tmp_path, asked):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "file" / "last.ckpt")
    with pytest.raises(OSError):
        if asked == "teardown":
            checkpoints.teardown()
        else:
            checkpoints.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch):
    tries = []
    whole = TorchCheckpointIO.save_checkpoint

    def full_at_first(self, checkpoint, path, storage_options=None):
        tries.append(path)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, checkpoint, path)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", full_at_first)
    checkpoints = Checkpoints()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    checkpoints.teardown()
    assert len(tries) == 2 and (tmp_path / "last.ckpt").is_file()
