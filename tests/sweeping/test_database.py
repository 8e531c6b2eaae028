"""PostgreSQL's lock over a study: nobody holds it for good, and nobody writes without it."""

import os
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy
from optuna.study import StudyDirection
from sqlalchemy.exc import SQLAlchemyError

from segtune.errors import StorageError
from segtune.sweeping.engine import database
from segtune.sweeping.engine.database import open_database

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]

# takes the lock, tells so, and writes when a line comes
HOLDER = """
import sys
from optuna.study import StudyDirection
from segtune.sweeping.engine import database
database._SILENCE = float(sys.argv[2])
study = database.open_database(sys.argv[1], "t")
with study.exclusive():
    print("held", flush=True)
    sys.stdin.readline()
    study.optuna.create_new_study([StudyDirection.MINIMIZE], "written")
"""


@pytest.fixture
def holder(postgresql):
    """A process that holds the lock, with a silence of two seconds."""
    words = [sys.executable, "-c", HOLDER, postgresql, "2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def studies(url):
    return [s.study_name for s in open_database(url, "t").optuna.get_all_studies()]


def test_a_stopped_holder_loses_the_lock_and_writes_nothing_afterwards(postgresql, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    began = time.monotonic()
    with open_database(postgresql, "t").exclusive():
        assert time.monotonic() - began < 20
    os.kill(holder.pid, signal.SIGCONT)
    _, error = holder.communicate("now\n", timeout=30)
    assert holder.returncode == 1 and "StorageError" in error and "released" in error
    assert studies(postgresql) == []


def test_a_holder_that_works_keeps_the_lock(postgresql, holder):
    assert holder.communicate("now\n", timeout=30)[0] == "" and holder.returncode == 0
    assert studies(postgresql) == ["written"]


def test_a_restarted_server_takes_the_lock_away(postgresql, postgresql_server):
    study = open_database(postgresql, "t")
    with pytest.raises(StorageError, match="released"), study.exclusive():
        postgresql_server.kill()
        postgresql_server.start()
        study.optuna.create_new_study([StudyDirection.MINIMIZE], "written")
    assert studies(postgresql) == []
    with study.exclusive():  # and gives it again
        study.optuna.create_new_study([StudyDirection.MINIMIZE], "written")


def test_a_transaction_that_stands_still_does_not_block_the_others(postgresql, monkeypatch):
    monkeypatch.setattr(database, "_SILENCE", 1.0)
    study = open_database(postgresql, "t")
    number = study.optuna.create_new_study([StudyDirection.MINIMIZE], "s")
    other = open_database(postgresql, "t")
    with study.optuna._storage._backend.engine.connect() as frozen:
        frozen.execute(sqlalchemy.text("UPDATE studies SET study_name = 'locked'"))
        began = time.monotonic()
        other.optuna.set_study_user_attr(number, "a", 1)
        assert time.monotonic() - began < 20
        with pytest.raises(SQLAlchemyError):
            frozen.commit()
    assert study.optuna.get_study_name_from_id(number) == "s"
