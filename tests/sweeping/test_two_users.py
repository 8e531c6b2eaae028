"""Two users sweep under the same name on one server: neither sees nor touches the other's runs."""

from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError
from segtune.report.candidates import collect
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.records import RUN
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.engine.study_storage import StudyStorage
from segtune.sweeping.launch import _parent_run, located
from segtune.sweeping.run_sync import adopt_runs, sync_runs
from segtune.sweeping.space import Space
from segtune.tracking.listing import list_sweeps
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import STUDY_TAG, best_run, get_run, sweep_parent, sweep_runs
from segtune.tracking.store import Store, open_store
from tests.report.fakes import fake_run
from tests.sweeping.test_study import make_spec

LINE = Space(("fixed=1",), ("swift",), (SweepDimension("hp.x", "hp.x", low=0.0, high=1.0),))


class User:
    """A root of its own, a store on the shared server, and a study named `t`."""

    def __init__(self, folder: Path, server: str) -> None:
        self.root = folder
        self.store: Store = open_store(TrackingConfig(root=str(folder), uri=server))
        self.study = SweepStudy(folder / "sweeps" / "t", make_spec(n_trials=4))
        self.study.begin()
        self.parent = _parent_run(self.store, self.study, LINE)

    def run_of_trial(self, quality: float, state: str = "finished") -> str:
        """Run a trial; return the id of its run."""
        claim = self.study.claim(LINE)
        tags = {STUDY_TAG: self.study.id, "mlflow.parentRunId": self.parent}
        run = fake_run(self.store, f"t-{claim.trial.number}", quality, state, "t", tags=tags)
        claim.trial.set_user_attr(RUN, run)
        if state == "finished":
            self.study.finish(claim.trial, quality)
        return run


@pytest.fixture
def server(tmp_path):
    return f"sqlite:///{tmp_path}/server.db"  # another file than that of a root


@pytest.fixture
def users(tmp_path, server):
    return User(tmp_path / "a", server), User(tmp_path / "b", server)


def test_a_start_does_not_touch_runs_of_another_study(users):
    ann, bob = users
    running = ann.run_of_trial(0.5, "running")
    stray = RunWriter.create(
        bob.store,
        "t-9",
        {},
        {"segtune.kind": "trial", "segtune.sweep": "t", STUDY_TAG: bob.study.id},
    )
    sync_runs(bob.store, bob.study)
    assert get_run(ann.store, running).state == "running"
    assert [r.id for r in sweep_runs(ann.store, "t")] == [running]
    assert ann.parent != bob.parent and sweep_parent(bob.store, "t") == bob.parent
    with pytest.raises(ConfigError, match="was deleted"):  # Bob's own stray run is removed
        get_run(bob.store, stray.run_id)


def test_best_run_report_and_list_hold_the_own_sweep_alone(users):
    ann, bob = users
    worse, better = ann.run_of_trial(0.4), bob.run_of_trial(0.9)
    assert best_run(sweep_runs(ann.store, "t")).id == worse
    assert best_run(sweep_runs(bob.store, "t")).id == better
    names = [c.first.id for c in collect(ann.store, ["t"], "val").candidates]
    assert names == [worse]
    assert {row["best_val_miou"] for row in list_sweeps(ann.store)} == {0.4, 0.9}


def test_a_name_that_means_several_sweeps_is_refused_where_none_was_started(
    users, tmp_path, server
):
    users[0].run_of_trial(0.4)
    users[1].run_of_trial(0.9)
    third = open_store(TrackingConfig(root=str(tmp_path / "c"), uri=server))
    with pytest.raises(ConfigError, match="2 sweeps of that name"):
        sweep_runs(third, "t")


def test_a_study_without_tags_adopts_the_runs_that_its_trials_name(users):
    ann, bob = users
    parent = RunWriter.create(ann.store, "t", {}, {"segtune.kind": "sweep", "segtune.sweep": "t"})
    claim = ann.study.claim(LINE)
    own = fake_run(ann.store, "t-0", 0.5, sweep="t", tags={"mlflow.parentRunId": parent.run_id})
    claim.trial.set_user_attr(RUN, own)
    ann.study.finish(claim.trial, state=TrialState.FAIL)
    other = fake_run(bob.store, "t-0", 0.6, sweep="t")
    adopt_runs(ann.store, ann.study)
    assert [r.id for r in sweep_runs(ann.store, "t")] == [own]
    assert get_run(ann.store, parent.run_id).tags[STUDY_TAG] == ann.study.id
    assert STUDY_TAG not in get_run(bob.store, other).tags


def test_a_study_of_another_root_in_the_same_database_is_not_continued(tmp_path, monkeypatch):
    database = optuna.storages.InMemoryStorage()
    opened = StudyStorage(database, lambda: FileLock(tmp_path / "lock"), lambda: 1e6)
    monkeypatch.setattr("segtune.sweeping.engine.storage.open_database", lambda url, name: opened)
    spec = make_spec(storage="postgresql://me:secret@host/studies")
    folder = tmp_path / "a" / "sweeps" / "t"
    assert located(spec, folder).storage == spec.storage
    SweepStudy(folder, spec).begin()
    assert located(spec, folder).storage == spec.storage
    with pytest.raises(ConfigError, match=r"holds a study 't' already.*sweep\.name=NAME") as error:
        located(spec, tmp_path / "b" / "sweeps" / "t")
    assert "secret" not in str(error.value)
