"""The ends of a trial: finished, pruned, infeasible, out of memory, diverged."""

import signal
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from safetensors import SafetensorError

import segtune
from segtune.config.commands import recorded_words
from segtune.config.schema import TrackingConfig
from segtune.errors import Interrupted, SegtuneError, StorageError
from segtune.runtime.retry import is_passing
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.records import ERROR, OVERRIDES, RUN, Counts
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.trial import run_trial
from segtune.tracking.runs import get_run, search_runs
from segtune.tracking.store import open_store
from segtune.training.result import RunResult
from tests.conftest import SCENES, tiny_without

NO_PARENT = ""


class Sweep:
    """A study with its space, whose trials are run one by one in this process."""

    def __init__(self, folder: Path, **options):
        values = {"name": "t", "n_trials": 1, "pruner": "none", "search": {"hp.width": [16]}}
        values |= options
        values.setdefault("overrides", tiny_without(*values["search"]))
        self.spec = SweepSpec(**values)
        self.space, self.study = build_space(self.spec), SweepStudy(folder, self.spec)

    def run(self) -> optuna.trial.FrozenTrial:
        claim = self.study.claim(self.space)
        stop = StopRequest()
        run_trial(self.study, claim, NO_PARENT, 1, stop, say=lambda _: None)
        return self.study.study.trials[claim.trial.number]


def test_a_trial_may_be_pruned_after_each_epoch_but_its_last(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path, overrides=[*SCENES, "hp.num_epochs=3"])
    sweep.study.study.pruner = optuna.pruners.ThresholdPruner(lower=0.9)  # prunes 0.5
    prune_answers = []

    def fit(config, request, hooks, **_):
        prune_answers.extend(hooks.on_epoch(epoch, {"val/miou": 0.5}) for epoch in range(3))
        hooks.commit(RunResult("run", "finished", {"val/miou": 0.5}, Path(), Path(), 1.0))

    monkeypatch.setattr("segtune.sweeping.trial.fit", fit)
    assert sweep.run().value == 0.5 and prune_answers == [True, True, False]


@pytest.mark.slow
@pytest.mark.ci
def test_a_paused_trial_goes_on_exactly_where_it_stopped(tmp_path):
    whole = Sweep(tmp_path / "whole").run()
    sweep = Sweep(tmp_path / "paused", fidelity=1)
    paused = sweep.run()
    folder = open_store(TrackingConfig()).root / "runs" / paused.user_attrs[RUN]
    assert paused.state == TrialState.PRUNED and (folder / "last.ckpt").exists()
    ended = sweep.run()
    assert ended.user_attrs[RUN] == paused.user_attrs[RUN]
    assert len(paused.intermediate_values) == 1 and len(ended.intermediate_values) == 2
    assert (ended.value, ended.intermediate_values) == (whole.value, whole.intermediate_values)
    assert sweep.study.counts() == Counts(finished=1) and not (folder / "last.ckpt").exists()


def test_the_command_of_a_trial_means_the_same_from_any_folder(tmp_path, monkeypatch):
    recorded = {}

    def fit(config, request, hooks, **_):
        recorded.update(request.tags)
        hooks.commit(RunResult("run", "finished", {"val/miou": 0.5}, Path(), Path(), 1.0))

    monkeypatch.setattr("segtune.sweeping.trial.fit", fit)
    Sweep(tmp_path, overrides=[*SCENES, "tracking.root=my runs"]).run()
    words = recorded_words(recorded["segtune.command"], "train")
    assert f"tracking.root={tmp_path / 'my runs'}" in words and "hp.width=16" in words


@pytest.mark.parametrize(("of_sweep", "recorded"), [([], 1), (["trainer.threads=3"], 3)])
def test_the_command_of_a_trial_records_the_threads_that_it_ran_with(
    of_sweep, recorded, tmp_path, monkeypatch
):
    runs = []

    def fit(config, request, hooks, **_):
        words = recorded_words(request.tags["segtune.command"], "train")
        runs.append((config.trainer.threads, words))
        hooks.commit(RunResult("run", "finished", {"val/miou": 0.5}, Path(), Path(), 1.0))

    monkeypatch.setattr("segtune.sweeping.trial.fit", fit)
    Sweep(tmp_path, overrides=[*SCENES, *of_sweep]).run()  # one thread is the worker's share
    ((threads, words),) = runs
    assert threads == recorded
    assert [w for w in words if w.startswith("trainer.threads=")] == [f"trainer.threads={recorded}"]


