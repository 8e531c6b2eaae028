"""A request that fails never means "there is none": every call of the store is made to fail."""

import contextlib

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from sqlalchemy.exc import OperationalError

from segtune.config.schema import GateConfig, TrackingConfig
from segtune.errors import StorageError
from segtune.tracking import client as typed_client
from segtune.tracking import files, listing
from segtune.tracking.client import StoreClient
from segtune.tracking.datasets import pictures, reads, reads_of_test, record_read
from segtune.tracking.evidence import load_evidence
from segtune.tracking.promotion import promote, rollback
from segtune.tracking.recorded import advice_on_test_split
from segtune.tracking.registry import (
    champion_of,
    is_active,
    latest_version,
    locate,
    version_run,
)
from segtune.tracking.runs import artifact, curve, find_run, get_run, sweep_parent, sweep_runs
from segtune.tracking.store import bookkeeping_experiment, open_store
from segtune.tracking.versions import registered_run
from tests.report.fakes import fake_run
from tests.tracking.test_gate import TEST, contender

FAULTS = [
    MlflowException("HTTPConnectionPool: Max retries exceeded"),
    MlflowException("database is locked", codes.TEMPORARILY_UNAVAILABLE),
    MlflowException("no right", codes.PERMISSION_DENIED),
    MlflowException("<html>404", codes.ENDPOINT_NOT_FOUND),  # a proxy whose server is away
    MlflowException("database disk image is malformed", codes.BAD_REQUEST),
    requests.exceptions.ConnectionError("reset by peer"),
    OperationalError("SELECT", {}, ValueError("no such table: runs")),
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
]
GATE = GateConfig()


class Injector:
    """Counts the requests to the store, and lets one of them fail."""

    def __init__(self, monkeypatch):
        self.requests, self.failing, self.fault = 0, None, None
        original, repository = StoreClient._typed, files.get_artifact_repository
        injector = self

        def typed(client, method):
            return original(client, lambda *a, **k: injector.request(lambda: method(*a, **k)))

        def get_repository(*args, **options):
            return FailingFiles(repository(*args, **options), injector)

        monkeypatch.setattr(StoreClient, "_typed", typed)
        monkeypatch.setattr(files, "get_artifact_repository", get_repository)

    def request(self, action):
        self.requests += 1
        if self.requests == self.failing:
            raise self.fault
        return action()

    def start(self, failing=None, fault=None):
        self.requests, self.failing, self.fault = 0, failing, fault


class FailingFiles:
    """An artifact repository whose requests count; MLflow's own answers pass."""

    def __init__(self, repository, injector):
        self._repository, self._injector = repository, injector

    def download_artifacts(self, name, folder=None):
        return self._injector.request(lambda: self._repository.download_artifacts(name, folder))

    def list_artifacts(self, name):
        return self._injector.request(lambda: self._repository.list_artifacts(name))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with a champion, a worse run, a trial, and a recorded read of the test split."""
    store = open_store(TrackingConfig(root=str(tmp_path_factory.mktemp("a store"))))
    champion = contender(store, "champion1", 0.80)
    promote(store, champion, "m", GATE)
    fake_run(store, "trial1", 0.5, sweep="s")
    record_read(store, "d", "test", TEST, champion.id, "look")
    return store, champion, contender(store, "worse2", 0.60)


CALLS = {
    "get_run": lambda s, run: get_run(s, run.id).metrics,
    "get_run, short id": lambda s, run: get_run(s, run.id[:12]).metrics,
    "find_run": lambda s, run: find_run(s, "0" * 32),
    "artifact": lambda s, run: artifact(s, run.id, "config.yaml").read_text(),
    "artifact, none": lambda s, run: artifact(s, run.id, "none.yaml"),
    "curve": lambda s, run: curve(s, run.id, "val/miou"),
    "curve, none": lambda s, run: curve(s, "0" * 32, "val/miou"),
    "sweep_runs": lambda s, run: len(sweep_runs(s, "s")),
    "sweep_parent": lambda s, run: sweep_parent(s, "s"),
    "champion_of": lambda s, run: champion_of(s, "m").version,
    "champion_of, none": lambda s, run: champion_of(s, "none"),
    "latest_version": lambda s, run: latest_version(s, "m").version,
    "is_active": lambda s, run: is_active(s, run.id),
    "locate": lambda s, run: locate(run.id, s).manifest_hash,
    "locate, model": lambda s, run: locate("models:/m", s).note,
    "version_run": lambda s, run: version_run(s, "models:/m/1").id,
    "registered_run": lambda s, run: registered_run(s, champion_of(s, "m")).copy,
    "load_evidence": lambda s, run: load_evidence(s, run, "test").scores.miou,
    "advice": lambda s, run: advice_on_test_split(s, run.id),
    "reads": lambda s, run: reads(s, TEST),
    "reads_of_test": lambda s, run: reads_of_test(s, "d"),
    "pictures": lambda s, run: len(pictures(s, TEST, ["img0"])),
    "bookkeeping": lambda s, run: bookkeeping_experiment(s),
    "list runs": lambda s, run: len(listing.list_runs(s)),
    "list sweeps": lambda s, run: listing.list_sweeps(s),
    "list models": lambda s, run: len(listing.list_models(s)),
    "list datasets": lambda s, run: listing.list_datasets(s),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_read_gives_its_true_result_or_a_storage_error(name, filled, monkeypatch):
    store, run, _ = filled
    call, injector = CALLS[name], Injector(monkeypatch)
    true_result = call(store, run)
    total = injector.requests
    if name != "bookkeeping":  # its answer is remembered
        assert total > 0
    for failing in range(1, total + 1):
        for fault in FAULTS:
            injector.start(failing, fault)
            with contextlib.suppress(StorageError):
                assert call(store, run) == true_result
    injector.start()
    assert call(store, run) == true_result


def test_no_failing_request_makes_a_worse_run_champion(filled, monkeypatch):
    store, champion, worse = filled
    injector = Injector(monkeypatch)
    promote(store, worse, "m", GATE)
    for failing in range(1, injector.requests + 1):
        injector.start(failing, FAULTS[failing % len(FAULTS)])
        with contextlib.suppress(StorageError):
            assert not promote(store, worse, "m", GATE).moved
        injector.start()
        assert champion_of(store, "m").run_id == champion.id


def test_a_failing_request_does_not_roll_back(filled, monkeypatch):
    store, champion, _ = filled
    injector = Injector(monkeypatch)
    for failing in range(1, 8):
        injector.start(failing, FAULTS[0])
        with pytest.raises(Exception):  # noqa: B017, PT011 - the first champion has none before it
            rollback(store, "m")
    injector.start()
    assert champion_of(store, "m").run_id == champion.id


@pytest.mark.parametrize(
    "error", [ValueError("ours"), MlflowException("none", codes.RESOURCE_DOES_NOT_EXIST)]
)
def test_answers_of_the_store_and_faults_of_ours_stay_what_they_are(error):
    assert typed_client.store_error("sqlite:///x", error) is error


def test_no_message_holds_the_servers_password():
    fault = MlflowException("cannot reach http://me:secret@host:5000/api")
    message = str(typed_client.store_error("http://me:secret@host:5000", fault))
    assert "secret" not in message and "http://me@host:5000" in message
