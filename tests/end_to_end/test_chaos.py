"""A sweep whose processes are killed at random loses nothing and repeats nothing."""

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

from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.records import load_study
from segtune.tracking.runs import curve, get_run, sweep_runs
from segtune.tracking.store import open_store
from segtune.training.fit import fit
from tests.conftest import tiny_without


def write_sweep(folder: Path, n_trials: int, overrides: list[str], **options: object) -> None:
    (folder / "sweeps").mkdir()
    data = {
        "n_trials": n_trials,
        "workers": 2,
        "sampler": "random",
        "pruner": "none",
        "max_retries": 50,
        "overrides": [
            *tiny_without("hp.width", "hp.per_item_lrate"),
            "hp.num_epochs=3",
            "trainer.threads=1",
            "tracking.overlays=0",
            *overrides,
        ],
        "search": {
            "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True},
            "hp.width": [16, 24],
        },
        **options,
    }
    (folder / "sweeps" / "chaos.yaml").write_text(json.dumps(data))


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "segtune", "sweep", "chaos", "--json"]
    with (folder / "out").open("w") as out, (folder / "err").open("a") as err:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, start_new_session=True)


def workers_of(folder: Path) -> list[psutil.Process]:
    """Supervisors and their children, wherever a launcher has put them on this machine."""
    workers = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "segtune.sweeping.worker" in words and any(str(folder) in w for w in words):
            workers.append(process)
    return workers


def kill_one(folder: Path, launcher: subprocess.Popen, target: str, dice: random.Random) -> bool:
    """Kill a process; return whether one was running.

    Args:
        target: `trial`, `supervisor` or `launcher`; `any` is mostly a trial.
    """
    if target == "any":
        (target,) = dice.choices(["launcher", "supervisor", "trial"], [1, 1, 18])
    try:
        workers = workers_of(folder)
        ids = {process.pid for process in workers}
        parents = {process: process.ppid() for process in workers}
        processes = {
            "launcher": [psutil.Process(launcher.pid)],
            "supervisor": [process for process in workers if process.pid in parents.values()],
            "trial": [process for process in workers if parents[process] in ids],
        }
        dice.choice(processes[target]).send_signal(signal.SIGKILL)
    except (psutil.NoSuchProcess, IndexError):
        return False
    return True


def lines_of_trials(folder: Path) -> int:
    """Count progress lines of trials, on standard error or in the logs of Slurm jobs."""
    logs = [folder / "err", *(folder / "mlruns").rglob("*.err")]
    return sum(log.read_text().count(" trial ") for log in logs)


def survive(
    folder: Path, n_trials: int, targets: list[str], *overrides: str, **options: object
) -> None:
    """Run a sweep to its end while its processes are killed at random moments.

    Args:
        targets: of the kills, in their order; see `kill_one`.
    """
    write_sweep(folder, n_trials, list(overrides), **options)
    dice, left, launcher, seen = random.Random(3), list(targets), start(folder), 0
    while launcher.poll() != 0:
        if launcher.poll() is not None:
            assert launcher.returncode == -signal.SIGKILL, (folder / "err").read_text()
            launcher = start(folder)  # the same command continues the sweep
        lines = lines_of_trials(folder)
        # new lines: trials have been at work since the last kill
        if left and lines > seen and kill_one(folder, launcher, left[0], dice):
            left, seen = left[1:], lines
        time.sleep(dice.uniform(0.1, 0.9))
    assert not left, f"over before the last {len(left)} kills"
    check(
        folder,
        n_trials,
        TrackingConfig(root=str(folder / "mlruns"), **dict(uri_of(overrides))),
        options,
    )


def uri_of(overrides: tuple[str, ...]) -> list[tuple[str, str]]:
    return [("uri", o.partition("=")[2]) for o in overrides if o.startswith("tracking.uri=")]


