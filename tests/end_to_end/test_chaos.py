"""Processes of a sweep are killed at random moments: nothing is lost, nothing is done twice, every number is right."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from segtune.config import compose
from segtune.settings import TrackingConfig
from segtune.sweeping.records import RUN, load_study
from segtune.tracking.runs import get_run, sweep_runs
from segtune.tracking.store import open_store
from segtune.training import fit
from tests.conftest import TINY


def write_sweep(folder: Path, n_trials: int) -> None:
    (folder / "sweeps").mkdir()
    data = {
        "n_trials": n_trials,
        "workers": 2,
        "sampler": "random",
        "pruner": "none",
        "max_retries": 50,
        "overrides": [*TINY, "hp.num_epochs=3", "trainer.threads=1", "tracking.overlays=0"],
        "search": {"hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True}, "hp.width": [16, 24]},
    }
    (folder / "sweeps" / "chaos.yaml").write_text(json.dumps(data))


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "segtune", "sweep", "chaos", "--json"]
    with (folder / "out").open("w") as out, (folder / "err").open("a") as err:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, start_new_session=True)


def kill_one(launcher: subprocess.Popen, dice: random.Random) -> bool:
    """Kills a trial's process, else its supervisor, now and then the launcher; whether there was one to kill."""
    try:
        below = psutil.Process(launcher.pid).children(recursive=True)
        trials = [p for p in below if not p.children()]
        group = [psutil.Process(launcher.pid)] if dice.random() < 0.05 else below if dice.random() < 0.15 else trials
        victim = dice.choice(group)
        victim.send_signal(signal.SIGKILL)
    except (psutil.NoSuchProcess, IndexError):
        return False
    return True


def survive(folder: Path, n_trials: int, kills: int, seed: int) -> None:
    write_sweep(folder, n_trials)
    dice, left, launcher = random.Random(seed), kills, start(folder)
    journal = folder / "mlruns" / "sweeps" / "chaos" / "journal.log"
    while launcher.poll() != 0:
        if launcher.poll() is not None:
            assert launcher.returncode == -signal.SIGKILL, (folder / "err").read_text()
            launcher = start(folder)  # the same command goes on
        if left and journal.is_file() and kill_one(launcher, dice):
            left -= 1
        time.sleep(dice.uniform(0.1, 0.9))
    assert left == 0, f"over before the last {left} kills"
    check(folder, n_trials)


def check(folder: Path, n_trials: int) -> None:
    counts = json.loads((folder / "out").read_text())["trials"]
    assert counts == {"finished": n_trials, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    study = load_study(folder / "mlruns" / "sweeps" / "chaos", "chaos")
    trials = study.get_trials(deepcopy=False)
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(finished) == n_trials and not [t for t in trials if not t.state.is_finished()]
    assert len({tuple(t.user_attrs["overrides"]) for t in finished}) == n_trials
    store = open_store(TrackingConfig(root=str(folder / "mlruns")))
    runs = {r.id: r for r in sweep_runs(store, "chaos")}
    assert {t.user_attrs[RUN] for t in finished} == set(runs)
    assert {r.state for r in runs.values()} == {"finished"}
    assert {store.client.get_run(r).info.status for r in runs} == {"FINISHED"}
    os.chdir(folder)
    for trial in finished:
        whole = fit(compose([*trial.user_attrs["overrides"], "tracking.root=alone"]).config)
        assert whole.miou == trial.value == pytest.approx(get_run(store, trial.user_attrs[RUN]).miou, abs=0)


@pytest.mark.timeout(280)
def test_a_sweep_survives_fifteen_kills(tmp_path):
    survive(tmp_path, n_trials=30, kills=15, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_survives_a_hundred_kills(tmp_path):
    survive(tmp_path, n_trials=60, kills=100, seed=4)
