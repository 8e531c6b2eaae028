"""What a run records of its working folder; a folder of somebody else runs no program."""

import subprocess

import pytest

from segtune.tracking.provenance import git_state


def git(*words):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def repository(tmp_path):
    """A repository in the working folder, with a changed and an untracked file."""
    git("init", "-q")
    (tmp_path / "labels.txt").write_text("road\n")
    (tmp_path / ".gitattributes").write_text("*.txt filter=evil diff=evil\n")
    git("add", ".")
    git("commit", "-qm", "start")
    (tmp_path / "labels.txt").write_text("road\ncar\n")
    (tmp_path / "secret.txt").write_text("my password\n")
    return tmp_path


PROGRAMS = [
    "core.fsmonitor",
    "diff.external",
    "diff.evil.command",
    "diff.evil.textconv",
    "filter.evil.clean",
    "filter.evil.process",
    "core.hooksPath",
    "core.pager",
]


@pytest.mark.parametrize("key", PROGRAMS)
def test_no_program_of_a_repositorys_config_runs(key, repository):
    ran = repository / "ran"
    script = repository / "hooks" / "post-index-change"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch '{ran}'\ncat\n")
    script.chmod(0o755)
    git("config", key, str(script.parent if key == "core.hooksPath" else script))
    state = git_state()
    assert not ran.exists() and "+car" in state["diff"]


def test_a_filter_that_git_cannot_turn_off_means_no_diff(repository):
    ran = repository / "ran"
    (repository / ".gitattributes").write_text("*.txt filter=a=b\n")
    git("config", "filter.a=b.clean", f"touch '{ran}'; cat")
    assert set(git_state()) == {"commit"} and not ran.exists()


def test_the_diff_holds_no_untracked_file_and_can_be_left_out(repository):
    state = git_state()
    assert len(state["commit"]) == 40 and "+car" in state["diff"]
    assert "password" not in state["diff"] and "secret" not in state["diff"]
    assert set(git_state(with_diff=False)) == {"commit"}


def test_outside_a_repository_nothing_is_recorded(monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")
    assert git_state() == {}
