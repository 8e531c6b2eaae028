"""Processes that prepare batches need shared memory, of which a container has 64 MB."""

import os
import shutil
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from segtune.data.batches import shared_memory
from segtune.data.batches.shared_memory import fitting_processes
from segtune.errors import ConfigError
from segtune.training.epochs import _check_loaders
from tests.conftest import tiny_without

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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", ["64m", "8m"])
def test_a_training_in_a_container_with_little_shared_memory_does_not_hang(size):
    unshare = shutil.which("unshare")
    if os.geteuid() or unshare is None:
        pytest.skip("needs root and unshare, to mount a small /dev/shm for one process")
    words = tiny_without("dataset.street", "hp.image_size", "hp.batch_size", "hp.num_epochs")
    words += ["dataset.street={width:512,height:512,train:16,val:4,test:2}", "hp.image_size=[512]"]
    words += ["hp.batch_size=16", "hp.num_epochs=1", "trainer.workers=4", "tracking.overlays=0"]
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    train = [sys.executable, "-m", "segtune", "train", *words]
    command = [unshare, "-m", "sh", "-c", script, "sh", *train]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own may be in /dev/shm
        around = os.environ | {"SEGTUNE_CACHE": f"{folder}/cache", "TMPDIR": folder}
        options = {"cwd": folder, "env": around, "timeout": 500}
        done = subprocess.run(command, capture_output=True, text=True, **options)
    if "mount:" in done.stderr:
        pytest.skip("this machine forbids mounts")
    assert done.returncode == 0, done.stderr
    assert f"of 4 processes prepare batches: the shared memory has {size[:-1]} MB" in done.stderr
