"""`hydra/sweeper=segtune` in an application that is not ours, the one of `examples/`."""

import json
import logging
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from optuna.trial import TrialState

from hydra_plugins.segtune_sweeper import _space
from hydra_plugins.segtune_sweeper._search import _sampler_of
from hydra_plugins.segtune_sweeper.config import _SAMPLERS
from segtune.errors import ConfigError
from segtune.plugins.registry import own_names
from segtune.sweeping.engine.records import OVERRIDES
from segtune.sweeping.records import load_study

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "any_application"
SPHERE = """
import hydra
from omegaconf import DictConfig

@hydra.main(version_base=None, config_path="conf", config_name="config")
def sphere(cfg: DictConfig) -> float:
    if cfg.get("error", False):
        raise RuntimeError("cfg.error is True")
    if cfg.z == 0:
        raise RuntimeError("cfg.z is 0")
    return cfg.x**2 + cfg.y**2

if __name__ == "__main__":
    sphere()
"""
SPHERE_CONFIG = """
defaults:
  - override hydra/sweeper: segtune
  - override hydra/sweeper/sampler: tpe
hydra:
  sweeper:
    sampler:
      seed: 123
    direction: minimize
    study_name: sphere
    storage: null
    n_trials: 20
    n_jobs: 1
    params:
      x: range(-5.5, 5.5, step=0.5)
      y: choice(-5 ,0 ,5)
x: 1
y: 1
z: 1
"""