def check(folder: Path, n_trials: int, tracking: TrackingConfig, options: dict) -> None:
    counts = json.loads((folder / "out").read_text())["trials"]
    assert counts == {"finished": n_trials, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    study = load_study(folder / "mlruns" / "sweeps" / "chaos", "chaos", options.get("storage"))
    trials = study.get_trials(deepcopy=False)
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    assert len(finished) == n_trials and not [t for t in trials if not t.state.is_finished()]
    assert len({tuple(t.user_attrs["overrides"]) for t in finished}) == n_trials
    store = open_store(tracking)
    runs = {r.id: r for r in sweep_runs(store, "chaos")}
    assert {t.user_attrs[RUN] for t in finished} == set(runs)
    assert {r.state for r in runs.values()} == {"finished"}
    assert {store.client.get_run(r).info.status for r in runs} == {"FINISHED"}
    os.chdir(folder)
    for trial in finished:
        words = [o for o in trial.user_attrs["overrides"] if not o.startswith("tracking.uri=")]
        uninterrupted = fit(compose([*words, "tracking.root=alone"]).config)
        assert uninterrupted.miou == trial.value
        assert get_run(store, trial.user_attrs[RUN]).miou == pytest.approx(trial.value, abs=0)


# a launcher starts again in many seconds, a supervisor in a few, a trial at once
EIGHT = ["trial", "supervisor", "trial", "launcher", "trial", "trial", "supervisor", "trial"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("n_trials", "targets"),
    [pytest.param(8, EIGHT, id="eight"), pytest.param(60, ["any"] * 100, id="hundred")],
)
def test_a_sweep_survives_kills(tmp_path, n_trials, targets):
    survive(tmp_path, n_trials, targets)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "options",
    [pytest.param([], id="servers", marks=pytest.mark.ci), pytest.param(["--local"], id="files")],
)
def test_twenty_faults_of_all_kinds_lose_double_and_change_nothing(options):
    script = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
    words = [sys.executable, str(script), "--trials", "6", "--faults", "20", "--workers", "3"]
    done = subprocess.run([*words, *options, "--json"], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    faults, starts, _ = table.pop("faults"), table.pop("starts after"), table.pop("seconds")
    assert sum(faults.values()) == 20 and len(faults) >= 6
    assert set(starts) <= {"a kill", "a server that was away"}, done.stderr
    assert not {claim: found for claim, found in table.items() if found}


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_sweep_on_postgresql_and_an_mlflow_server_survives_kills(
    tmp_path, postgresql, mlflow_server
):
    survive(tmp_path, 4, ["any"] * 3, f"tracking.uri={mlflow_server.uri}", storage=postgresql)


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_sweep_through_submitit_survives_kills(tmp_path, postgresql):
    pytest.importorskip("submitit", reason="needs submitit: pip install 'segtune[slurm]'")
    targets, options = ["any"] * 3, {"launcher": "slurm", "slurm": {"cluster": "local"}}
    survive(tmp_path, 4, targets, storage=postgresql, **options)


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_tracking_server_that_goes_away_gets_everything_later(tmp_path, mlflow_server):
    write_sweep(tmp_path, 4, [f"tracking.uri={mlflow_server.uri}", "hp.num_epochs=6"])
    launcher = start(tmp_path)
    while "epoch 2/" not in (tmp_path / "err").read_text():
        time.sleep(0.1)
    mlflow_server.kill()
    time.sleep(8)  # longer than a trial: runs begin and end without a server
    mlflow_server.start()
    assert launcher.wait(timeout=400) == 0, (tmp_path / "err").read_text()
    check(tmp_path, 4, TrackingConfig(root=str(tmp_path / "mlruns"), uri=mlflow_server.uri), {})
    store = open_store(TrackingConfig(root=str(tmp_path / "mlruns"), uri=mlflow_server.uri))
    for run in sweep_runs(store, "chaos"):
        assert [step for step, _ in curve(store, run.id, "val/miou")] == list(range(6))


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_ray_cluster_that_loses_a_node_ends_with_the_exact_total(
    tmp_path, postgresql, monkeypatch
):
    pytest.importorskip("ray", reason="needs Ray: pip install 'segtune[ray]'")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        options = {"storage": postgresql, "launcher": "ray", "workers": 3}
        write_sweep(tmp_path, 12, [], **options)
        launcher = start(tmp_path)
        deadline = time.monotonic() + 240
        # three workers: a supervisor and a child each
        while len(workers_of(tmp_path)) < 6 and time.monotonic() < deadline:
            time.sleep(0.2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        assert launcher.wait(timeout=300) == 0, (tmp_path / "err").read_text()
        check(tmp_path, 12, TrackingConfig(root=str(tmp_path / "mlruns")), options)
    finally:
        cluster.shutdown()
