"""The study: its total is exact even when workers die, and no configuration runs twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from segtune.errors import ConfigError, LeaseLost, SegtuneError
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.lease import Lease
from segtune.sweeping.engine.records import ERROR, LEASE, OVERRIDES, RUN, Counts
from segtune.sweeping.engine.study import Claim, SweepStudy
from segtune.sweeping.importance import importance, importance_ranges
from segtune.sweeping.records import front
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec

LINE = Space(("fixed=1",), ("swift",), (SweepDimension("hp.x", "hp.x", low=0.0, high=1.0),))
FOUR = Space((), ("swift",), (SweepDimension("hp.n", "hp.n", choices=(1, 2, 3, 4)),))


def make_spec(**options):
    values = {
        "name": "t",
        "n_trials": 6,
        "search": {"hp.width": {}},
        "sampler": "random",
        "pruner": "none",
    }
    return SweepSpec(**{**values, **options})


WORKER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from segtune.sweeping.spec import SweepSpec
    from segtune.sweeping.engine.records import RUN
    from segtune.sweeping.engine.study import Claim, SweepStudy
    from tests.sweeping.test_study import LINE
    spec = SweepSpec.model_validate_json(sys.argv[2])
    study = SweepStudy(Path(sys.argv[1]), spec)
    while (claim := study.claim(LINE)) is not None:
        claim.trial.set_user_attr(RUN, claim.run or f"run-{claim.trial.number}")
        if sys.argv[3] == "die" and claim.trial.number == 1:
            claim.trial.report(0.5, 0)
            os.kill(os.getpid(), 9)
        time.sleep(0.05)
        study.finish(claim.trial, claim.trial.params["hp.x"])
    """
)


