"""Runs and experiments that were deleted in MLflow: the error names the way to restore them."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import segtune
from segtune.config.schema import GateConfig, TrackingConfig
from segtune.errors import ConfigError, StorageError
from segtune.measure.evidence import Evidence
from segtune.report.compare import compare
from segtune.tracking.datasets import reads_of_test, record_read
from segtune.tracking.evidence import load_evidence
from segtune.tracking.promotion import promote, rollback
from segtune.tracking.registry import champion_of, locate, version_run
from segtune.tracking.run_writer import RunWriter, deliver_outboxes
from segtune.tracking.runs import curve, get_run, search_runs, sweep_runs
from segtune.tracking.store import _OPEN_STORES, bookkeeping_experiment, open_store
from segtune.tracking.versions import add_evidence
from tests.conftest import OPEN_GATE, TINY
from tests.report.fakes import fake_run
from tests.tracking.test_gate import contender, failed

GATE = GateConfig()
MESSAGES = {
    "deleted": "was deleted in MLflow.*mlflow runs restore",
    "gc": "not in the store.*mlflow gc",
}


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "a store")))


def remove(store, run_id, removal):
    """Delete a run as MLflow's page does ("deleted"), or for good, as `mlflow gc` does ("gc")."""
    store.client.delete_run(run_id)
    if removal == "gc":
        store.client._tracking_client.store._hard_delete_run(run_id)
        shutil.rmtree(store.root / "artifacts" / run_id, ignore_errors=True)


@pytest.mark.parametrize("removal", ["deleted", "gc"])
def test_a_deleted_run_is_refused_and_left_out_of_its_sweep(store, removal):
    tags = {"segtune.sweep": "s", "segtune.kind": "trial"}
    runs = [contender(store, f"a{n}", 0.7 + n / 20, tags=tags) for n in range(3)]
    remove(store, runs[2].id, removal)
    message = MESSAGES[removal]
    with pytest.raises(ConfigError, match=message):
        get_run(store, runs[2].id)
    with pytest.raises(ConfigError, match=message):
        locate(runs[2].id, store)
    with pytest.raises(ConfigError, match=message):
        locate(f"runs:/{runs[2].id}", store)
    with pytest.raises(ConfigError, match=message):
        compare(store, [runs[2].id])
    assert [r.id for r in sweep_runs(store, "s")] == [runs[0].id, runs[1].id]
    assert compare(store, ["s"]).best.first.id == runs[1].id
    with pytest.raises(ConfigError, match=message):
        promote(store, runs[2], "m", GATE)
    assert champion_of(store, "m") is None
    with pytest.raises(ConfigError, match=message):
        RunWriter(store, runs[2].id).metrics({"a": 1.0}, 0)
    if removal == "deleted":
        store.client.restore_run(runs[2].id)
        assert promote(store, get_run(store, runs[2].id), "m", GATE).moved


@pytest.mark.parametrize("removal", ["deleted", "gc"])
def test_a_champion_outlives_its_run_and_is_compared_by_its_copy(store, removal):
    first = contender(store, "champion1", 0.80)
    assert promote(store, first, "m", GATE).moved
    digest = locate("models:/m@champion", store).manifest_hash
    remove(store, first.id, removal)
    located = locate("models:/m@champion", store)
    assert located.manifest_hash == digest and (located.folder / "manifest.json").is_file()
    copy = version_run(store, "models:/m/1")
    assert copy.name == "champion1" and load_evidence(store, copy, "test") is not None
    assert compare(store, ["models:/m@champion"], split="test").best.first.id == first.id
    assert failed(promote(store, contender(store, "worse2", 0.70), "m", GATE)) >= {"min_gain"}
    better = promote(store, contender(store, "better3", 0.90), "m", GATE)
    assert better.moved and failed(better) == set()
    assert "min_gain" in {v.rule for v in better.verdicts if v.passed}
    assert rollback(store, "m") == (1, 3)
    assert locate("models:/m", store).pinned == "models:/m/1"


def copied(evidence, folder):
    """Evidence reads its masks from its folder when they are needed: give it one that stays."""
    evidence.save(folder / "evidence")
    return Evidence.load(folder / "evidence")