@pytest.fixture
def sphere(tmp_path: Path) -> Path:
    """The example of hydra-optuna-sweeper's documentation, with another sweeper."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "sphere.py").write_text(SPHERE)
    (tmp_path / "conf" / "config.yaml").write_text(SPHERE_CONFIG)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capfd):
    """Run an application in this process; return its exit code, standard output and error."""
    handlers, level = logging.root.handlers[:], logging.root.level

    def run_script(folder: Path, script: str, *words: str) -> tuple[object, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [script, *words])
        code: object = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as exit_:
            code = exit_.code
        return code, *capfd.readouterr()

    yield run_script
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def run(folder: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, script, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def space_of(*words: str, **params: object) -> list[str]:
    loader = ConfigLoaderImpl(create_config_search_path(None))
    return [d.describe() for d in _space.read_space(params, words, loader).dimensions]


SPACES = {
    "x=interval(-5.0, 5.0)": "x: -5 to 5",
    "x=interval(0, 10)": "x: 0 to 10",
    "x=int(interval(-5.0, 5.0))": "x: -5 to 5",
    "x=tag(log, interval(1, 10))": "x: 1 to 10, logarithmic",
    "x=tag(log, int(interval(1, 100)))": "x: 1 to 100, logarithmic",
    "x=range(-5, 5)": "x: -5 to 5, step 1",
    "x=range(-5.0, 5.0)": "x: -5 to 5, step 1",
    "x=range(-5.5, 5.5, step=0.5)": "x: -5.5 to 5.5, step 0.5",
    "x=range(1, 8, 3)": "x: 1 to 7, step 3",
    "x=range(5, 1, -2)": "x: 1 to 5, step 2",
    "x=shuffle(range(-1, 2))": "x: -1, 0, 1",
    "x=shuffle(choice(b, a))": "x: b, a",
    "x=choice(-5.0, 0.0, 5.0)": "x: -5.0, 0.0, 5.0",
    "x=1,2,3": "x: 1, 2, 3",
    "x=choice(a, 'b c', true, 1e-3)": "x: a, 'b c', true, 0.001",
    "x=choice([1, 2], [3])": "x: [1,2], [3]",
    "+x=choice(a, b)": "+x: a, b",
    "db/engine=mysql,postgresql": "db/engine: mysql, postgresql",
}


@pytest.mark.parametrize("word", SPACES)
def test_a_space_is_read_in_the_syntax_of_hydra_optuna_sweeper(word):
    assert space_of(word) == [SPACES[word]]
    key, _, value = word.partition("=")
    assert space_of(**{key: value}) == space_of(word)  # under hydra.sweeper.params


def test_a_word_of_the_command_line_replaces_the_parameter_of_its_key():
    loader = ConfigLoaderImpl(create_config_search_path(None))
    space = _space.read_space({"x": "range(1, 5)", "y": 3}, ["x=choice(a, b)", "+w=1"], loader)
    assert space.fixed == ("y=3", "+w=1")
    assert [d.describe() for d in space.dimensions] == ["x: a, b"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("x=3", "nothing to search"),
        ("x=interval(5, 1)", "smaller"),
        ("x=tag(log, interval(0, 1))", "above 0"),
        ("x=tag(cubic, interval(0, 1))", "known: log"),
        ("x=range(1, 1)", "fewer than two"),
        ("x=choice(1, 1)", "appears twice"),
        ("x=choice(1", "command line"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        space_of(word)


@pytest.mark.slow
@pytest.mark.ci
def test_the_documented_example_of_hydra_optuna_sweeper_runs_and_resumes(sphere, call):
    code, out, err = call(sphere, "sphere.py", "--multirun")
    assert code == 0 and "Best value" in out, err
    (results,) = sphere.glob("multirun/*/*/optimization_results.yaml")
    assert "best_value: 0.0" in results.read_text() and "name: segtune" in results.read_text()
    jobs = {int(path.name) for path in results.parent.iterdir() if path.is_dir()}
    assert jobs == set(range(20))
    code, out, err = call(sphere, "sphere.py", "--multirun", "hydra.sweeper.n_trials=21")
    assert "20 of 21 trials done" in out and (results.parent / "20").is_dir()
    code, out, err = call(sphere, "sphere.py", "--multirun", "x=interval(-5.0, 5.0)")
    assert code == 2 and "x: -5.5 to 5.5" in err and "hydra.sweeper.study_name=" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["hydra.sweeper.pruner=nix"],
            2,
            "hydra.sweeper.pruner=nix: no such pruner; known: halving",
        ),
        (["+hydra.sweeper.sampler.nonsense=1"], 2, "unexpected keyword argument 'nonsense'"),
        (["q=choice(1, 2)"], 2, "q=1: Could not override 'q'. To append to your config use +q=1"),
        (["+error=true"], 1, "RuntimeError: cfg.error is True"),
        (
            ["z=choice(0, 1)", "hydra.sweeper.max_failure_rate=0.4", "hydra.sweeper.n_trials=2"],
            4,
            "1 of 2 trials failed, and hydra.sweeper.max_failure_rate=0.4",
        ),
        (["hydra.sweeper.max_failure_rate=2"], 2, "max_failure_rate=2.0: a share in [0, 1]"),
    ],
)
def test_a_wrong_setting_ends_with_one_message(sphere, call, words, code, message):
    words = ["hydra.sweeper.n_jobs=0", *words]
    ended, _, err = call(sphere, "sphere.py", "--multirun", *words)
    assert ended == code and message in err and "Traceback" not in err, err


def test_hydra_knows_every_sampler_of_ours():
    assert set(_SAMPLERS) == set(own_names("sampler"))
    for node in _SAMPLERS.values():
        assert _sampler_of(node)[0] in own_names("sampler")


def test_the_plugin_leaves_other_applications_alone(sphere):
    """Hydra imports each plugin in every application of the environment."""
    code = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance();"
        "print(sorted({'torch', 'optuna', 'mlflow', 'numpy'} & set(sys.modules)),"
        " 'hydra_plugins.segtune_sweeper.sweeper' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "[] True\n" and not done.stderr
    for path in (ROOT / "src" / "hydra_plugins").rglob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path
    assert not (ROOT / "src" / "hydra_plugins" / "__init__.py").exists()  # a namespace package


def trained_epochs(folder: Path) -> list[int]:
    """The epochs that the checkpoint of each trial holds."""
    states = sorted(folder.glob("multirun/studies/chaos/trials/*/state.json"))
    return [json.loads(path.read_text())["epoch"] for path in states]


def kill_one(launcher: subprocess.Popen[bytes], is_launcher: bool, dice: random.Random) -> bool:
    """Kill the launcher or one of its workers; return whether one was running."""
    try:
        process = psutil.Process(launcher.pid)
        target = process if is_launcher else dice.choice(process.children())
        target.kill()
    except (psutil.NoSuchProcess, IndexError):
        return False
    return True


def survive(folder: Path, kills: int, n_trials: int, epochs: int) -> None:
    """Run the example to its end while its processes are killed after an epoch.

    Every fifth kill ends the launcher; the same command is then given again.
    """
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    words = ["seconds_per_epoch=0.05", f"epochs={epochs}", "hydra.sweeper.study_name=chaos"]
    words += ["hydra.sweeper.max_retries=100", "hydra.sweeper.pruner=none"]
    words += [f"hydra.sweeper.n_trials={n_trials}"]
    command = [sys.executable, "train.py", "-m", *words]
    dice, left, seen, launcher = random.Random(5), kills, 0, None
    with (folder / "out").open("w") as out:
        while launcher is None or launcher.poll() != 0:
            if launcher is None or launcher.poll() is not None:
                if launcher is not None:
                    assert launcher.returncode == -signal.SIGKILL, (folder / "out").read_text()
                launcher = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
            trained = sum(trained_epochs(folder))
            if left and trained > seen and kill_one(launcher, left % 5 == 1, dice):
                left, seen = left - 1, trained
            time.sleep(dice.uniform(0.02, 0.1))
    assert not left, f"over before the last {left} kills"
    study = load_study(folder / "multirun" / "studies" / "chaos", "chaos")
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == n_trials and all(trial.state.is_finished() for trial in trials)
    assert len({tuple(trial.user_attrs[OVERRIDES]) for trial in complete}) == n_trials
    assert trained_epochs(folder) == [epochs] * n_trials
    assert "resumed" in (folder / "out").read_text()


@pytest.mark.slow
def test_four_trials_with_four_kills_end_as_four(tmp_path):
    survive(tmp_path, kills=4, n_trials=4, epochs=6)


@pytest.mark.slow
@pytest.mark.ci
def test_twenty_trials_with_fifteen_kills_end_as_exactly_twenty(tmp_path):
    survive(tmp_path, kills=15, n_trials=20, epochs=6)


@pytest.mark.slow
def test_forty_trials_with_a_hundred_kills_end_as_exactly_forty(tmp_path):
    survive(tmp_path, kills=100, n_trials=40, epochs=12)


@pytest.mark.slow
@pytest.mark.ci
def test_a_stopped_search_continues_with_the_same_command(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    words = ["hydra.sweeper.n_trials=3", "epochs=5", "seconds_per_epoch=0.1"]
    command = [sys.executable, "train.py", "-m", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "")
        next(line for line in lines if "started" in line)
        while not list(tmp_path.glob("multirun/studies/*/trials/0/state.json")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    done = run(tmp_path, "train.py", "-m", *words)
    assert done.returncode == 0 and "trial 0: resumed" in done.stdout
    states = tmp_path.glob("multirun/studies/*/trials/*/state.json")
    assert [json.loads(path.read_text())["epoch"] for path in states] == [5] * 3
