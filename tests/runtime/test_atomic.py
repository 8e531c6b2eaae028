"""Atomic writes: a target is complete, or it is as it was before."""

import os
import stat

import pytest

from segtune.runtime.atomic import atomic_file, atomic_folder


def write(path, text, error=None):
    path.write_text(text)
    if error:
        raise error


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_replaces_the_earlier_one_only_when_it_is_complete(tmp_path, shared):
    target = tmp_path / "new" / "a.txt"
    with atomic_file(target, shared) as unfinished:
        write(unfinished, "first")
        assert not target.exists()
    with pytest.raises(KeyboardInterrupt), atomic_file(target, shared) as unfinished:
        write(unfinished, "second", KeyboardInterrupt())
    assert target.read_text() == "first"
    assert os.listdir(target.parent) == ["a.txt"]


def test_two_writers_of_a_shared_file_do_not_meet(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_file(target, shared=True) as one, atomic_file(target, shared=True) as other:
        write(one, "one")
        write(other, "other")
    assert target.read_text() == "one"  # the block that ends last


def test_a_file_left_by_a_crash_is_replaced_by_the_next_call(tmp_path):
    (tmp_path / ".a.txt.part").write_text("half")
    with atomic_file(tmp_path / "a.txt") as unfinished:
        write(unfinished, "whole")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("overwrite", "text"), [(True, "new"), (False, "old")])
def test_an_earlier_folder_is_replaced_only_on_request(tmp_path, overwrite, text):
    target = tmp_path / "set"
    target.mkdir()
    write(target / "a.txt", "old")
    with pytest.raises(ValueError), atomic_folder(target, overwrite) as unfinished:  # noqa: PT011
        write(unfinished / "a.txt", "half", ValueError())
    assert (target / "a.txt").read_text() == "old"
    with atomic_folder(target, overwrite) as unfinished:
        write(unfinished / "a.txt", "new")
    assert (target / "a.txt").read_text() == text
    assert os.listdir(tmp_path) == ["set"]


def test_a_folder_that_a_crash_left_unfinished_is_replaced(tmp_path):
    (tmp_path / ".set.part").mkdir()
    write(tmp_path / ".set.part" / "half.txt", "half")
    with atomic_folder(tmp_path / "set", overwrite=True) as unfinished:
        write(unfinished / "a.txt", "new")
    assert os.listdir(tmp_path) == ["set"] and os.listdir(tmp_path / "set") == ["a.txt"]


def test_a_folder_has_the_permissions_of_any_other_new_folder(tmp_path):
    with atomic_folder(tmp_path / "set", overwrite=False):
        pass
    (tmp_path / "other").mkdir()
    assert stat.S_IMODE((tmp_path / "set").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "other").stat().st_mode
    )
