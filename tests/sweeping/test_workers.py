"""The number of workers: given, or measured."""

import json

import pytest

from segtune.config.compose import compose
from segtune.errors import ConfigError
from segtune.sweeping.plan import plan_sweep
from segtune.sweeping.spec import SweepSpec
from segtune.training.run_timing import RunTiming
from segtune.training.time_budget import best_workers
from tests.conftest import TINY, tiny_without


def test_auto_takes_the_number_of_workers_that_finishes_most_trials(monkeypatch, tmp_path):
    import torch

    # a step of 100 ms on four threads, 170 on two, 300 on one
    costs = {4: 0.1, 2: 0.17, 1: 0.3}
    monkeypatch.setattr("segtune.training.time_budget.available_processors", lambda: 4)
    monkeypatch.setattr(
        "segtune.training.time_budget.measure_timing",
        lambda _: RunTiming(0.0, costs[torch.get_num_threads()], 0.0, 0.0, 1),
    )
    before = torch.get_num_threads()
    number, reason = best_workers(compose([*TINY, f"tracking.root='{tmp_path}'"]).config)
    assert torch.get_num_threads() == before
    assert number == 4 and "4 of 1 threads: 75" in reason and "1 of 4 threads: 100" in reason


def test_auto_is_measured_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr("segtune.sweeping.launch.best_workers", lambda config: (3, "as measured"))
    file = tmp_path / "s.yaml"
    overrides = [*tiny_without("hp.width"), f"tracking.root={tmp_path}/runs"]
    search = {"hp.width": [16, 24]}
    data = {"n_trials": 2, "workers": "auto", "overrides": overrides, "search": search}
    file.write_text(json.dumps(data))
    lines = []
    plan = plan_sweep(str(file), [], lines.append)
    assert plan.workers == 3 and "sweep.workers=auto: 3 (as measured)" in lines
    with pytest.raises(ConfigError, match="give Slurm and Ray a number"):
        plan_sweep(str(file), ["sweep.launcher=slurm"], lines.append)
    assert SweepSpec(name="x", n_trials=1, workers="auto", search={"hp.width": {}}).processes == 2
