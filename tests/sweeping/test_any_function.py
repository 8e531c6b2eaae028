"""The engine runs any function: it resumes, prunes and counts exactly, and loads no torch."""

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

import segtune
from segtune import sweeping
from segtune.cli.main import main
from segtune.errors import ConfigError, Interrupted, SegtuneError
from segtune.sweeping.engine.search_settings import SearchSettings
from segtune.sweeping.engine.study import SweepStudy

LINE = {"x": {"min": -5.0, "max": 5.0}}
ENGINE = Path(segtune.__file__).parent / "sweeping" / "engine"


def search(folder, objective, space=LINE, **options):
    values = {"folder": folder, "n_trials": 4, "workers": 0, "pruner": "none", **options}
    lines = []
    return sweeping.run(objective, space, sweeping.SearchSettings(**values), lines.append), lines


def square(trial):
    return trial.params["x"] ** 2


def test_the_engine_imports_no_room_of_segmentation():
    for path in ENGINE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                rooms = (
                    "segtune.sweeping.engine.",
                    "segtune.plugins.",
                    "segtune.runtime.",
                    "segtune.errors",
                )
                assert not name.startswith("segtune") or name.startswith(rooms), (path, name)
                assert name.split(".")[0] not in ("torch", "mlflow", "hydra", "pytorch_lightning")


def test_a_search_loads_no_torch_lightning_mlflow_or_hydra(tmp_path):
    code = (
        "import sys; from segtune import sweeping;"
        f"settings = sweeping.SearchSettings(folder={str(tmp_path)!r}, n_trials=2, workers=1);"
        "sweeping.run(lambda t: t.params['x'], {'x': [1, 2, 3]}, settings);"
        "print({'torch', 'mlflow', 'hydra', 'pytorch_lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 3)])
def test_the_best_trial_is_that_of_the_direction(direction, best, tmp_path):
    space = {"n": [1, 2, 3]}
    result, _ = search(tmp_path, lambda t: t.params["n"], space, n_trials=3, direction=direction)
    assert result.best.params == {"n": best} and result.best.overrides == (f"n={best}",)
    assert [trial.number for trial in result.trials] == [0, 1, 2]


def test_a_small_space_ends_with_its_size_and_repeats_nothing(tmp_path):
    result, lines = search(tmp_path, lambda t: 0.0, {"n": [1, 2], "m": ["a", "b c"]}, n_trials=9)
    assert len({trial.overrides for trial in result.trials}) == result.counts.finished == 4
    assert "the space holds 4 configurations, and none runs twice: 4 trials" in lines


def test_several_directions_give_the_front(tmp_path):
    both = ("minimize", "maximize")
    space = {"n": [1, 2, 3], "m": [0, 1]}
    result, _ = search(
        tmp_path,
        lambda t: (t.params["n"], t.params["n"] - t.params["m"]),
        space,
        n_trials=6,
        direction=both,
    )
    assert [trial.values for trial in result.front] == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None; return the objective, a number"),
        ("good", "returned 'good'"),
        (float("nan"), "none of 3 trials finished.* nan, which is not finite"),
        ((1.0, 2.0), "the search has 1 directions: return a number"),
    ],
)
def test_a_function_that_returns_no_number_is_told_so(returned, message, tmp_path):
    with pytest.raises(SegtuneError, match=message):
        search(tmp_path, lambda t: returned, n_trials=3)


def test_the_error_of_one_trial_is_kept_and_the_others_run(tmp_path):
    def fail_for_two(trial):
        return 1 / (trial.params["n"] - 2)

    result, lines = search(tmp_path, fail_for_two, {"n": [1, 2, 3]}, n_trials=3)
    (failed,) = [trial for trial in result.trials if trial.state == "fail"]
    assert failed.params == {"n": 2} and failed.error == "ZeroDivisionError: division by zero"
    assert result.counts.finished == 2 and f"failed: {failed.error}" in lines
    space = {"n": [1, 2, 3]}
    result, _ = search(tmp_path, lambda t: 0.0, space, n_trials=3, retry_failed=True)
    assert result.counts.finished == 3


