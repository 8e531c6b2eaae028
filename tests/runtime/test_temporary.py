"""A killed process leaves a temporary folder that the next one removes; living ones keep theirs."""

import errno
import os
import signal
import tempfile
from contextlib import ExitStack

import pytest

from segtune.runtime.atomic import atomic_folder
from segtune.runtime.temporary import folder_of_process, temporary_folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"segtune-{os.getuid()}"


def entered(block):
    """Enter a block and write a file; the block ends when the result is forgotten."""
    stack = ExitStack()
    (stack.enter_context(block) / "a.txt").write_text("half")
    return stack


WAYS = {
    "for a block": lambda: entered(temporary_folder()),
    "for the process": lambda: (folder_of_process() / "a.txt").write_text("half"),
}


def forked(action) -> int:
    """Run a function in a forked process, which then waits for a signal; return its id."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        keep = action()
        os.write(writing, b"x")
        signal.pause()
        os._exit(len(str(keep)))
    os.read(reading, 1)
    return child


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("way", WAYS)
def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(way, place):
    child = forked(WAYS[way])
    with temporary_folder() as folder:
        assert len(os.listdir(place)) == 2  # that of the living process stays
        end(child)
        (folder / "b.txt").write_text("")
    assert len(os.listdir(place)) == 1
    with temporary_folder() as folder:
        assert os.listdir(place) == [folder.name]
    assert os.listdir(place) == []


def test_a_folder_stays_while_a_process_that_was_forked_inside_lives(place):
    with temporary_folder() as folder:
        child = forked(lambda: None)
        # as if this process were killed: the lock of the child remains
        with temporary_folder():
            assert folder.exists()
        end(child)


def test_an_unfinished_folder_of_a_killed_process_is_removed_by_the_next_builder(tmp_path):
    target = tmp_path / "data" / "street[1]"
    child = forked(lambda: entered(atomic_folder(target, overwrite=False)))
    end(child)
    other = tmp_path / "data" / ".street[1].v2.part"  # another target's
    other.mkdir()
    with atomic_folder(target, overwrite=False) as unfinished:
        assert sorted(os.listdir(target.parent)) == sorted([other.name, unfinished.name])
    assert sorted(os.listdir(target.parent)) == sorted([other.name, target.name])


@pytest.mark.parametrize("is_link", [True, False])
def test_a_place_that_somebody_else_made_is_not_used(is_link, place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if is_link:
        place.symlink_to(elsewhere)
    else:
        place.write_text("a file")
    with temporary_folder() as folder:
        assert not os.listdir(elsewhere) and folder.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", place.name]


def test_without_locks_for_folders_nothing_is_removed(place, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("fcntl.flock", refuse)  # as on NFS
    child = forked(WAYS["for a block"])
    with temporary_folder() as folder:
        assert folder.exists() and len(os.listdir(place)) == 2
    end(child)
    assert len(os.listdir(place)) == 1
