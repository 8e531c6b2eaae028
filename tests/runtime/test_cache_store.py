"""The store of every cache: entries are whole or absent, whenever a process is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from segtune.errors import DataError
from segtune.runtime.cache_store import CacheStore, StaleEntry

BYTES = b"0123456789"


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "0.npy").write_bytes(BYTES)
    (folder / "index.json").write_text("{}")


def read(folder: Path) -> bytes:
    return (folder / "sub" / "0.npy").read_bytes()


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def refuse(folder: Path) -> None:
    pytest.fail("built again")


def test_an_entry_is_built_when_a_full_disk_has_space_again(tmp_path, monkeypatch):
    monkeypatch.setattr("segtune.runtime.retry._sleep", lambda seconds: None)
    attempts = []

    def build(folder: Path) -> None:
        attempts.append(sorted(folder.iterdir()))
        write(folder)
        if len(attempts) < 3:
            raise OSError(28, "No space left on device")

    assert CacheStore(tmp_path).open("k", build, read) == BYTES
    assert attempts == [[], [], []]  # each begins with an empty folder


@pytest.mark.parametrize("limit", [None, 1e9])
@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "no contents", "half removed"])
def test_a_damaged_entry_is_built_again(tmp_path, damage, limit):
    store = CacheStore(tmp_path, limit)
    assert store.open("k", write, read) == BYTES
    assert store.open("k", refuse, read) == BYTES
    file = tmp_path / "k" / "sub" / "0.npy"
    if damage == "missing":
        file.unlink()
    elif damage == "no contents":
        (tmp_path / "k" / ".contents.json").write_text('{"index')
    elif damage == "half removed":
        (tmp_path / "k").rename(tmp_path / "k.removed")
        (tmp_path / "k").mkdir()
    else:
        file.write_bytes(BYTES[:4] if damage == "cut" else BYTES * 2)
    assert store.open("k", write, read) == BYTES
    assert store.open("k", refuse, read) == BYTES
    assert names(tmp_path) == {"k"}


@pytest.mark.parametrize("error", [StaleEntry, KeyError, EOFError, OSError])
def test_an_entry_that_its_reader_rejects_is_built_once_more(tmp_path, error):
    store, calls = CacheStore(tmp_path), []
    store.open("k", write, read)

    def reject_first(folder: Path) -> bytes:
        calls.append(folder)
        if len(calls) <= 2:  # without the lock, then with it
            raise error("old")
        return read(folder)

    assert store.open("k", write, reject_first) == BYTES and len(calls) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError, OSError])
def test_a_build_that_fails_leaves_nothing(tmp_path, error):
    def fail(folder: Path) -> None:
        write(folder)
        raise error("stop")

    store = CacheStore(tmp_path)
    with pytest.raises(error, match="stop"):
        store.open("k", fail, read)
    assert names(tmp_path) == set()
    assert store.open("k", write, read) == BYTES


KILLED = """
import os, sys, shutil
from pathlib import Path
from segtune.runtime import cache_store
kill = lambda *a, **k: os._exit(9)
moment, root = sys.argv[1], Path(sys.argv[2])
def build(folder):
    (folder / "0.npy").write_bytes(b"01234")
    if moment == "build": kill()
if moment == "rename": Path.rename = kill
if moment == "evict": shutil.rmtree = lambda path, **k: str(path).endswith(".removed") and \\
    os.path.isdir(path) and ((Path(path) / "0.npy").unlink(), kill())
cache_store.CacheStore(root, 0.0).open(sys.argv[3], build, lambda folder: None)
"""


@pytest.mark.parametrize("moment", ["build", "rename", "evict"])
def test_a_killed_process_breaks_nothing_and_its_remains_are_removed(tmp_path, moment):
    def write_file(folder: Path) -> None:
        (folder / "0.npy").write_bytes(BYTES)

    def read_file(folder: Path) -> bytes:
        return (folder / "0.npy").read_bytes()

    store = CacheStore(tmp_path)
    if moment == "evict":
        store.open("old", write_file, read_file)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(tmp_path), "new"], check=False
    )
    assert killed.returncode == 9
    assert names(tmp_path) & {"new.unfinished", "old.removed"}
    assert store.open("other", write_file, read_file) == BYTES
    assert not [name for name in names(tmp_path) if "." in name]
    for key in ("old", "new"):
        assert CacheStore(tmp_path, 1e9).open(key, write_file, read_file)


def test_the_least_recently_used_go_first_and_those_in_use_stay(tmp_path):
    store = CacheStore(tmp_path, 3.5 * len(BYTES))

    def write_one(folder: Path) -> None:
        (folder / "0.npy").write_bytes(BYTES)

    small = CacheStore(tmp_path)
    for age, key in enumerate(("newest", "middle", "oldest", "opened")):
        small.open(key, write_one, lambda folder: None)
        os.utime(tmp_path / key / ".contents.json", (1000 - age,) * 2)
    with FileLock(tmp_path / "opened.lock"):
        CacheStore(tmp_path, 1e-9).open("first", write_one, lambda folder: None)
        assert names(tmp_path) == {"first", "opened"}
    for key in ("second", "third"):
        store.open(key, write_one, lambda folder: None)
        assert key in names(tmp_path)


def test_an_entry_evicted_while_another_process_waits_is_built_again(tmp_path):
    """The waiting process has seen the folder before; it finds it gone once it has the lock."""
    store = CacheStore(tmp_path, 1e9)
    store.open("k", write, read)
    code = f"""
from pathlib import Path
from segtune.runtime.cache_store import CacheStore
print("waits", flush=True)
def write(folder): (folder / "sub").mkdir(); (folder / "sub" / "0.npy").write_bytes({BYTES!r})
read = lambda folder: (folder / "sub" / "0.npy").read_bytes()
print(CacheStore(Path({str(tmp_path)!r}), 1e9).open("k", write, read))
"""
    with FileLock(tmp_path / "k.lock"):
        waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None and waiting.stdout.readline() == "waits\n"
        (tmp_path / "k").rename(tmp_path / "k.removed")
    assert waiting.communicate(timeout=60)[0].strip() == repr(BYTES)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/k' cannot be written.*Set SEGTUNE_CACHE"):
        CacheStore(tmp_path / "file").open("k", write, read)