def test_new_evidence_of_a_version_without_its_run_is_saved_with_the_version(store, tmp_path):
    first = contender(store, "champion1", 0.80)
    promote(store, first, "m", GATE)
    evidence = copied(load_evidence(store, first, "test"), tmp_path)
    remove(store, first.id, "gc")
    version = champion_of(store, "m")
    other = with_split(evidence, "night/val")
    assert add_evidence(store, version, other)
    saved = load_evidence(store, version_run(store, "models:/m/1"), "night/val")
    np.testing.assert_array_equal(saved.matrices, evidence.matrices)


@pytest.mark.parametrize("removal", ["deleted", "gc"])
def test_a_promotion_keeps_the_evidence_that_was_saved_with_a_version(store, removal, tmp_path):
    first = contender(store, "champion1", 0.80)
    assert promote(store, first, "m", GATE).moved
    evidence = copied(load_evidence(store, first, "test"), tmp_path)
    remove(store, first.id, removal)
    other = with_split(evidence, "night/val")
    assert add_evidence(store, champion_of(store, "m"), other)
    assert "min_gain" in failed(promote(store, contender(store, "worse2", 0.70), "m", GATE))
    for split in ("test", "night/val"):
        assert load_evidence(store, version_run(store, "models:/m/1"), split) is not None


@pytest.mark.parametrize("removal", ["deleted", "gc"])
def test_commands_for_a_version_without_its_run_name_the_version(store, removal):
    run = contender(store, "champion1", 0.80)
    promote(store, run, "m", GATE)
    remove(store, run.id, removal)
    report = compare(store, ["models:/m/1"], split="test")
    lines = [row["command"] for row in report.facts["next"]]
    assert lines and all("models:/m/1" in line and run.id not in line for line in lines)
    (evaluate,) = (line for line in lines if " evaluate " in line)
    assert ("dataset=NAME" in evaluate) == (removal == "gc")
    assert report.to_json()["uri"] == "models:/m/1"


def test_promoting_a_run_leaves_its_curves_and_metrics_as_they_were(store):
    run = RunWriter(store, contender(store, "a1", 0.8).id)
    run.metrics({"test/miou": 0.75, "cost/params_m": 1.5}, 0)
    before = get_run(store, run.run_id)
    keys = sorted(before.metrics)
    curves = {key: curve(store, run.run_id, key) for key in keys}
    assert len(curves["val/miou"]) == 3
    assert promote(store, before, "m", GATE).moved
    assert get_run(store, run.run_id).metrics == before.metrics
    for key in set(keys) - {"best/val/miou"}:
        assert curve(store, run.run_id, key) == curves[key]


def with_split(evidence, split):
    """Return the same evidence, as if it had been measured on another split."""
    names = ("names", "groups", "sizes", "matrices", "outlines", "calibration", "disputed", "masks")
    fields = {name: getattr(evidence, name) for name in names}
    return type(evidence)(**fields, origin=replace(evidence.origin, split=split))


def test_a_champion_of_0_1_0_without_its_run_blocks_no_promotion_and_the_report_says_so(store):
    first = contender(store, "champion1", 0.80)
    RunWriter(store, first.id).folder_artifact(
        store.root / "runs" / first.id / "segmenter", "model/artifacts/segmenter"
    )
    store.client.create_registered_model("m")
    store.client.create_model_version("m", f"runs:/{first.id}/model", first.id)
    store.client.set_registered_model_alias("m", "champion", "1")
    store.client.set_registered_model_tag("m", "segtune.champions", "[1]")
    assert locate("models:/m/1", store).folder.is_dir()
    remove(store, first.id, "gc")
    with pytest.raises(ConfigError, match=f"its run {first.id} was removed"):
        locate("models:/m@champion", store)
    second = promote(store, contender(store, "better2", 0.9), "m", GATE)
    judged = {v.rule: v for v in second.verdicts}
    assert second.moved and "were not compared" in second.reason
    assert judged["min_gain"].passed is None and "not judged" in judged["min_gain"].figure
    with pytest.raises(ConfigError, match="files of champion 1 before it are gone"):
        rollback(store, "m")


def test_the_error_about_a_deleted_experiment_names_the_way_to_restore_it(store, tmp_path):
    fake_run(store, "a1", sweep="s")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(StorageError, match="mlflow experiments restore --experiment-id 1"):
        RunWriter.create(store, "b", {}, {})
    again = TrackingConfig(root=str(store.root), experiment="segtune")
    _OPEN_STORES.clear()
    with pytest.raises(StorageError, match=r"was deleted in MLflow.*tracking\.experiment=NAME"):
        open_store(again)
    store.client.restore_experiment(store.experiment_id)
    assert len(sweep_runs(open_store(again), "s")) == 1