def with_tests():
    """The environment of a process that imports these tests."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


def start(folder, spec, mode="live"):
    command = [sys.executable, "-c", WORKER, str(folder), spec.model_dump_json(), mode]
    return subprocess.Popen(command, env=with_tests())


def test_three_workers_finish_exactly_the_total(tmp_path):
    spec = make_spec(n_trials=9)
    workers = [start(tmp_path, spec) for _ in range(3)]
    assert [w.wait(timeout=120) for w in workers] == [0, 0, 0]
    study = SweepStudy(tmp_path, spec)
    assert study.counts() == Counts(finished=9)
    # no worker repeats another's proposals
    assert len({t.params["hp.x"] for t in study.study.trials}) == 9


def test_the_trial_of_a_killed_worker_is_resumed_with_its_run_and_curve(tmp_path):
    spec = make_spec(n_trials=3)
    assert start(tmp_path, spec, "die").wait(timeout=120) == -9
    assert start(tmp_path, spec).wait(timeout=120) == 0
    study = SweepStudy(tmp_path, spec)
    assert study.counts().finished == 3 and study.counts().claimed == 3
    killed, again = study.study.trials[1], study.study.trials[2]
    assert (killed.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert killed.params == again.params
    assert again.user_attrs[RUN] == killed.user_attrs[RUN] == "run-1"
    assert again.intermediate_values == {0: 0.5}


def let_run_out(claim):
    no_process = {**claim.trial.user_attrs[LEASE], "pid": 2**22 + 1}
    claim.trial.set_user_attr(LEASE, no_process)


def test_a_trial_that_loses_its_worker_at_one_epoch_every_time_stays_failed(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=1, max_retries=1))
    for _ in range(2):
        let_run_out(study.claim(LINE))
    assert study.claim(LINE) is None
    assert study.counts() == Counts(failed=1)
    assert "its worker died 2 times" in study.study.trials[-1].user_attrs[ERROR]


def test_a_trial_that_gets_further_each_time_may_lose_its_worker_more_often(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=1, max_retries=1))
    for epoch in range(4):
        claim = study.claim(LINE)
        claim.trial.set_user_attr(RUN, "run")
        claim.trial.report(0.1, epoch)
        let_run_out(claim)
    claim = study.claim(LINE)
    assert claim is not None
    assert study.study.trials[-1].intermediate_values == {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.1}


def test_an_attempt_that_is_killed_at_its_start_keeps_parameters_and_curve(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=1))
    first = study.claim(LINE)
    first.trial.set_user_attr(RUN, "run")
    first.trial.report(0.1, 0)
    let_run_out(first)
    for _ in range(2):
        study.recover()
        dead = study._start_trial(LINE)  # killed before it restores anything
        let_run_out(Claim(dead, [], "run", LINE))
    again = study.claim(LINE).trial
    assert again.params == first.trial.params and len(again.params) == 1
    assert study.study.trials[-1].intermediate_values == {0: 0.1}


def test_a_kill_between_enqueueing_and_failing_neither_loses_nor_doubles_a_trial(
    tmp_path, monkeypatch
):
    def die(*_, **__):
        raise KeyboardInterrupt

    study = SweepStudy(tmp_path, make_spec(n_trials=1))
    let_run_out(study.claim(LINE))
    monkeypatch.setattr(study.study, "tell", die)  # called after the next attempt is enqueued
    with pytest.raises(KeyboardInterrupt):
        study.recover()
    other = SweepStudy(tmp_path, make_spec(n_trials=1))
    claim = other.claim(LINE)
    other.finish(claim.trial, 0.5)
    assert other.claim(LINE) is None and other.counts() == Counts(finished=1)


def test_a_released_trial_waits_and_loses_no_attempt(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=1, max_retries=0))
    for _ in range(4):
        study.release(study.claim(LINE).trial)
    assert study.counts() == Counts(waiting=1)


def test_no_configuration_is_handed_out_twice_and_a_finite_space_ends(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=9))
    overrides = []
    while (claim := study.claim(FOUR)) is not None:
        overrides += claim.overrides
        study.finish(claim.trial, 0.5)
    assert sorted(overrides) == ["hp.n=1", "hp.n=2", "hp.n=3", "hp.n=4"] and study.is_complete()


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random", "grid", "qmc"])
def test_every_sampler_fills_the_total_and_does_not_repeat_itself_on_resume(sampler, tmp_path):
    number = SweepDimension("hp.n", "hp.n", choices=(1, 2, 3))
    line = SweepDimension("hp.x", "hp.x", low=0.0, high=1.0, step=0.125)
    space = Space((), ("swift",), (number, line))
    seen = []
    for total in (6, 12):
        study = SweepStudy(tmp_path, make_spec(n_trials=total, sampler=sampler))
        while (claim := study.claim(space)) is not None:
            seen.append(tuple(claim.overrides))
            study.finish(claim.trial, claim.trial.params["hp.x"])
    assert len(set(seen)) == len(seen) == 12


@pytest.mark.parametrize("pruner", ["median", "halving", "hyperband", "patient"])
def test_every_pruner_ends_a_hopeless_trial(pruner, tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=12, pruner=pruner, pruner_warmup=2))
    pruned = []
    for number in range(12):
        claim = study.claim(LINE)
        value = 0.9 - 0.1 * (number >= 8)  # the last four are worse than all before
        for epoch in range(12):
            claim.trial.report(value - 0.01 * epoch * (number >= 8), epoch)
            if claim.trial.should_prune():
                pruned.append(number)
                break
        study.finish(claim.trial, value)
    assert pruned and set(pruned) & {8, 9, 10, 11}


def test_the_same_error_five_times_in_a_row_stops_the_sweep(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=20))
    for number in range(5):
        claim = study.claim(LINE)
        claim.trial.set_user_attr(ERROR, f"Traceback\nValueError: no {number}")
        study.finish(claim.trial, state=TrialState.FAIL)
    with pytest.raises(SegtuneError, match=r"ValueError: no 4.*segtune retry t"):
        study.claim(LINE)
    assert study.retry_failed() == 5 and study.counts().to_json()["waiting"] == 5
    claim = study.claim(LINE)
    assert claim.overrides == study.study.trials[0].user_attrs[OVERRIDES]


def test_a_resumed_sweep_must_ask_the_same_question_of_the_same_data(tmp_path):
    SweepStudy(tmp_path, make_spec()).check_identity({"dataset": "a"})
    SweepStudy(tmp_path, make_spec(n_trials=99, workers=1)).check_identity({"dataset": "a"})
    with pytest.raises(ConfigError, match=r"search\.hp\.width: .* -> \[8\].*sweep\.name="):
        SweepStudy(tmp_path, make_spec(search={"hp.width": [8]})).check_identity({"dataset": "a"})
    with pytest.raises(ConfigError, match=r"dataset: a -> b.*allow_drift"):
        SweepStudy(tmp_path, make_spec()).check_identity({"dataset": "b"})
    drifted = SweepStudy(tmp_path, make_spec(allow_drift=True))
    drifted.check_identity({"dataset": "b"})
    assert drifted.study.user_attrs["drift"] == [{"after_trial": 0, "changed": ["dataset: a -> b"]}]


@pytest.mark.parametrize("objective", ["val/miou", ["-val/ece", "val/miou"]])
def test_optuna_knows_the_names_of_the_objectives(objective, tmp_path):
    study = SweepStudy(tmp_path, make_spec(objective=objective))
    study.begin()
    names = [name.removeprefix("-") for name in np.atleast_1d(objective)]
    assert study.study.metric_names == names
    written = (tmp_path / "journal.log").read_text()
    study.begin()
    assert (tmp_path / "journal.log").read_text().count("metric_names") == written.count(
        "metric_names"
    )


def test_a_worker_that_lost_its_lease_cannot_finish_the_trial(tmp_path):
    study, other = (SweepStudy(tmp_path, make_spec(n_trials=1)) for _ in range(2))
    claim = study.claim(LINE)
    lease = Lease(claim.trial, study.holder, seconds=60)
    let_run_out(claim)
    taken_over = other.claim(LINE)
    with pytest.raises(LeaseLost):
        study.finish(claim.trial, 0.9)
    lease.renewed = -1e9  # long ago
    with pytest.raises(LeaseLost):
        lease.check()
    other.finish(taken_over.trial, 0.5)
    assert [t.value for t in other.study.trials if t.state == TrialState.COMPLETE] == [0.5]


def test_a_renewed_lease_is_respected_but_a_dead_process_is_not_waited_for(tmp_path):
    spec = make_spec(n_trials=1, lease=3)
    study, other = SweepStudy(tmp_path, spec), SweepStudy(tmp_path, spec)
    claim = study.claim(LINE)
    with Lease(claim.trial, study.holder, seconds=3):
        assert other.claim(LINE) is None
        time.sleep(4)
        assert other.claim(LINE) is None
    let_run_out(claim)
    assert other.claim(LINE).overrides == claim.overrides


def test_the_front_holds_the_trials_that_no_other_dominates(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=3))
    for value, latency in ((0.5, 10.0), (0.7, 30.0), (0.6, 40.0)):
        claim = study.claim(LINE)
        claim.trial.set_user_attr("cost", {"latency_ms": latency, "params_m": 1.0})
        study.finish(claim.trial, value)
    assert [(r["miou"], r["latency_ms"]) for r in front(study.study)] == [(0.7, 30.0), (0.5, 10.0)]


def test_importance_is_highest_for_the_parameter_that_matters(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=30))
    space = Space((), ("swift",), tuple(SweepDimension(n, n) for n in ("x", "y")))
    while (claim := study.claim(space)) is not None:
        study.finish(claim.trial, 10 * claim.trial.params["x"] + 0.1 * claim.trial.params["y"])
    shares = importance(study.study)
    assert shares["x"] > 0.9 and importance(None) == {}
    ranges = importance_ranges(study.study)
    assert ranges["x"][0] > 0.7 and ranges["y"][1] < 0.3 and importance_ranges(None) == {}
    low, high = ranges["x"]
    assert low <= shares["x"] <= 1.0 >= high


def test_fewer_than_ten_trials_have_no_importance():
    study = optuna.create_study()
    distributions = {"hp.x": optuna.distributions.FloatDistribution(0, 1)}
    for number in range(10):
        assert importance(study) == importance_ranges(study) == {}
        params = {"hp.x": number / 10}
        trial = optuna.trial.create_trial(params=params, distributions=distributions, value=number)
        study.add_trial(trial)
    assert set(importance(study)) == set(importance_ranges(study)) == {"hp.x"}


def test_a_study_of_a_thousand_trials_claims_and_finishes_one_in_under_100_ms(tmp_path):
    study = SweepStudy(tmp_path, make_spec(n_trials=1010))
    distributions = {"hp.x": optuna.distributions.FloatDistribution(0, 1)}
    trials = []
    for n in range(1000):
        trial = optuna.trial.create_trial(
            params={"hp.x": n / 1000},
            value=n / 1000,
            user_attrs={OVERRIDES: [str(n)]},
            distributions=distributions,
        )
        trials.append(trial)
    study.study.add_trials(trials)
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        claim = study.claim(LINE)
        study.finish(claim.trial, 0.5)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[4] < 0.1


def test_a_frozen_worker_that_wakes_after_its_lease_writes_nothing(tmp_path):
    spec = make_spec(n_trials=1, lease=1)
    sleeper = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from segtune.errors import LeaseLost
        from segtune.sweeping.engine.lease import Lease
        from segtune.sweeping.spec import SweepSpec
        from segtune.sweeping.engine.study import Claim, SweepStudy
        from tests.sweeping.test_study import LINE
        study = SweepStudy(Path(sys.argv[1]), SweepSpec.model_validate_json(sys.argv[2]))
        claim = study.claim(LINE)
        with Lease(claim.trial, study.holder, 1) as lease:
            print("claimed", flush=True)
            try:
                while True:
                    time.sleep(0.05)
                    lease.check()
                    Path(sys.argv[1], "written").write_text(str(time.time()))
            except LeaseLost:
                print("lost", flush=True)
        """
    )
    command = [sys.executable, "-c", sleeper, str(tmp_path), spec.model_dump_json()]
    with subprocess.Popen(command, env=with_tests(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "claimed\n"
        time.sleep(1.5)  # longer than a lease, which the process renews
        os.kill(process.pid, signal.SIGSTOP)
        study = SweepStudy(tmp_path, spec)
        for _ in range(100):
            if (claim := study.claim(LINE)) is not None:
                break
            time.sleep(0.1)
        study.finish(claim.trial, 0.5)
        before = (tmp_path / "written").read_text()
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == "lost\n"
    assert (tmp_path / "written").read_text() == before
    assert [t.value for t in study.study.trials if t.state == TrialState.COMPLETE] == [0.5]
