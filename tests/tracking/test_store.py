"""A new store is a copy of an empty one, and no different from what MLflow makes itself."""

import sqlite3
from contextlib import closing
from pathlib import Path

from segtune.config.schema import TrackingConfig
from segtune.tracking.store import open_store


def tables(root: Path) -> tuple[list, list, list]:
    """The version, every column and every index; not the text that made them, whose order varies from run to run."""
    columns = "SELECT m.name, c.* FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    indexes = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
        return version, *(
            sorted(database.execute(q).fetchall(), key=repr) for q in (columns, indexes)
        )


def test_a_copied_store_is_what_mlflow_makes_where_nothing_can_be_cached(tmp_path, monkeypatch):
    first, second = (
        open_store(TrackingConfig(root=str(tmp_path / name))) for name in ("first", "the second")
    )
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "file"))
    own = open_store(TrackingConfig(root=str(tmp_path / "own")))
    assert tables(first.root) == tables(second.root) == tables(own.root)
    for store in (first, second, own):
        found = {e.name: e.artifact_location for e in store.client.search_experiments()}
        assert (
            set(found) == {"Default", "segtune"}
            and found["segtune"] == (store.root / "artifacts").as_uri()
        )
        assert sorted(p.name for p in store.root.iterdir()) == [".store.lock", "mlflow.db"]
