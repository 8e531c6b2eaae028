"""The study: an exact total, whoever dies; the same question on resume."""

import subprocess
import sys
import textwrap

import pytest
from optuna.trial import TrialState

from segtune.errors import ConfigError
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.study import RUN, SweepStudy, importance


def make_spec(**options):
    values = {"name": "t", "n_trials": 6, "search": {"hp.width": {}}, "sampler": "random", "pruner": "none"}
    return SweepSpec(**{**values, **options})


WORKER = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from segtune.sweeping.spec import SweepSpec
    from segtune.sweeping.study import RUN, SweepStudy
    spec = SweepSpec.model_validate_json(sys.argv[2])
    study = SweepStudy(Path(sys.argv[1]), spec)
    study.start_work()
    while (trial := study.claim()) is not None:
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr(RUN, trial.user_attrs.get(RUN, f"run-{trial.number}"))
        if sys.argv[3] == "die" and trial.number == 1:
            os.kill(os.getpid(), 9)
        time.sleep(0.05)
        study.study.tell(trial, x)
    study.end_work()
    """
)


def start(folder, spec, mode="live"):
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), spec.model_dump_json(), mode])


def test_three_workers_finish_exactly_the_total(tmp_path):
    spec = make_spec(n_trials=9)
    workers = [start(tmp_path, spec) for _ in range(3)]
    assert [w.wait(timeout=120) for w in workers] == [0, 0, 0]
    study = SweepStudy(tmp_path, spec)
    assert study.counts().to_json() == {"finished": 9, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    values = [t.params["x"] for t in study.study.trials]
    assert len(set(values)) == 9  # no worker repeats another's proposals


def test_the_trial_of_a_killed_worker_is_taken_up_again_with_its_run_and_parameters(tmp_path):
    spec = make_spec(n_trials=3)
    assert start(tmp_path, spec, "die").wait(timeout=120) == -9
    assert start(tmp_path, spec).wait(timeout=120) == 0
    study = SweepStudy(tmp_path, spec)
    assert study.counts().finished == 3 and study.counts().claimed == 3
    killed, again = study.study.trials[1], study.study.trials[2]
    assert (killed.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert killed.params == again.params and again.user_attrs[RUN] == killed.user_attrs[RUN] == "run-1"


def test_a_trial_that_kills_its_workers_every_time_stays_failed(tmp_path):
    spec = make_spec(n_trials=1, max_retries=1)
    for _ in range(2):
        study = SweepStudy(tmp_path, spec)  # claims, and never shows a sign of life
        assert study.claim() is not None
    study = SweepStudy(tmp_path, spec)
    assert study.claim() is None
    assert study.counts().to_json() == {"finished": 0, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}


def test_a_trial_given_back_waits_and_keeps_its_attempts(tmp_path):
    spec = make_spec(n_trials=1, max_retries=0)
    for _ in range(4):
        study = SweepStudy(tmp_path, spec)
        study.start_work()
        trial = study.claim()
        trial.suggest_float("x", 0, 1)
        study.release(trial)
        study.end_work()
    assert study.counts().to_json() == {"finished": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 1}


def test_a_resumed_sweep_must_ask_the_same_question(tmp_path):
    SweepStudy(tmp_path, make_spec()).check_identity()
    SweepStudy(tmp_path, make_spec(n_trials=99, workers=1)).check_identity()
    with pytest.raises(ConfigError, match=r"search: .*sweep\.name="):
        SweepStudy(tmp_path, make_spec(search={"hp.width": [8]})).check_identity()


def test_importance_finds_the_parameter_that_matters(tmp_path):
    spec = make_spec(n_trials=30)
    study = SweepStudy(tmp_path, spec)
    study.start_work()
    while (trial := study.claim()) is not None:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        study.study.tell(trial, 10 * x + 0.1 * y)
    study.end_work()
    shares = importance(tmp_path, "t")
    assert shares["x"] > 0.9 and importance(tmp_path / "none", "t") == {}