def test_pruning_saves_at_least_half_of_the_epochs(tmp_path):
    epochs = {True: 0, False: 0}

    def train(trial, prunes):
        loss = 0.0
        for epoch in range(16):
            epochs[prunes] += 1
            loss = abs(trial.params["x"]) + 5 / (epoch + 1)
            trial.report(loss, epoch)
            if trial.should_prune():
                break
        return loss

    options = {"n_trials": 12, "sampler": "random"}
    full, _ = search(tmp_path / "a", lambda t: train(t, False), **options)
    pruned, _ = search(tmp_path / "b", lambda t: train(t, True), pruner="median", **options)
    assert epochs[False] == 12 * 16 and epochs[True] <= epochs[False] / 2
    assert pruned.best.params == full.best.params and pruned.counts.pruned > 6


def test_the_function_may_raise_trial_pruned(tmp_path):
    def objective(trial):
        if trial.params["n"] == 1:
            raise sweeping.TrialPruned
        return 0.0

    result, _ = search(tmp_path, objective, {"n": [1, 2]}, n_trials=2)
    assert (result.counts.pruned, result.counts.finished) == (1, 1)


def test_a_killed_worker_costs_a_step_and_the_checkpoint_survives(tmp_path):
    def objective(trial):
        steps = trial.checkpoint / "steps"
        first = len(steps.read_text()) if trial.resumed else 0
        for step in range(first, 3):
            trial.report(1.0, step)
            with steps.open("a") as file:
                file.write("x")
            if trial.number in (0, 2) and step == first == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return first

    result, lines = search(tmp_path, objective, n_trials=4, workers=2)
    assert result.counts.finished == 4 and [t.number for t in result.trials] == [0, 1, 2, 3]
    assert [trial.value for trial in result.trials] == [1.0, 0.0, 1.0, 0.0]
    assert all((trial.checkpoint / "steps").read_text() == "xxx" for trial in result.trials)
    assert sum("SIGKILL" in line for line in lines) == 2


def test_a_signal_interrupts_the_function_and_the_same_call_continues(tmp_path):
    def wait(trial):
        if not trial.resumed:
            (trial.checkpoint / "begun").touch()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(30)
        return 0.0

    with pytest.raises(Interrupted, match="The same command continues it"):
        search(tmp_path, wait, n_trials=1)
    result, lines = search(tmp_path, wait, n_trials=1)
    assert result.counts.finished == 1 and lines[1].startswith("trial 0: resumed")
    study = SweepStudy(tmp_path, SearchSettings(folder=tmp_path, n_trials=1))
    assert [t.state for t in study.counted()] == [TrialState.COMPLETE]


def test_status_and_stop_from_another_process_steer_a_search(tmp_path, capsys):
    seen = []

    def train(trial):
        if trial.number == 1:
            raise RuntimeError("no luck")
        trial.report(0.5, 3)
        if trial.number == 2 and not trial.resumed:
            (trial.checkpoint / "begun").touch()
            assert main(["status", str(tmp_path), "--json"]) == 0
            seen.append(json.loads(capsys.readouterr().out))
            assert main(["stop", f"{tmp_path}{os.sep}", "--json"]) == 0
            time.sleep(30)  # the renewed lease hears the request
        return trial.number

    settings = {"n_trials": 3, "name": "toy", "lease": 1.0}
    monkey = pytest.MonkeyPatch()
    monkey.setattr("segtune.cli.verbs.sweeps._STOP_SECONDS", 0.0)
    with monkey.context(), pytest.raises(Interrupted):
        search(tmp_path, train, **settings)
    monkey.undo()
    (state,) = seen
    assert state["search"] == "toy" and state["n_trials"] == 3 and not state["stopping"]
    assert state["best"] == [{"trial": 0, "values": [0.0]}]
    assert state["errors"] == [{"trial": 1, "error": "RuntimeError: no luck"}]
    (running,) = state["running"]
    assert (running["number"], running["step"], running["value"]) == (2, 3, 0.5)
    stopped = sweeping.status(tmp_path)
    assert stopped.is_stopping and stopped.counts.waiting == 1
    assert "2 of 3 done" in stopped.lines()[0] and "asked to stop" in stopped.lines()[0]
    result, _ = search(tmp_path, train, **settings)
    assert result.counts.finished == 2 and not sweeping.status(tmp_path).is_stopping


