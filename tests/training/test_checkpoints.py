"""A thread writes checkpoints while training continues."""

import errno
import os
import pickle
import signal
import tempfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from segtune.errors import DataError
from segtune.training import checkpoints as module
from segtune.training.checkpoints import (
    CheckpointWriter,
    check_resumable,
    read_checkpoint,
    remove_checkpoints,
    usable_checkpoint,
)
from segtune.training.epochs import _start

MODEL = torch.nn.Linear(2, 2)


def checkpoint_of(epoch: int) -> dict:
    parts = dict.fromkeys(["optimizer_states", "lr_schedulers", "loops", "global_step"])
    return {"state_dict": MODEL.state_dict(), "epoch": epoch, **parts}


def save(folder: Path, *epochs: int) -> None:
    checkpoints = CheckpointWriter()
    for epoch in epochs:
        checkpoints.save_checkpoint(checkpoint_of(epoch), folder / "last.ckpt")
    checkpoints.teardown()


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
    write = module._write

    def held(checkpoint, path):
        assert free.wait(30)
        order.append(checkpoint["epoch"])
        write(checkpoint, path)

    monkeypatch.setattr(module, "_write", held)
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
    tries, to_disk = [], module.to_disk

    def full_at_first(path):
        tries.append(path)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        to_disk(path)

    monkeypatch.setattr(module, "to_disk", full_at_first)
    checkpoints = CheckpointWriter()
    checkpoints.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    checkpoints.teardown()
    assert len(tries) == 3 and os.listdir(tmp_path) == ["last.ckpt"]


def test_a_checkpoint_needs_no_other_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    save(tmp_path, 1)
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == 1


def killed_at(moment: str, folder: Path) -> int:
    """Write a checkpoint in a process that is killed at a moment; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    renames = []

    def rename(source: Path, target: Path) -> None:
        if len(renames) == ("first rename", "second rename").index(moment):
            os.kill(os.getpid(), signal.SIGKILL)
        renames.append(os.replace(source, target))

    Path.replace = rename
    if moment == "sync":
        module.to_disk = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    module._write(checkpoint_of(3), folder / "last.ckpt")
    os._exit(0)


@pytest.mark.parametrize("moment", ["sync", "first rename", "second rename"])
def test_a_kill_while_a_checkpoint_is_written_leaves_one_that_resumes(tmp_path, moment):
    save(tmp_path, 1, 2)
    assert killed_at(moment, tmp_path) == -signal.SIGKILL
    path = usable_checkpoint(tmp_path, MODEL, restart=False, say=lambda _: None)
    assert read_checkpoint(path)["epoch"] == 2
    remove_checkpoints(tmp_path, all_of_them=False)
    assert os.listdir(tmp_path) == ["last.ckpt"]


DAMAGES = {
    "cut off": lambda content: content[:-700],
    "a changed byte": lambda content: content[:200] + b"x" + content[201:],
    "empty": lambda content: b"",
    "no archive": lambda content: b"damaged",
    "code": lambda content: pickle.dumps(os.getcwd),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, name):
    save(tmp_path, 1, 2)
    last, lines = tmp_path / "last.ckpt", []
    last.write_bytes(DAMAGES[name](last.read_bytes()))
    check_resumable(tmp_path)
    assert usable_checkpoint(tmp_path, MODEL, restart=False, say=lines.append) == last
    assert read_checkpoint(last)["epoch"] == 1
    assert len(lines) == 1 and "from the checkpoint before its last one" in lines[0]
    save(tmp_path, 2)  # the damaged one has not become the one before
    assert read_checkpoint(tmp_path / "previous.ckpt")["epoch"] == 1


def test_without_a_readable_checkpoint_a_run_is_refused_and_a_trial_starts_again(tmp_path):
    save(tmp_path, 1, 2)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / name).write_bytes(b"damaged")
    lines = []
    for refused in (check_resumable, lambda f: usable_checkpoint(f, MODEL, False, lines.append)):
        with pytest.raises(DataError, match="last.ckpt' cannot be used"):
            refused(tmp_path)
    assert usable_checkpoint(tmp_path, MODEL, restart=True, say=lines.append) is None
    assert len(lines) == 1 and "starts again at epoch 1" in lines[0]
    assert not os.listdir(tmp_path)


class _Code:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_the_code_in_a_checkpoint_is_not_executed(tmp_path):
    torch.save({**checkpoint_of(1), "hyper_parameters": _Code()}, tmp_path / "last.ckpt")
    with pytest.raises(DataError, match="cannot be used"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("error", "has_started", "expected"),
    [
        (KeyError("loops"), False, DataError),
        (KeyError("loops"), True, KeyError),
        (MemoryError(), False, MemoryError),
    ],
)
def test_an_error_while_a_checkpoint_is_restored_names_it(error, has_started, expected):
    def fit(*_, **__):
        raise error

    trainer, progress = SimpleNamespace(fit=fit), SimpleNamespace(has_started=has_started)
    with pytest.raises(expected) as raised:
        _start(trainer, None, None, "runs/a/last.ckpt", progress)
    assert expected is not DataError or "runs/a/last.ckpt" in str(raised.value)


def test_a_checkpoint_that_claims_more_than_its_file_holds_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "last.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(DataError, match="claims to hold 10000000 bytes"):
        read_checkpoint(tmp_path / "last.ckpt")
