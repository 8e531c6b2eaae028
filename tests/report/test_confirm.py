"""Confirmation: fresh seeds of the best, each trained once, and the optimism of the search."""

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
from tests.conftest import TINY

QUIET = {"say": lambda _: None}


def confirmed_runs():
    return search_runs(open_store(TrackingConfig()), {"segtune.confirms": "s"})


@pytest.fixture
def sweep():
    """Two finished trials, the second of which has learnt less."""
    mious = []
    for n, lr in enumerate((1e-3, 1e-6)):
        config = compose([o for o in TINY if "lrate" not in o] + [f"hp.per_item_lrate={lr}"]).config
        tags = {"segtune.kind": "trial", "segtune.sweep": "s"}
        mious.append(fit(config, RunRequest(f"s-{n}", tags)).miou)
    return mious


def test_the_best_is_trained_once_on_each_fresh_seed_and_the_optimism_is_stated(sweep):
    best = sweep.index(max(sweep))
    done = segtune.confirm("s", top=1, seeds=2, **QUIET)
    row = done.rows[0]
    assert row.trial.name == f"s-{best}" and row.searched == pytest.approx(max(sweep))
    assert done.optimism == pytest.approx(max(sweep) - sum(row.mious) / 2)
    runs = confirmed_runs()
    assert len({r.params["seed"] for r in runs} | {"0"}) == 3  # none of them is the search's
    facts = done.report.facts
    assert len(facts["candidates"]) == 1 and [
        r["miou"] for r in facts["candidates"][0]["runs"]
    ] == list(row.mious)
    again = segtune.confirm("s", top=1, seeds=2, **QUIET)
    assert again.rows[0].mious == row.mious and len(confirmed_runs()) == 2


def test_what_was_interrupted_is_gone_on_with(sweep, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(StopRequest, "listening", _stopped_at_once(StopRequest.listening))
        segtune.confirm("s", top=1, seeds=1, **QUIET)
    begun = confirmed_runs()
    assert [r.state for r in begun] == ["interrupted"]
    segtune.confirm("s", top=1, seeds=1, **QUIET)
    assert [(r.id, r.state) for r in confirmed_runs()] == [(begun[0].id, "finished")]


def test_a_configuration_that_was_searched_with_several_seeds_ranks_by_their_mean(sweep):
    more = compose(
        [*[o for o in TINY if "lrate" not in o], "hp.per_item_lrate=1e-3", "seed=1"]
    ).config
    tags = {"segtune.kind": "trial", "segtune.sweep": "s"}
    second = fit(more, RunRequest("s-2", tags)).miou
    done = segtune.confirm("s", top=3, seeds=1, **QUIET)
    found = {row.trial.name: row.searched for row in done.rows}
    assert found == {"s-0": pytest.approx((sweep[0] + second) / 2), "s-1": pytest.approx(sweep[1])}
    assert [r.searched for r in done.rows] == sorted(found.values(), reverse=True)
    assert not {r.params["seed"] for r in confirmed_runs()} & {"0", "1"}


def _stopped_at_once(listening):
    def stopped(self):
        self.requested = True
        return listening(self)

    return stopped


def test_two_do_not_confirm_at_once(sweep):
    lock = open_store(TrackingConfig()).root / "sweeps" / "s" / "confirm.lock"
    with FileLock(lock), pytest.raises(ConfigError, match="another process"):
        segtune.confirm("s", top=1, seeds=1, **QUIET)
    assert confirmed_runs() == []


def test_a_sweep_that_never_was_is_told():
    with pytest.raises(ConfigError, match="no finished trial"):
        segtune.confirm("nothing", **QUIET)
