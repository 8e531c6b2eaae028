"""A child runs trial after trial: neither its descriptors nor its memory grow with their number."""

import os

import numpy as np
import psutil
import pytest

from segtune.config.compose import compose
from segtune.runtime.signals import StopRequest
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.launch import _parent_run
from segtune.sweeping.space_building import build_space
from segtune.sweeping.spec import SweepSpec
from segtune.sweeping.worker import WorkerTask, pull
from segtune.tracking.store import open_store
from tests.conftest import tiny_without


def measured(n_trials, folder):
    """Run trials as a worker's child does; return descriptors and bytes before each of them."""
    os.chdir(folder)
    tiny = tiny_without("hp.width", "hp.per_item_lrate", "hp.num_epochs")
    spec = SweepSpec(
        name="warm",
        n_trials=n_trials,
        sampler="random",
        pruner="none",
        overrides=[*tiny, "hp.num_epochs=1", "trainer.threads=1", "tracking.overlays=1"],
        search={
            "hp.per_item_lrate": {"min": 1e-4, "max": 1e-2, "log": True},
            "hp.width": [16, 24],
        },
    )
    space, process, rows = build_space(spec), psutil.Process(), []
    store = open_store(compose(spec.base).config.tracking)
    study = SweepStudy(store.root / "sweeps" / "warm", spec)
    task = WorkerTask(spec, study.folder, _parent_run(store, study, space), threads=1)

    def on_claim():
        rows.append((process.num_fds(), process.memory_info().rss))

    pull(task, space, StopRequest(), "worker", on_claim)
    assert study.counts().finished == n_trials
    return np.array(rows).T


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_descriptors_and_memory_are_flat_over_two_hundred_trials(tmp_path):
    descriptors, memory = measured(200, tmp_path)
    assert descriptors[-50:].max() <= descriptors[25:75].max() + 2
    assert np.median(memory[-50:]) - np.median(memory[25:75]) < 20e6
