"""Stores and segmenters of earlier versions open with this one.

`tests/fixtures/make_store.py` writes a fixture; an archive beside it is tested here.
"""

import base64
import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import segtune
from segtune.config.schema import TrackingConfig
from segtune.runtime.signals import StopRequest
from segtune.sweeping import launchers
from segtune.sweeping.space_building import build_space
from segtune.sweeping.worker import pull
from segtune.tracking.registry import locate
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store

ARCHIVES = sorted((Path(__file__).parents[1] / "fixtures").glob("*.tar.xz"))
QUIET = {"say": lambda _: None}


@dataclass(frozen=True)
class Earlier:
    """An unpacked fixture; `make_store.py` describes its files and values."""

    folder: Path
    root: Path
    run: str
    interrupted: str
    val_miou: float
    test_miou: float
    sweep_best: float


def relocate(folder: Path, old: str) -> None:
    """Replace the path of the folder in which a store was written by its present path."""
    new = str(folder)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml", ".log"):
            text = path.read_text()
            if old in text:
                path.write_text(text.replace(old, new))
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        columns = database.execute(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
            "WHERE m.type = 'table' AND (c.type LIKE '%CHAR%' OR c.type LIKE '%TEXT%')"
        )
        for table, column in columns.fetchall():
            database.execute(
                f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                f'WHERE instr("{column}", ?)',
                (old, new, old),
            )
        database.commit()


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.split(".tar")[0])
def earlier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    values = json.loads((folder / "expected.json").read_text())
    relocate(folder, values.pop("root"))
    return Earlier(folder, folder / "mlruns", **values)


@pytest.fixture(autouse=True)
def working_folder(earlier, monkeypatch):
    """The folder of the store: a sweep finds its file, and `mlruns` is the default root."""
    monkeypatch.chdir(earlier.folder)


def test_the_segmenter_predicts_the_same_mask_from_its_folder_its_run_and_the_champion(earlier):
    image = np.asarray(Image.open("image.png"))
    expected = np.asarray(Image.open("mask.png"))
    for uri in ("segmenter", f"runs:/{earlier.run}", "models:/street@champion"):
        mask = segtune.load(uri).segment(image).mask
        # another processor may sum in another order, which moves a few borders
        assert (mask == expected).mean() > 0.99, uri


def test_mlflows_loader_runs_the_code_that_was_registered_with_the_champion(earlier):
    folder = locate("models:/street@champion", open_store(TrackingConfig())).folder.parent.parent
    encoded = base64.b64encode(Path("image.png").read_bytes()).decode()
    model = mlflow.pyfunc.load_model(str(folder))
    (row,) = model.predict(pd.DataFrame({"image": [encoded]}))
    expected = segtune.load("segmenter").segment("image.png").regions
    assert json.loads(row["regions"]) == json.loads(json.dumps([r.to_json() for r in expected]))


def test_evaluate_measures_the_same_miou(earlier):
    evidence = segtune.evaluate(earlier.run, split="test", **QUIET)
    assert evidence.scores.miou == pytest.approx(earlier.test_miou, abs=0.005)


def test_compare_and_list_read_the_run_and_the_sweep(earlier):
    report = segtune.compare(earlier.run, "tiny")
    mious = {row["runs"][0]["run"]: row["miou"] for row in report.facts["candidates"]}
    assert mious.pop(earlier.run) == pytest.approx(earlier.val_miou)
    assert round(max(mious.values()), 6) >= round(earlier.sweep_best, 6)
    assert "Optimisation history" in report.html.read_text()
    (sweep,) = segtune.list_entries("sweeps").rows
    assert round(sweep["best_val_miou"], 6) >= round(earlier.sweep_best, 6)
    (model,) = segtune.list_entries("models").rows
    assert model["champion"] and model["run"] == earlier.run


def test_the_interrupted_run_resumes_and_finishes(earlier):
    result = segtune.train(f"resume={earlier.interrupted}", **QUIET)
    assert result.run_id == earlier.interrupted
    assert get_run(open_store(TrackingConfig()), earlier.interrupted).state == "finished"


def test_the_sweep_continues_with_another_trial(earlier, monkeypatch):
    def in_this_process(task, tick, log):
        pull(task, build_space(task.spec), StopRequest(), "worker")

    monkeypatch.setattr(launchers, "launch_local", in_this_process)
    result = segtune.sweep("tiny", "sweep.n_trials=3", **QUIET)
    assert (result.counts.finished, result.counts.done) == (3, 3)


def test_the_champion_is_judged_again(earlier):
    promotion = segtune.promote(earlier.run, "street")
    assert promotion.moved and promotion.reason == "is the champion already"
