"""A new store, which is a copy of an empty one, equals a store that MLflow creates itself."""

import sqlite3
from contextlib import closing
from pathlib import Path

from segtune.config.schema import TrackingConfig
from segtune.tracking.store import open_store


def tables(root: Path) -> tuple[list, list, list]:
    """Return the schema's version, columns and indexes.

    The SQL text of the tables is left out: the order of its parts varies.
    """
    columns = (
        "SELECT m.name, c.* FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table'"
    )
    indexes = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
        column_rows = sorted(database.execute(columns).fetchall(), key=repr)
        return version, column_rows, sorted(database.execute(indexes).fetchall())


def test_a_copied_store_equals_one_that_mlflow_creates_without_a_cache(tmp_path, monkeypatch):
    first = open_store(TrackingConfig(root=str(tmp_path / "first")))
    second = open_store(TrackingConfig(root=str(tmp_path / "the second")))
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "file"))
    without_cache = open_store(TrackingConfig(root=str(tmp_path / "without cache")))
    assert tables(first.root) == tables(second.root) == tables(without_cache.root)
    for store in (first, second, without_cache):
        locations = {e.name: e.artifact_location for e in store.client.search_experiments()}
        assert set(locations) == {"Default", "segtune"}
        assert locations["segtune"] == (store.root / "artifacts").as_uri()
        assert sorted(p.name for p in store.root.iterdir()) == [".store.lock", "mlflow.db"]
