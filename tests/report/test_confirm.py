"""Confirmation: the best configurations are retrained once per new seed; optimism is reported."""

import pytest
from filelock import FileLock

import segtune
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, Interrupted
from segtune.runtime.signals import StopRequest
from segtune.tracking.runs import search_runs
from segtune.tracking.store import open_store
from segtune.training.fit import fit
from segtune.training.request import RunRequest
from tests.conftest import tiny_without

QUIET = {"say": lambda _: None}


def confirmed_runs():
    return search_runs(open_store(TrackingConfig()), {"segtune.confirms": "s"})


@pytest.fixture
def sweep():
    """Two finished trials; the second has learned less."""
    mious = []
    for n, lr in enumerate((1e-3, 1e-6)):
        config = compose([*tiny_without("hp.per_item_lrate"), f"hp.per_item_lrate={lr}"]).config
        tags = {"segtune.kind": "trial", "segtune.sweep": "s"}
        mious.append(fit(config, RunRequest(f"s-{n}", tags)).miou)
    return mious


def test_the_best_is_trained_once_with_each_new_seed_and_the_optimism_is_reported(sweep):
    best = sweep.index(max(sweep))
    confirmation = segtune.confirm("s", top=1, seeds=2, **QUIET)
    row = confirmation.rows[0]
    assert row.trial.name == f"s-{best}" and row.searched == pytest.approx(max(sweep))
    assert confirmation.optimism == pytest.approx(max(sweep) - sum(row.mious) / 2)
    runs = confirmed_runs()
    assert len({r.params["seed"] for r in runs} | {"0"}) == 3  # the search used seed 0
    (candidate,) = confirmation.report.facts["candidates"]
    assert [r["miou"] for r in candidate["runs"]] == list(row.mious)
    again = segtune.confirm("s", top=1, seeds=2, **QUIET)
    assert again.rows[0].mious == row.mious and len(confirmed_runs()) == 2


def test_an_interrupted_run_is_resumed(sweep, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(StopRequest, "listening", _stopped_at_once(StopRequest.listening))
        segtune.confirm("s", top=1, seeds=1, **QUIET)
    begun = confirmed_runs()
    assert [r.state for r in begun] == ["interrupted"]
    segtune.confirm("s", top=1, seeds=1, **QUIET)
    assert [(r.id, r.state) for r in confirmed_runs()] == [(begun[0].id, "finished")]


def test_a_configuration_with_several_seeds_is_ranked_by_their_mean(sweep):
    config = compose(
        [*tiny_without("hp.per_item_lrate"), "hp.per_item_lrate=1e-3", "seed=1"]
    ).config
    tags = {"segtune.kind": "trial", "segtune.sweep": "s"}
    second = fit(config, RunRequest("s-2", tags)).miou
    rows = segtune.confirm("s", top=3, seeds=1, **QUIET).rows
    searched = {row.trial.name: row.searched for row in rows}
    means = {"s-0": (sweep[0] + second) / 2, "s-1": sweep[1]}
    assert searched == {name: pytest.approx(mean) for name, mean in means.items()}
    assert [r.searched for r in rows] == sorted(searched.values(), reverse=True)
    assert not {r.params["seed"] for r in confirmed_runs()} & {"0", "1"}


def _stopped_at_once(listening):
    def stopped(self):
        self.requested = True
        return listening(self)

    return stopped


def test_two_processes_do_not_confirm_one_sweep_at_once(sweep):
    lock = open_store(TrackingConfig()).root / "sweeps" / "s" / "confirm.lock"
    with FileLock(lock), pytest.raises(ConfigError, match="another process"):
        segtune.confirm("s", top=1, seeds=1, **QUIET)
    assert confirmed_runs() == []


def test_an_unknown_sweep_is_an_error():
    with pytest.raises(ConfigError, match="no finished trial"):
        segtune.confirm("nothing", **QUIET)
