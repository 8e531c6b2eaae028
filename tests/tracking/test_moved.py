"""A store works wherever it lies, and a lost database is told at once."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from segtune.config.schema import GateConfig, TrackingConfig
from segtune.errors import StorageError
from segtune.tracking.promotion import promote
from segtune.tracking.registry import locate
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import artifact, get_run, search_runs
from segtune.tracking.store import _OPEN_STORES, open_store
from tests.report.fakes import fake_run
from tests.tracking.test_gate import contender


def opened(root):
    return open_store(TrackingConfig(root=str(root)))


def locations(root):
    """Return every location in the database."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        rows = database.execute("SELECT artifact_uri FROM runs").fetchall()
        rows += database.execute("SELECT artifact_location FROM logged_models").fetchall()
        rows += database.execute("SELECT source FROM model_versions").fetchall()
        rows += database.execute("SELECT artifact_location FROM experiments").fetchall()
    return [row[0] for row in rows if row[0] and not row[0].startswith("mlflow-artifacts")]


@pytest.fixture
def filled(tmp_path):
    root = tmp_path / "a project" / "mlruns"
    store = opened(root)
    run = contender(store, "champion1", 0.80)
    promote(store, run, "m", GateConfig())
    return root, run


@pytest.mark.parametrize("way", ["move", "copy"])
def test_a_store_reads_and_writes_its_own_files_after_a_move_and_a_copy(
    way, filled, tmp_path, capsys
):
    root, run = filled
    place = tmp_path / "elsewhere 100%" / "mlruns"
    place.parent.mkdir()
    (shutil.move if way == "move" else shutil.copytree)(root, place)
    before = sorted(root.rglob("*")) if way == "copy" else []
    store = opened(place)
    assert f"was in '{root}' before" in capsys.readouterr().err
    assert artifact(store, run.id, "config.yaml").is_relative_to(place)
    assert locate("models:/m@champion", store).folder.is_relative_to(place)
    new = RunWriter.create(store, "new", {}, {})
    new.text("note.txt", "here")
    assert artifact(store, new.run_id, "note.txt").is_relative_to(place)
    store.client.log_text(run.id, "first champion", "promotions/late.json")  # of a known run
    assert artifact(store, run.id, "promotions/late.json").is_relative_to(place)
    old_place = str(root).replace(" ", "%20")
    assert not [text for text in locations(place) if old_place in text or str(root) in text]
    if way == "move":
        assert not root.exists()
    else:
        assert sorted(root.rglob("*")) == before
        assert artifact(opened(root), run.id, "config.yaml").is_relative_to(root)
    opened(place)
    assert "before" not in capsys.readouterr().err


def test_an_experiment_that_the_user_put_elsewhere_stays_there(filled, tmp_path):
    root, _ = filled
    own = (tmp_path / "drive" / "artifacts").as_uri()
    store = opened(root)
    store.client.create_run(store.client.create_experiment("own", own))
    shutil.move(root, tmp_path / "b")
    moved = opened(tmp_path / "b")
    assert moved.client.get_experiment_by_name("own").artifact_location == own


def test_a_store_opens_without_the_right_to_write_to_its_folder(filled, monkeypatch):
    root, run = filled
    files = sorted(path for path in root.rglob("*"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    _OPEN_STORES.clear()
    assert get_run(opened(root), run.id).id == run.id
    assert artifact(opened(root), run.id, "config.yaml") is not None
    assert sorted(path for path in root.rglob("*")) == files


@pytest.mark.parametrize("fault", ["deleted", "replaced", "garbage"])
def test_a_database_that_is_lost_in_use_is_a_storage_error_at_once(fault, tmp_path):
    store = opened(tmp_path / "s")
    run = fake_run(store, "a1")
    path = store.root / "mlflow.db"
    if fault == "garbage":
        with path.open("r+b") as file:
            file.write(b"no database " * 1000)
    else:
        path.unlink()
    if fault == "replaced":
        path.write_bytes(b"")
    with pytest.raises(StorageError, match=fault if fault != "garbage" else "damaged"):
        get_run(store, run)
    with pytest.raises(StorageError):
        RunWriter(store, run).metrics({"a": 1.0}, 0)
    _OPEN_STORES.clear()  # as in another process
    with pytest.raises(StorageError, match="database"):
        opened(store.root)


def test_a_database_that_is_put_back_is_used_again(tmp_path):
    store = opened(tmp_path / "s")
    run = fake_run(store, "a1")
    copy = shutil.copyfile(store.root / "mlflow.db", tmp_path / "copy.db")
    (store.root / "mlflow.db").unlink()
    shutil.copyfile(copy, store.root / "mlflow.db")
    assert [r.id for r in search_runs(opened(store.root), {})] == [run]
