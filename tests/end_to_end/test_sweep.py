"""A sweep end to end: exact total, resumed after a kill, best promoted, regions out of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

import segtune
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, DataError
from segtune.sweeping.records import load_study, trial_rows
from segtune.tracking.runs import get_run, sweep_runs
from segtune.tracking.store import open_store
from tests.conftest import OPEN_GATE, tiny_without

QUIET = {"say": lambda _: None}


def sweep_file(folder: Path, n_trials: int, epochs: int) -> None:
    (folder / "sweeps").mkdir(exist_ok=True)
    overrides = [
        *tiny_without("hp.width", "hp.per_item_lrate"),
        f"hp.num_epochs={epochs}",
        "tracking.overlays=1",
    ]
    data = {
        "n_trials": n_trials,
        "workers": 2,
        "pruner": "none",
        "overrides": overrides,
        "search": {
            "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True},
            "hp.width": [16, 24],
        },
    }
    (folder / "sweeps" / "tiny.yaml").write_text("# Question: does it work?\n" + json.dumps(data))


@pytest.mark.slow
def test_sweep_compare_promote_predict(tmp_path):
    sweep_file(tmp_path, n_trials=4, epochs=1)
    result = segtune.sweep("tiny", **QUIET)
    assert result.counts.to_json() == {
        "finished": 4,
        "pruned": 0,
        "failed": 0,
        "running": 0,
        "waiting": 0,
    }
    store = open_store(TrackingConfig())
    runs = sweep_runs(store, "tiny")
    assert len(runs) == 4 and all(r.tags["mlflow.parentRunId"] == result.parent for r in runs)
    assert result.best.miou == max(r.miou for r in runs)
    assert get_run(store, result.parent).state == "finished"
    rows = trial_rows(load_study(store.root / "sweeps" / "tiny", "tiny"))
    assert {r["run"]: r["miou"] for r in rows} == {r.id: pytest.approx(r.miou) for r in runs}

    report = segtune.compare("tiny")
    assert (
        report.best.first.id == result.best.id
        and "Parameters of the trials" in report.html.read_text()
    )
    promotion = segtune.promote("tiny", "street", *OPEN_GATE)
    assert promotion.moved and promotion.run_id == result.best.id
    done = segtune.predict("models:/street@champion", "street:clips", "out", **QUIET)
    assert done.frames > 0

    again = segtune.sweep("tiny", **QUIET)  # nothing is left to do
    assert again.counts == result.counts and again.best.id == result.best.id
    more = segtune.sweep("tiny", "sweep.n_trials=5", "sweep.workers=1", **QUIET)
    assert more.counts.finished == 5
    with pytest.raises(ConfigError, match="another configuration"):
        segtune.sweep("tiny", "hp.num_epochs=2", **QUIET)


def start(tmp_path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "segtune", "sweep", "tiny", "--json"]
    return subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


@pytest.mark.slow
def test_a_killed_sweep_resumes_and_ends_with_its_exact_total(tmp_path):
    sweep_file(tmp_path, n_trials=4, epochs=6)
    with start(tmp_path) as process:
        wait_for(process, "epoch 2/6")
        os.kill(
            process.pid, signal.SIGKILL
        )  # the workers find themselves orphaned, and stop after their step
        process.stderr.read()  # until the last of them has closed it
    with start(tmp_path) as done:
        out, err = done.communicate(timeout=240)
    assert done.returncode == 0, err
    counts = json.loads(out)["trials"]
    assert counts == {"finished": 4, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert "resumes run" in err
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns")))
    runs = sweep_runs(store, "tiny")
    assert len(runs) == 4 and {r.state for r in runs} == {
        "finished"
    }  # taken up again, not begun anew


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path):
    sweep_file(tmp_path, n_trials=3, epochs=6)
    with start(tmp_path) as process:
        wait_for(process, "epoch 1/6")
        children = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert json.loads(out)["trials"]["finished"] == 3 and "died" in err


@pytest.mark.slow
@pytest.mark.ci
def test_ctrl_c_returns_the_trials_and_prints_the_command(tmp_path):
    sweep_file(tmp_path, n_trials=2, epochs=300)
    with start(tmp_path) as process:
        wait_for(process, "epoch 2/300")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "segtune sweep tiny" in err and "Traceback" not in err
    study = load_study(tmp_path / "mlruns" / "sweeps" / "tiny", "tiny")
    states = {t.state for t in study.trials}
    assert (
        optuna.trial.TrialState.RUNNING not in states and optuna.trial.TrialState.WAITING in states
    )


def test_a_dataset_that_cannot_be_used_stops_the_sweep_with_its_exit_code(tmp_path):
    (tmp_path / "sweeps").mkdir()
    text = "# Question: none\nn_trials: 1\n"
    text += "overrides: [dataset=folder, dataset.root=nowhere, 'dataset.classes=[a]']\n"
    (tmp_path / "sweeps" / "bad.yaml").write_text(text + "search: {hp.width: [16]}\n")
    with pytest.raises(DataError, match="does not exist"):
        segtune.sweep("bad", **QUIET)
    assert not (tmp_path / "mlruns" / "sweeps").exists()
