"""A new store is a copy of an empty one, and no different from what MLflow makes itself."""

import sqlite3
from contextlib import closing
from pathlib import Path

from segtune.settings import TrackingConfig
from segtune.tracking.store import open_store


def tables(root: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
        rows = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return [*version, *rows]


def test_a_copied_store_is_what_mlflow_makes_where_nothing_can_be_cached(tmp_path, monkeypatch):
    first, second = (open_store(TrackingConfig(root=str(tmp_path / name))) for name in ("first", "the second"))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "file"))
    own = open_store(TrackingConfig(root=str(tmp_path / "own")))
    assert tables(first.root) == tables(second.root) == tables(own.root)
    for store in (first, second, own):
        found = {e.name: e.artifact_location for e in store.client.search_experiments()}
        assert set(found) == {"Default", "segtune"} and found["segtune"] == (store.root / "artifacts").as_uri()
        assert sorted(p.name for p in store.root.iterdir()) == [".store.lock", "mlflow.db"]