def test_a_folder_without_a_search_is_named(tmp_path, capsys):
    assert main(["status", f"{tmp_path}/nothing"]) == 2
    assert "holds no search: it has no journal.log" in capsys.readouterr().err


def test_a_process_that_uses_a_gpu_is_not_forked(tmp_path, monkeypatch):
    cuda = SimpleNamespace(is_initialized=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with pytest.raises(ConfigError, match="only inside the objective"):
        search(tmp_path, square, workers=1)
    assert search(tmp_path, square, workers=0)[0].counts.finished == 4


def test_current_trial_is_the_running_one_and_none_outside(tmp_path):
    seen = []

    def objective(trial):
        seen.append(sweeping.current_trial() is trial)
        return 0.0

    search(tmp_path, objective, n_trials=1)
    assert seen == [True] and sweeping.current_trial() is None


def test_another_space_in_the_same_folder_is_refused(tmp_path):
    search(tmp_path, square)
    with pytest.raises(ConfigError, match=r"x: -5 to 5.*x: -1 to 1.*name=…"):
        search(tmp_path, square, {"x": {"min": -1.0, "max": 1.0}}, n_trials=6)
    space = {"x": {"min": -1.0, "max": 1.0}}
    assert search(tmp_path, square, space, n_trials=6, allow_drift=True)[0].counts.finished == 6


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({}, {}, "nothing to search"),
        ({"x": 3}, {}, "search.x=3: give a list of choices"),
        ({"x": []}, {}, "at least one choice"),
        ({"x": [1, 1]}, {}, "1 appears twice"),
        ({"x": {"min": 0, "max": 1, "log": True}}, {}, "starts above 0"),
        (LINE, {"sampler": "grid"}, "a grid needs choices"),
        (LINE, {"sampler": "tpee"}, "sampler=tpee: no such sampler; did you mean 'tpe'"),
        (LINE, {"sampler_options": {"speed": 1}}, "argument 'speed'"),
        (LINE, {"pruner": ""}, "pruner=: no such pruner; known"),
        (LINE, {"n_trials": 0}, "n_trials=0: a number of at least 1"),
        (LINE, {"n_trials": True}, "n_trials=True"),
        (LINE, {"direction": "up"}, "minimize or maximize"),
        (LINE, {"direction": ()}, "minimize or maximize"),
        (LINE, {"storage": "sqlite:///x.db"}, "leave it out for a journal file"),
    ],
)
def test_a_wrong_search_is_refused_before_it_starts(space, options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path / "s", square, space, **options)


@pytest.mark.services
def test_two_processes_share_a_study_in_postgresql(postgresql, tmp_path):
    code = (
        "import os, sys, signal; from segtune import sweeping;"
        "f = lambda t: os.kill(os.getpid(), 9) if t.number == 1 and not t.resumed and not"
        " (t.checkpoint / 'a').touch() else t.params['x'] ** 2;"
        "s = sweeping.SearchSettings(folder=sys.argv[1], n_trials=12, storage=sys.argv[2]);"
        "sweeping.run(f, {'x': {'min': -5.0, 'max': 5.0}}, s)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), postgresql]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    result, _ = search(tmp_path, square, n_trials=12, storage=postgresql, pruner="median")
    assert result.counts.finished == 12 and len({t.overrides for t in result.trials}) == 12
    assert [trial.number for trial in result.trials] == list(range(12))
    assert not (tmp_path / "journal.log").exists()
