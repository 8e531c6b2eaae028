"""Leases: neither clocks nor names decide which process is alive."""

import time

import pytest

from segtune.errors import LeaseLost
from segtune.sweeping.engine import lease as module
from segtune.sweeping.engine.lease import Lease, LeaseWatch, identify, new_lease
from segtune.sweeping.engine.study import SweepStudy
from tests.sweeping.test_study import LINE, make_spec

GONE = 2**22 + 1  # no process has such an id


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of this process, which the test moves."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("step", [2.0, 3600.0, -2.0, -3600.0, 1e9])
def test_a_step_of_the_clock_ends_no_lease(tmp_path, monkeypatch, step):
    spec = make_spec(n_trials=1)
    study, other = SweepStudy(tmp_path, spec), SweepStudy(tmp_path, spec)
    claim = study.claim(LINE)
    assert other.claim(LINE) is None
    moved = time.time() + step
    monkeypatch.setattr(time, "time", lambda: moved)
    monkeypatch.setattr("psutil.boot_time", lambda: moved - 100)
    monkeypatch.setattr("psutil.Process.create_time", lambda _: moved)
    assert other.claim(LINE) is None
    study.finish(claim.trial, 0.5)
    assert other.counts().finished == 1


def test_a_lease_is_over_when_nobody_renews_it(clock):
    lease, watch = {**identify(), "machine": "another"}, LeaseWatch(60)
    for count in range(3):
        assert not watch.is_over(0, new_lease(lease, count))
        clock[0] += 59
    assert not watch.is_over(0, new_lease(lease, 2))
    clock[0] += 2
    assert watch.is_over(0, new_lease(lease, 2))
    assert not watch.is_over(0, new_lease(lease, 3))  # late, but alive
    assert not watch.is_over(1, new_lease(lease, 2))  # another trial


def test_a_process_that_died_on_this_machine_is_not_waited_for():
    lease, watch = new_lease(identify()), LeaseWatch(60)
    assert not watch.is_over(0, lease)
    assert watch.is_over(0, {**lease, "pid": GONE})
    assert watch.is_over(0, {**lease, "born": "1"})  # its id belongs to another process now
    assert watch.is_over(1, None)


def test_another_machine_of_the_same_name_is_not_judged_by_its_process_ids(tmp_path, monkeypatch):
    here = {**new_lease(identify()), "pid": GONE}
    boot = tmp_path / "boot_id"
    boot.write_text("of the other machine\n")
    monkeypatch.setattr(module, "_BOOT", boot)  # host name and process namespace stay the same
    there = {**new_lease(identify()), "pid": GONE}
    monkeypatch.undo()
    watch = LeaseWatch(60)
    assert watch.is_over(0, here) and not watch.is_over(1, there)


def test_a_machine_that_slept_renews_before_it_writes(tmp_path, monkeypatch):
    spec = make_spec(n_trials=1)
    study, other = SweepStudy(tmp_path, spec), SweepStudy(tmp_path, spec)
    claim = study.claim(LINE)
    lease = Lease(claim.trial, study.holder, seconds=60)
    lease.check()
    assert other.claim(LINE) is None
    watched = other._watch._seen
    watched[0] = watched[0][0], time.monotonic() - 61
    other.finish(other.claim(LINE).trial, 0.5)
    lease.check()  # no time has passed here
    slept = module._seconds_with_sleep() + 3600
    monkeypatch.setattr(module, "_seconds_with_sleep", lambda: slept)
    with pytest.raises(LeaseLost):
        lease.check()
