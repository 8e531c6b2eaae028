"""The budget: only time in which a worker lived counts, whatever the clock does."""

from dataclasses import replace

import optuna
import pytest

from segtune.sweeping.records import LEASE
from segtune.sweeping.study import SweepStudy
from tests.sweeping.test_study import LINE, make_spec


class Clock:
    """A clock that a test turns."""

    def __init__(self, now=1e6):
        self.now = now

    def __call__(self):
        return self.now


def open_study(folder, clock, **options):
    values = {"n_trials": None, "budget": "10m", "lease": 60, **options}
    study = SweepStudy(folder, make_spec(**values))
    study.storage = replace(study.storage, now=clock)
    return study


def live(study, clock, seconds):
    """A worker that lives on, and renews its lease."""
    for _ in range(int(seconds / 20)):
        clock.now += 20
        study.report_alive()


def test_time_in_which_no_worker_lived_is_not_spent(tmp_path):
    clock = Clock()
    study = open_study(tmp_path, clock)
    study.begin()
    claim = study.claim(LINE)
    live(study, clock, 100)
    claim.trial.set_user_attr(
        LEASE, {**claim.trial.user_attrs[LEASE], "expires": 0.0}
    )  # its worker was killed
    clock.now += 5 * 3600
    again = open_study(tmp_path, clock)
    again.begin()
    assert again.spent() == pytest.approx(100)
    claim = again.claim(LINE)
    assert claim is not None
    live(again, clock, 480)
    again.finish(claim.trial, 0.5)
    assert again.spent() == pytest.approx(580)
    live(again, clock, 20)
    assert again.claim(LINE) is None and again.is_complete()
    clock.now += 5 * 3600
    assert open_study(tmp_path, clock).is_complete()


@pytest.mark.parametrize("step", [5 * 3600, -5 * 3600, 24 * 3600, -30.0])
def test_a_step_of_the_clock_is_not_spent(step, tmp_path):
    clock = Clock()
    study = open_study(tmp_path, clock)
    study.begin()
    first, second = study.claim(LINE), study.claim(LINE)
    live(study, clock, 200)
    clock.now += step
    live(study, clock, 200)
    assert study.spent() == pytest.approx(400, abs=25)
    study.finish(first.trial, 0.5)
    assert study.trial_seconds() < 5  # by the worker's own clock
    assert second.trial.number == 1


def test_two_workers_at_a_time_spend_the_time_once(tmp_path):
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
    joined.begin()  # another launcher joins: what its workers spend is the same time
    assert joined.spent() == pytest.approx(300)


def test_a_sweep_of_the_version_before_keeps_what_it_spent(tmp_path):
    clock = Clock()
    old = open_study(tmp_path, clock, budget=None, n_trials=9)
    start = optuna.trial.create_trial(value=0.5, params={}, distributions={})
    for begin, end, lease in ((0, 100, None), (50, 150, None), (1000, 9000, {"expires": 1060.0})):
        trial = replace_times(start, begin, end)
        trial.user_attrs = {} if lease is None else {LEASE: lease}
        old.study.add_trial(trial)
    study = open_study(tmp_path, clock)
    assert study.spent() == pytest.approx(150 + 60)
    study.begin()
    assert study.spent() == pytest.approx(210)


def replace_times(trial, begin, end):
    from datetime import datetime

    copied = optuna.trial.create_trial(value=trial.value)
    copied.datetime_start, copied.datetime_complete = (
        datetime.fromtimestamp(begin),
        datetime.fromtimestamp(end),
    )
    return copied
