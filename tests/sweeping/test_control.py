"""A sweep steered from another shell: how far it is, an end, another try, one more worker, and what it would do."""

import json

import pytest
from optuna.trial import TrialState

from segtune.cli import main
from segtune.sweeping.records import ERROR
from segtune.sweeping.study import SweepStudy
from tests.conftest import tiny_without
from tests.sweeping.test_study import LINE, make_spec


@pytest.fixture
def study(tmp_path):
    study = SweepStudy(tmp_path / "mlruns" / "sweeps" / "t", make_spec(n_trials=4))
    study.begin()
    study.finish(study.claim(LINE).trial, 0.5)
    failed = study.claim(LINE).trial
    failed.set_user_attr(ERROR, "no luck")
    study.finish(failed, state=TrialState.FAIL)
    return study


def test_status_tells_how_far_it_is(study, capsys):
    assert main(["status", "t", "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert state["trials"] == {"finished": 1, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}
    assert state["errors"] == [{"trial": 1, "error": "no luck"}]
    assert state["best"] == {"trial": 0, "val/miou": 0.5} and state["n_trials"] == 4


def test_stop_keeps_workers_from_claiming_until_the_sweep_goes_on(study, capsys):
    assert main(["stop", "t"]) == 0 and "segtune sweep t" in capsys.readouterr().out
    assert study.claim(LINE) is None
    study.begin()
    assert study.claim(LINE) is not None


def test_retry_enqueues_what_failed(study, capsys):
    assert main(["retry", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 1
    assert study.counts().to_json() == {"finished": 1, "pruned": 0, "failed": 0, "running": 0, "waiting": 1}
    assert main(["retry", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["retried"] == 0


@pytest.mark.parametrize("verb", ["status", "stop", "retry", "worker"])
def test_a_sweep_that_was_never_started_is_told(verb, capsys):
    assert main([verb, "nothing"]) == 2
    assert "never started" in capsys.readouterr().err


def test_a_dry_run_prints_space_and_forecast_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "sweeps").mkdir()
    data = {
        "n_trials": 4,
        "overrides": tiny_without("hp.width", "hp.per_item_lrate"),
        "search": {"hp.width": [16, 24], "hp.per_item_lrate": {}},
    }
    (tmp_path / "sweeps" / "dry.yaml").write_text(json.dumps(data))
    assert main(["sweep", "dry", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["left"] == 4 and plan["size"] is None and plan["wall_seconds"] == 2 * plan["trial_seconds"] > 0
    assert main(["sweep", "dry", "sweep.dry_run=true", "sweep.n_trials=null", "sweep.budget=45m"]) == 0
    assert "at most 45.0 minutes; nothing was started" in capsys.readouterr().out
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["sweep.budget=soon"], "budget"),
        (["sweep.n_trials=null"], "give n_trials, or a budget"),
        (["sweep.sampler=grid"], "a grid needs"),
        (["sweep.constraints.latency=3"], "latency_ms"),
        (["sweep.storage=mysql://x"], "postgresql://"),
        (["sweep.launcher=k8s"], "local"),
    ],
)
def test_bad_input_gets_one_message_and_starts_nothing(overrides, message, tmp_path, capsys):
    assert main(["sweep", "quickstart", *overrides]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "mlruns" / "sweeps").exists()
