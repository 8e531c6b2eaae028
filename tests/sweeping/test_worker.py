"""A worker's part of a trial: what it asks of the pruner, and when."""

from pathlib import Path

import optuna

from segtune.stopping import StopRequest
from segtune.sweeping import worker
from segtune.sweeping.space import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.study import SweepStudy
from segtune.training import RunResult


def test_a_trial_may_be_pruned_after_each_epoch_but_its_last(tmp_path, monkeypatch):
    overrides = ["dataset=street", "hp.num_epochs=3"]
    spec = SweepSpec(name="t", n_trials=1, search={"hp.width": [16]}, overrides=overrides)
    study = SweepStudy(tmp_path, spec)
    study.study.pruner = optuna.pruners.ThresholdPruner(lower=0.9)  # would prune every value below
    answers = []

    def fit(config, on_epoch, **_):
        answers.extend(on_epoch(epoch, {"val/miou": 0.5}) for epoch in range(3))
        return RunResult("run", "finished", {"val/miou": 0.5}, Path(), Path(), 1.0)

    monkeypatch.setattr(worker, "fit", fit)
    worker._run_trial(study, study.claim(), build_space(spec), "parent", 1, StopRequest(), "worker")
    assert answers == [True, True, False] and study.study.best_value == 0.5
