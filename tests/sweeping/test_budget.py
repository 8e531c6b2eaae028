"""The time budget: only the time in which a worker was alive counts."""

from dataclasses import replace
from datetime import datetime

import optuna
import pytest

from segtune.sweeping.engine.records import LEASE
from segtune.sweeping.engine.study import SweepStudy
from tests.sweeping.test_study import LINE, let_run_out, make_spec


class Clock:
    """A clock that a test sets."""

    def __init__(self, now=1e6):
        self.now = now

    def __call__(self):
        return self.now


def open_study(folder, clock, **options):
    values = {"n_trials": None, "budget": "10m", "lease": 60, **options}
    study = SweepStudy(folder, make_spec(**values))
    study.storage = replace(study.storage, now=clock)
    return study


def renew_for(study, clock, seconds):
    """Let a worker renew its lease every 20 seconds."""
    for _ in range(int(seconds / 20)):
        clock.now += 20
        study.report_alive()


def test_time_without_a_living_worker_is_not_spent(tmp_path):
    clock = Clock()
    study = open_study(tmp_path, clock)
    study.begin()
    claim = study.claim(LINE)
    renew_for(study, clock, 100)
    let_run_out(claim)  # its worker was killed
    clock.now += 5 * 3600
    again = open_study(tmp_path, clock)
    again.begin()
    assert again.spent() == pytest.approx(100)
    claim = again.claim(LINE)
    assert claim is not None
    renew_for(again, clock, 480)
    again.finish(claim.trial, 0.5)
    assert again.spent() == pytest.approx(580)
    renew_for(again, clock, 20)
    assert again.claim(LINE) is None and again.is_complete()
    clock.now += 5 * 3600
    assert open_study(tmp_path, clock).is_complete()


@pytest.mark.parametrize("step", [5 * 3600, -5 * 3600, 24 * 3600, -30.0])
def test_a_step_of_the_wall_clock_is_not_spent(step, tmp_path):
    clock = Clock()
    study = open_study(tmp_path, clock)
    study.begin()
    first, second = study.claim(LINE), study.claim(LINE)
    renew_for(study, clock, 200)
    clock.now += step
    renew_for(study, clock, 200)
    assert study.spent() == pytest.approx(400, abs=25)
    study.finish(first.trial, 0.5)
    assert study.trial_seconds() < 5  # by the worker's own clock
    assert second.trial.number == 1


def test_two_workers_at_the_same_time_spend_it_once(tmp_path):
    clock = Clock()
    study, other = open_study(tmp_path, clock), open_study(tmp_path, clock)
    study.begin()
    study.claim(LINE), other.claim(LINE)
    for _ in range(15):
        clock.now += 10
        study.report_alive()
        clock.now += 10
        other.report_alive()
    assert study.spent() == other.spent() == pytest.approx(300)
    joined = open_study(tmp_path, clock)
    joined.begin()  # another launcher joins at the same time
    assert joined.spent() == pytest.approx(300)


def test_a_sweep_of_version_0_1_0_keeps_its_spent_time(tmp_path):
    clock = Clock()
    old = open_study(tmp_path, clock, budget=None, n_trials=9)
    for begin, end, lease in ((0, 100, None), (50, 150, None), (1000, 9000, {"expires": 1060.0})):
        old.study.add_trial(trial_between(begin, end, {} if lease is None else {LEASE: lease}))
    study = open_study(tmp_path, clock)
    assert study.spent() == pytest.approx(150 + 60)
    study.begin()
    assert study.spent() == pytest.approx(210)


def trial_between(begin, end, user_attrs):
    trial = optuna.trial.create_trial(value=0.5, user_attrs=user_attrs)
    trial.datetime_start = datetime.fromtimestamp(begin)
    trial.datetime_complete = datetime.fromtimestamp(end)
    return trial


def test_a_budget_ends_with_whole_trials(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("segtune.sweeping.engine.study.time.monotonic", clock)
    study = open_study(tmp_path, clock, budget="8s")
    study.begin()
    finished = 0
    while (claim := study.claim(LINE)) is not None:
        clock.now += 1.5
        study.finish(claim.trial, 0.5)
        finished += 1
    assert finished == 5 and study.is_complete()  # 7.5 s: a sixth trial would end further from 8 s
    study.begin()
    assert study.spent() == 7.5 and study.claim(LINE) is None
