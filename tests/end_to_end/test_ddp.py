"""Two processes train one model: the same updates as one process, and no waiting forever."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import segtune
from segtune.config.schema import TrackingConfig
from segtune.tracking.runs import curve, get_run
from segtune.tracking.store import open_store
from tests.conftest import TINY

pytestmark = pytest.mark.slow

ONE = [
    *TINY,
    "hp.batch_size=2",
    "trainer.precision=fp32",
    "trainer.channels_last=false",
    "trainer.threads=1",
    "trainer.ema_decay=0.9",
    "tracking.overlays=0",
]
TWO = [
    *ONE,
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.workers=0",
    "trainer.limit_train_batches=2",
]


def start(root: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "segtune", "train", *words, f"tracking.root={root}", "--json"]
    stray = {"LOCAL_RANK": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "a", "SLURM_PROCID": "0"}
    environment = {**os.environ, **stray}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def values(root: Path, run_id: str, key: str) -> list[float]:
    return [value for _, value in curve(store_of(root), run_id, key)]


def store_of(root: Path):
    return open_store(TrackingConfig(root=str(root)))


@pytest.mark.ci
def test_two_processes_make_the_updates_of_one(tmp_path):
    two = start(tmp_path, *TWO, "hp.num_epochs=8")
    out, err = two.communicate(timeout=250)
    assert two.returncode == 0, err
    run_id = json.loads(out)["run"]  # one object: the second process prints nothing
    assert err.count("epoch 8/8") == 1
    alone = segtune.train(*ONE, "hp.num_epochs=8", f"tracking.root={tmp_path}", say=lambda _: None)
    rates = [values(tmp_path, run, "train/lr") for run in (run_id, alone.run_id)]
    assert len(rates[0]) == 8 and rates[0] == rates[1]
    first_losses = [values(tmp_path, run, "train/loss")[0] for run in (run_id, alone.run_id)]
    # each process normalises its own image: close to the batch of both, not equal
    assert first_losses[0] == pytest.approx(first_losses[1], rel=0.1)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["trainer.minutes=0.1", "trainer.precision=auto"], id="minutes"),
        pytest.param(["hp.num_epochs=40", "trainer.early_stopping=2", "hp.per_item_lrate=0.0"]),
        pytest.param(["hp.batch_size=4", "trainer.accumulate=auto"]),
    ],
)
def test_the_first_process_decides_for_both(tmp_path, words):
    process = start(tmp_path, *[w for w in TWO if w.split("=")[0] not in keys(words)], *words)
    _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err


def keys(words: list[str]) -> list[str]:
    extra = ["hp.num_epochs"] if "trainer.minutes=0.1" in words else []
    return [word.split("=")[0] for word in words] + extra


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.ci), signal.SIGUSR1]
)
def test_a_signal_interrupts_both_processes_and_the_run_can_be_extended(tmp_path, number):
    process = start(tmp_path, *TWO, "hp.num_epochs=60")
    while "epoch 3/" not in (line := process.stderr.readline()):
        assert line, "ended before its third epoch"
    (follower,) = [
        child
        for child in psutil.Process(process.pid).children()
        if "segtune" in " ".join(child.cmdline())
    ]
    follower.send_signal(number)  # counts at the first process alone
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not follower.is_running() or follower.status() == psutil.STATUS_ZOMBIE
    (run,) = [path.name for path in (tmp_path / "runs").iterdir()]
    assert get_run(store_of(tmp_path), run).state == "interrupted"
    again = start(tmp_path, "resume=last", "hp.num_epochs=62")
    out, err = again.communicate(timeout=250)
    assert again.returncode == 0, err
    assert json.loads(out)["run"] != run


def test_the_second_process_ends_when_the_first_is_killed(tmp_path):
    process = start(tmp_path, *TWO, "hp.num_epochs=200")
    while "epoch 2/" not in (line := process.stderr.readline()):
        assert line, "ended before its second epoch"
    children = psutil.Process(process.pid).children()
    process.kill()
    deadline = time.monotonic() + 30
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [child for child in children if child.is_running()]
    process.communicate()
