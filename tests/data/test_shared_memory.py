"""Processes that prepare batches need shared memory, of which a container has 64 MB."""

import shutil
from types import SimpleNamespace

import pytest

from segtune.data.batches import shared_memory
from segtune.data.batches.shared_memory import fitting_processes
from segtune.errors import ConfigError
from segtune.training.epochs import _check_loaders

MB = 2**20


@pytest.mark.parametrize(
    ("wanted", "batch_mb", "free_mb", "fitting"),
    [(0, 1, 0, 0), (4, 1, 64, 4), (8, 4, 64, 5), (8, 16, 64, 1), (8, 64, 64, 0), (8, 64, 4096, 8)],
)
def test_no_more_processes_than_the_shared_memory_holds(
    monkeypatch, tmp_path, wanted, batch_mb, free_mb, fitting
):
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mb * MB))
    assert fitting_processes(wanted, batch_mb * MB) == fitting


def test_a_system_without_such_a_folder_has_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "_FOLDER", tmp_path / "none")
    assert fitting_processes(8, 64 * MB) == 8


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader timed out after 600 seconds",
        "DataLoader worker (pid(s) 7) exited unexpectedly",
        "DataLoader worker (pid 7) is killed by signal: Bus error.",
    ],
)
def test_a_process_that_dies_or_hangs_is_one_clear_message(text):
    with pytest.raises(ConfigError, match=r"trainer.workers=3.*trainer.workers=0.*--shm-size"):
        _check_loaders(RuntimeError(text), 3)
    _check_loaders(RuntimeError("another fault"), 3)