def test_an_infeasible_trial_ends_before_training_and_records_its_constraints(tmp_path):
    sweep = Sweep(tmp_path, constraints={"params_m": 0.1, "latency_ms": 1e6})
    trial = sweep.run()
    assert trial.state == TrialState.PRUNED and not trial.intermediate_values
    assert trial.constraints["params_m"] > 0 > trial.constraints["latency_ms"]
    run = get_run(open_store(TrackingConfig()), trial.user_attrs[RUN])
    assert run.state == "infeasible" and run.metrics["cost/params_m"] > 0.1 and run.miou is None


def test_a_feasible_trial_keeps_its_cost(tmp_path):
    trial = Sweep(tmp_path, constraints={"params_m": 10, "memory_mb": 1e5}).run()
    assert trial.state == TrialState.COMPLETE and trial.constraints["params_m"] < 0
    assert set(trial.user_attrs["cost"]) >= {"params_m", "latency_ms"}


def test_out_of_memory_is_retried_once_with_half_the_batch_and_the_same_lr_per_item(
    tmp_path, monkeypatch
):
    sizes = []

    def fit(config, *_, **__):
        sizes.append((config.hp["batch_size"], config.hp["per_item_lrate"]))
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr("segtune.sweeping.trial.fit", fit)
    sweep = Sweep(tmp_path, search={"hp.batch_size": [3, 8], "hp.width": [16]})
    first, second = sweep.run(), sweep.run()
    assert [s for s, _ in sizes] in ([3, 1], [8, 4]) and sizes[0][1] == sizes[1][1]
    assert sweep.study.counts() == Counts(failed=1)
    assert first.user_attrs[OVERRIDES] != second.user_attrs[OVERRIDES]
    assert "hp.batch_size" not in second.params  # half the batch is not among the choices
    assert second.params["hp.width"] == "16"
    assert "can't allocate memory" in second.user_attrs[ERROR]


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed"),
        RuntimeError("unable to write to file: No space left on device (28)"),
    ],
)
def test_a_full_disk_is_no_fault_of_the_trial(error, tmp_path, monkeypatch):
    def fit(config, request, hooks, **_):
        hooks.on_start("a" * 32)
        raise error

    monkeypatch.setattr("segtune.sweeping.trial.fit", fit)
    sweep = Sweep(tmp_path)
    with pytest.raises(StorageError) as raised:
        sweep.run()
    assert is_passing(raised.value) and sweep.study.counts() == Counts(waiting=1)
    assert sweep.study.claim(sweep.space).run == "a" * 32


def test_a_diverged_trial_fails_with_its_step_and_is_not_registered(tmp_path):
    more = ["hp.per_item_lrate=1e30", "optimizer=sgd"]
    trial = Sweep(tmp_path, overrides=tiny_without("hp.width", "hp.per_item_lrate") + more).run()
    assert trial.state == TrialState.FAIL and trial.value is None
    assert "at step " in trial.user_attrs[ERROR]
    with pytest.raises(SegtuneError):
        segtune.promote(trial.user_attrs[RUN], "t")


def test_a_trial_that_another_worker_finished_and_its_run_stay_untouched(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path)
    report = optuna.Trial.report

    def taken_over(trial, value, step):
        sweep.study.study.tell(trial.number, state=TrialState.FAIL)  # as another worker does
        report(trial, value, step)

    monkeypatch.setattr(optuna.Trial, "report", taken_over)
    lines = []
    claim = sweep.study.claim(sweep.space)
    run_trial(sweep.study, claim, NO_PARENT, 1, StopRequest(), lines.append)
    assert "taken over" in lines[-1]
    trial = sweep.study.study.trials[0]
    assert ERROR not in trial.user_attrs
    run = get_run(open_store(TrackingConfig()), trial.user_attrs[RUN])
    assert run.state == "running"  # the other worker ends it


def test_a_signal_that_comes_while_the_study_is_read_is_not_lost(tmp_path, monkeypatch):
    sweep, stop, calls = Sweep(tmp_path), StopRequest(), []

    def stop_requested() -> bool:
        calls.append(True)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return False

    claim = sweep.study.claim(sweep.space)
    monkeypatch.setattr(sweep.study, "stop_requested", stop_requested)
    with stop.listening(), pytest.raises(Interrupted):
        run_trial(sweep.study, claim, NO_PARENT, 1, stop, say=lambda _: None)
    assert sweep.study.counts().waiting == 1
    (run,) = search_runs(open_store(TrackingConfig()), {"segtune.sweep": "t"})
    assert run.state == "interrupted"