def test_messages_of_a_deleted_run_wait_until_it_is_restored(store, monkeypatch):
    run = RunWriter.create(store, "r", {}, {})

    def away(*_, **__):
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.client), "log_batch", away)
        run.metrics({"val/miou": 0.4}, 0)
    store.client.delete_run(run.run_id)
    assert deliver_outboxes(store) == 0
    store.client.restore_run(run.run_id)
    assert deliver_outboxes(store) == 0 and curve(store, run.run_id, "val/miou") == [(0, 0.4)]


def test_reads_are_not_listed_as_runs_and_reads_of_0_1_0_still_count(store):
    fake_run(store, "a1", sweep="s", split=None)
    tags = {
        "segtune.kind": "dataset",
        "segtune.dataset": "old",
        "segtune.split": "test",
        "segtune.dataset.name": "d",
    }
    tags["segtune.read.1"] = '{"time": "2026-01-01", "run": "r0", "purpose": "look"}'
    store.client.create_run(store.experiment_id, run_name="d test", tags=tags)
    record_read(store, "d", "test", "old", "r1", "again")
    record_read(store, "d", "test", "new", "r2", "look")
    assert [r.run for r in reads_of_test(store, "d")] == ["r0", "r1", "r2"]
    names = [r.name for r in search_runs(store, {"segtune.kind": "dataset"})]
    assert names == ["d test"] and bookkeeping_experiment(store) != store.experiment_id


def test_a_name_without_a_version_means_the_champion_or_else_the_latest(store):
    gate = GATE.model_copy(update={"max_params_m": 0.1})
    for n in (1, 2):
        assert not promote(store, contender(store, f"a{n}", 0.5 + n / 10), "m", gate).moved
    located = locate("models:/m", store)
    assert located.pinned == "models:/m/2"
    assert located.note == "models:/m is version 2, the latest version"
    promote(store, contender(store, "b3", 0.8), "m", GATE)
    promote(store, contender(store, "b4", 0.6), "m", GATE)
    assert locate("models:/m", store).note == "models:/m is version 3, the champion"
    assert locate("models:/m/latest", store).pinned == "models:/m/4"
    assert locate("models:/m@champion", store).note == ""
    for uri in (
        "models:/nobody",
        "models:/nobody/latest",
        "models:/m/9",
        "models:/m@none",
        "models:/m/x",
        "models:/",
    ):
        with pytest.raises(ConfigError, match="no such registered segmenter"):
            locate(uri, store)


def test_a_versions_page_shows_its_origin_and_figures(store):
    run = RunWriter(store, contender(store, "a1", 0.8).id)
    run.metrics({"test/miou": 0.75, "cost/params_m": 1.5}, 0)
    promote(store, get_run(store, run.run_id), "m", GATE)
    version = champion_of(store, "m")
    figures = "val mIoU 0.8000, test mIoU 0.7500, 1.50 M parameters"
    assert f"`swift` trained on `d`: {figures}" in version.description
    assert version.run_id == run.run_id
    assert version.tags["dataset"] == "d" and version.tags["val/miou"] == "0.8000"
    logged = store.client.get_logged_model(version.tags["segtune.logged_model"])
    assert {m.key: m.value for m in logged.metrics}["test/miou"] == 0.75
    assert logged.source_run_id == run.run_id


@pytest.mark.slow
@pytest.mark.ci
def test_a_champion_still_segments_after_mlflows_own_gc(store_root, tiny_run, tmp_path):
    root = tmp_path / "copy"
    run = segtune.train(*TINY, f"tracking.root='{root}'", say=lambda _: None)
    segtune.promote(run.run_id, "street", *OPEN_GATE, root=str(root))
    uri = f"sqlite:///{root.absolute()}/mlflow.db"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    open_store(TrackingConfig(root=str(root))).client.delete_run(run.run_id)
    subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri],
        env=environment,
        check=True,
    )
    image = np.zeros((64, 96, 3), np.uint8)
    segmentation = segtune.load("models:/street", root=str(root)).segment(image)
    assert segmentation.mask.shape == (64, 96)
