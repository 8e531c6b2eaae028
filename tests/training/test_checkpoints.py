"""A thread writes checkpoints while training continues."""

import errno
import os
import threading
from pathlib import Path

import pytest
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segtune.training.checkpoints import CheckpointWriter


def test_a_checkpoint_holds_the_values_of_the_moment_of_the_call(tmp_path):
    weights = torch.ones(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    checkpoints = CheckpointWriter()
    checkpoints.save_checkpoint({"weights": weights, "epoch": 3}, tmp_path / "last.ckpt")
    weights.zero_()
    checkpoints.teardown()
    kept = checkpoints.load_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert kept["weights"].sum() == 300 and kept["epoch"] == 3
    assert kept["weights"].stride() == weights.stride()
    assert checkpoints.seconds > 0


def test_a_checkpoint_waits_for_the_one_before(tmp_path, monkeypatch):
    free, order = threading.Event(), []
    save = TorchCheckpointIO.save_checkpoint

    def held(self, checkpoint, path, storage_options=None):
        assert free.wait(30)
        order.append(checkpoint["epoch"])
        save(self, checkpoint, path)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", held)
    checkpoints = CheckpointWriter()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert order == []  # the call has returned
    threading.Timer(0.2, free.set).start()
    checkpoints.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")
    assert order[:1] == [1]
    checkpoints.teardown()
    assert order == [1, 2]
    assert checkpoints.load_checkpoint(tmp_path / "last.ckpt", weights_only=True) == {"epoch": 2}


@pytest.mark.parametrize("call", ["save_checkpoint", "teardown"])
def test_the_next_call_raises_the_error_of_the_thread(tmp_path, call):
    (tmp_path / "file").write_text("")
    checkpoints = CheckpointWriter()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "file" / "last.ckpt")
    with pytest.raises(OSError, match="file"):
        if call == "teardown":
            checkpoints.teardown()
        else:
            checkpoints.save_checkpoint({"epoch": 2}, tmp_path / "last.ckpt")


def test_writing_waits_while_the_disk_is_full(tmp_path: Path, monkeypatch):
    tries = []
    save = TorchCheckpointIO.save_checkpoint

    def full_at_first(self, checkpoint, path, storage_options=None):
        tries.append(path)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, checkpoint, path)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", full_at_first)
    checkpoints = CheckpointWriter()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    checkpoints.teardown()
    assert len(tries) == 2 and (tmp_path / "last.ckpt").is_file()
