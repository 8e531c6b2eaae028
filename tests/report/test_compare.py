"""The report: self-contained, the store's numbers and no others, hostile names shown as text."""

import json
import re

import pytest

from segtune.classes import ClassTable
from segtune.errors import ConfigError
from segtune.report.compare import compare
from segtune.settings import TrackingConfig
from segtune.tracking.runs import RunWriter
from segtune.tracking.store import open_store

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "store")))


def fake_run(store, name, miou, state="finished", sweep="s", dataset="d"):
    tags = {"segtune.kind": "trial", "segtune.sweep": sweep, "segtune.dataset": dataset}
    run = RunWriter.create(store, name, {"hp.width": name[-1], "hp.same": "1"}, tags)
    run.data("classes.json", ClassTable.parse(["road", EVIL]).to_json())
    run.data("config.yaml", {"seed": 3})
    for epoch in range(3):
        run.metrics({"val/miou": miou * (epoch + 1) / 3, "epoch": epoch}, epoch)
    if state == "finished":
        run.metrics({"best/val/miou": miou, "best/val/iou/road": miou}, 3)
    run.finish(state)
    return run.run_id


def test_the_page_needs_no_network_and_shows_hostile_names_as_text(store):
    fake_run(store, EVIL + "1", 0.5)
    fake_run(store, "b2", 0.7)
    report = compare(store, ["s"])
    page = report.html.read_text()
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert EVIL not in page.replace("<\\/script", "") and "&lt;script&gt;" in body
    assert not re.search(r"""(src|href)=["'](https?:)?//""", body)


def test_the_numbers_are_the_stores(store):
    best = fake_run(store, "a1", 0.71)
    fake_run(store, "b2", 0.62)
    fake_run(store, "c3", 0.3, state="pruned")
    report = compare(store, ["s"])
    facts = json.loads(report.json.read_text())
    assert [r["miou"] for r in facts["runs"]] == [0.71, 0.62, None]
    assert facts["runs"][0]["run"] == best == report.best.id
    assert facts["runs"][2]["last_val_miou"] == pytest.approx(0.3)
    assert facts["varied"] == ["hp.width"] and facts["runs"][0]["iou"] == {"road": 0.71, EVIL: None}


def test_single_runs_are_compared_by_id(store):
    ids = [fake_run(store, "a1", 0.4, sweep="x"), fake_run(store, "b2", 0.5, sweep="y")]
    assert compare(store, ids).runs == 2


def test_runs_of_different_val_splits_are_not_compared(store):
    fake_run(store, "a1", 0.4)
    fake_run(store, "b2", 0.5, dataset="other")
    with pytest.raises(ConfigError, match="different val splits"):
        compare(store, ["s"])


@pytest.mark.parametrize("names", [[], ["nowhere"]])
def test_nothing_to_compare_is_told(store, names):
    with pytest.raises(ConfigError):
        compare(store, names)


def test_a_sweep_without_a_finished_run_gives_a_page_that_says_so(store):
    fake_run(store, "a1", 0.4, state="failed")
    report = compare(store, ["s"])
    assert report.best is None and "No run has finished yet" in report.html.read_text()
