"""Faults of the storage: a full disk, an incomplete line, the lock of a killed process."""

import errno
import os
import subprocess
import sys
import textwrap
import time

import pytest

from segtune.errors import ConfigError, StorageError
from segtune.sweeping.engine.storage import open_storage
from segtune.sweeping.engine.study import SweepStudy
from tests.sweeping.test_study import LINE, make_spec


def test_a_full_disk_is_waited_for_and_leaves_no_incomplete_line(tmp_path, monkeypatch):
    study = SweepStudy(tmp_path, make_spec(n_trials=2))
    fsync, full = os.fsync, iter([True] * 3)

    def fail_thrice(number):
        if next(full, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", fail_thrice)
    claim = study.claim(LINE)
    study.finish(claim.trial, 0.5)
    assert next(full, False) is False
    reopened = SweepStudy(tmp_path, make_spec(n_trials=2))
    assert reopened.counts().finished == 1


def test_an_incomplete_line_is_overwritten(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=2))
    study.finish(study.claim(LINE).trial, 0.5)
    with (tmp_path / "journal.log").open("a") as file:
        file.write('{"op_code":4,"worker')  # killed here
    other = SweepStudy(tmp_path, make_spec(n_trials=2))
    other.finish(other.claim(LINE).trial, 0.6)
    assert SweepStudy(tmp_path, make_spec(n_trials=2)).counts().finished == 2


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path):
    SweepStudy(tmp_path, make_spec())
    holder = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from segtune.sweeping.engine.locks import ProcessLock
        from segtune.sweeping.engine.storage import open_storage
        storage = open_storage(Path(sys.argv[1]), None, "t")
        with storage.exclusive():
            ProcessLock(Path(sys.argv[1]) / "journal.lock").acquire()
            os.kill(os.getpid(), 9)
        """
    )
    assert subprocess.run([sys.executable, "-c", holder, str(tmp_path)]).returncode == -9
    begun = time.monotonic()
    assert SweepStudy(tmp_path, make_spec()).claim(LINE) is not None
    assert time.monotonic() - begun < 5


def test_a_storage_of_another_kind_or_out_of_reach_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="postgresql://"):
        open_storage(tmp_path, "sqlite:///x.db", "t")
    with pytest.raises(StorageError, match="cannot be reached"):
        open_storage(tmp_path, "postgresql://nobody@127.0.0.1:9/none", "t")
