"""Confirmation: the best configurations are retrained once per new seed; optimism is reported."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

import segtune
from segtune.config.compose import compose
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, Interrupted
from segtune.report.confirm import Confirmation
from segtune.runtime.signals import StopRequest
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import RunRecord, search_runs
from segtune.tracking.store import open_store
from segtune.training.fit import fit
from segtune.training.request import RunRequest
from segtune.training.result import RunResult
from tests.conftest import tiny_without


@dataclass(frozen=True)
class Sweep:
    """A sweep whose trials have finished."""

    name: str
    root: str
    mious: list[float]

    def confirm(self, **options: int) -> Confirmation:
        return segtune.confirm(self.name, root=self.root, say=lambda _: None, **options)

    def confirmed_runs(self) -> list[RunRecord]:
        store = open_store(TrackingConfig(root=self.root))
        return search_runs(store, {"segtune.confirms": self.name})


def train_trial(sweep: str, number: int, root: str, *words: str) -> RunResult:
    config = compose([*tiny_without("hp.per_item_lrate"), f"tracking.root='{root}'", *words]).config
    tags = {"segtune.kind": "trial", "segtune.sweep": sweep}
    return fit(config, RunRequest(f"s-{number}", tags))


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> tuple[str, list[RunResult]]:
    """A store with two finished trials; the second has learned less."""
    root = str(tmp_path_factory.mktemp("store"))
    rates = [f"hp.per_item_lrate={rate}" for rate in (1e-3, 1e-6)]
    return root, [train_trial("s", number, root, word) for number, word in enumerate(rates)]


@pytest.fixture
def sweep(trials, request) -> Sweep:
    """A sweep of the two trials, of its own name in each test."""
    root, results = trials
    for result in results:
        tags = {"segtune.sweep": request.node.name}
        RunWriter(open_store(TrackingConfig(root=root)), result.run_id).tags(tags)
    return Sweep(request.node.name, root, [result.miou for result in results])


def test_the_best_is_trained_once_with_each_new_seed_and_the_optimism_is_reported(sweep):
    highest = max(sweep.mious)
    confirmation = sweep.confirm(top=1, seeds=2)
    row = confirmation.rows[0]
    assert row.trial.name == f"s-{sweep.mious.index(highest)}"
    assert row.searched == pytest.approx(highest)
    assert confirmation.optimism == pytest.approx(highest - sum(row.mious) / 2)
    runs = sweep.confirmed_runs()
    assert len({r.params["seed"] for r in runs} | {"0"}) == 3  # the search used seed 0
    (candidate,) = confirmation.report.facts["candidates"]
    assert [r["miou"] for r in candidate["runs"]] == list(row.mious)
    again = sweep.confirm(top=1, seeds=2)
    assert again.rows[0].mious == row.mious and len(sweep.confirmed_runs()) == 2


def test_an_interrupted_run_is_resumed(sweep, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(StopRequest, "listening", _stopped_at_once(StopRequest.listening))
        sweep.confirm(top=1, seeds=1)
    begun = sweep.confirmed_runs()
    assert [r.state for r in begun] == ["interrupted"]
    sweep.confirm(top=1, seeds=1)
    assert [(r.id, r.state) for r in sweep.confirmed_runs()] == [(begun[0].id, "finished")]


def test_a_configuration_with_several_seeds_is_ranked_by_their_mean(sweep):
    second = train_trial(sweep.name, 2, sweep.root, "hp.per_item_lrate=1e-3", "seed=1").miou
    rows = sweep.confirm(top=3, seeds=1).rows
    searched = {row.trial.name: row.searched for row in rows}
    means = {"s-0": (sweep.mious[0] + second) / 2, "s-1": sweep.mious[1]}
    assert searched == {name: pytest.approx(mean) for name, mean in means.items()}
    assert [r.searched for r in rows] == sorted(searched.values(), reverse=True)
    assert not {r.params["seed"] for r in sweep.confirmed_runs()} & {"0", "1"}


def _stopped_at_once(listening):
    def stopped(self):
        self.requested = True
        return listening(self)

    return stopped


def test_two_processes_do_not_confirm_one_sweep_at_once(sweep):
    lock = Path(sweep.root) / "sweeps" / sweep.name / "confirm.lock"
    with FileLock(lock), pytest.raises(ConfigError, match="another process"):
        sweep.confirm(top=1, seeds=1)
    assert sweep.confirmed_runs() == []


def test_an_unknown_sweep_is_an_error():
    with pytest.raises(ConfigError, match="no finished trial"):
        segtune.confirm("nothing")
