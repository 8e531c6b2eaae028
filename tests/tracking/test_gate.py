"""The gate: each rule rejects the case built for it; one version per run; and rollback."""

import json
import multiprocessing
import shlex
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segtune.config.commands import program
from segtune.config.compose import compose
from segtune.config.conf_files import load_gate
from segtune.config.schema import GateConfig, TrackingConfig
from segtune.data.sources import open_source, resolved
from segtune.errors import ConfigError
from segtune.models.folder import write_folder
from segtune.tracking.datasets import record_read
from segtune.tracking.promotion import promote, rollback
from segtune.tracking.registry import champion_of
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import artifact, get_run
from segtune.tracking.store import open_store
from tests.models.test_folder import TENSORS
from tests.report.fakes import add_evidence, fake_run, matrices
from tests.tracking.test_recorded import imported

GATE = GateConfig()
TEST = "c" * 64


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "store")))


def make_folder(folder, note):
    """Write a segmenter folder with unique bytes; return the hash of its manifest."""
    return write_folder(
        folder, TENSORS, {"template": note, "preprocessing": {}, "image_size": [64]}
    )


def contender(store, name, quality=0.8, counts=None, *, tags=None, **origin):
    """Return a run with a segmenter folder and evidence on test."""
    run = RunWriter(store, fake_run(store, name, quality, tags=tags))
    digest = make_folder(run.folder / "segmenter", note=name)
    run.folder_artifact(run.folder / "segmenter", "segmenter")
    if counts is None:
        counts = matrices(quality, seed=sum(map(ord, name)))
    add_evidence(store, run, counts, "test", **{"segmenter": digest, "fingerprint": TEST, **origin})
    return get_run(store, run.run_id)


def failed(promotion):
    return {v.rule for v in promotion.verdicts if v.passed is False}


@pytest.fixture
def champion(store):
    run = contender(store, "champion1", 0.80)
    promotion = promote(store, run, "m", GATE)
    assert promotion.moved and promotion.version == 1
    return run


def test_a_better_run_becomes_champion_and_the_decision_is_saved(store, champion):
    run = contender(store, "better2", 0.85)
    promotion = promote(store, run, "m", GATE)
    assert promotion.moved and failed(promotion) == set()
    assert int(champion_of(store, "m").version) == 2
    (file,) = artifact(store, run.id, "promotions").glob("*.json")
    decision = json.loads(file.read_text())
    assert decision["champion"] and decision["before"] == 1 and decision["gate"]["split"] == "test"
    assert {r["rule"] for r in decision["rules"]} >= {"min_gain", "max_ece", "untouched"}


def weak_class():
    counts = matrices(0.9, seed=9)
    lost = counts[:, 2, 2] // 2
    counts[:, 2, 2] -= lost
    counts[:, 2, 0] += lost
    return counts


CASES = {
    "min_gain": ({"quality": 0.80}, {}),
    "max_class_drop": ({"counts": weak_class()}, {"min_gain": None}),
    "max_latency_ms": ({"quality": 0.9}, {"max_latency_ms": 4.0}),
    "max_size_mb": ({"quality": 0.9}, {"max_size_mb": 3.0}),
    "max_params_m": ({"quality": 0.9}, {"max_params_m": 0.5}),
    "max_ece": ({"quality": 0.9}, {"max_ece": 0.001}),
    "provenance": ({"quality": 0.9, "tags": {"segtune.version": ""}}, {}),
    "evidence": ({"quality": 0.9, "segmenter": "other weights"}, {}),
}


@pytest.mark.parametrize("rule", CASES)
def test_each_rule_rejects_the_case_built_for_it_and_the_champion_stays(store, champion, rule):
    fields, gate = CASES[rule]
    rival = contender(store, "rival7", **fields)
    promotion = promote(store, rival, "m", GATE.model_copy(update=gate))
    assert failed(promotion) == {rule} and not promotion.moved
    assert int(champion_of(store, "m").version) == 1 and promotion.version == 2


def test_an_export_that_differs_is_rejected(store, champion):
    run = contender(store, "rival7", 0.9)
    RunWriter(store, run.id).data("exports/onnx.json", {"format": "onnx", "agreement": 0.97})
    assert failed(promote(store, run, "m", GATE)) == {"min_export_agreement"}


def test_evidence_on_a_test_split_that_other_runs_read_is_rejected(store, champion):
    run = contender(store, "rival7", 0.9)
    record_read(store, "d", "test", TEST, run.id, "evaluate")
    record_read(store, "d", "test", TEST, champion.id, "evaluate")
    record_read(store, "d", "test", TEST, "another", "evaluate")
    assert failed(promote(store, run, "m", GATE)) == {"untouched"}


def test_without_evidence_the_gate_fails_and_names_the_command(store, champion):
    run = RunWriter(store, fake_run(store, "rival7", 0.9))
    make_folder(run.folder / "segmenter", note="x")
    run.folder_artifact(run.folder / "segmenter", "segmenter")
    promotion = promote(store, get_run(store, run.run_id), "m", GATE)
    assert {"evidence", "min_gain", "untouched"} <= failed(promotion)
    command = f"segtune evaluate {run.run_id} split=test tracking.root={store.root}"
    assert command in promotion.verdicts[0].figure


def test_a_champion_measured_on_other_data_cannot_be_compared(store, champion):
    promotion = promote(store, contender(store, "rival7", 0.9, fingerprint="d" * 64), "m", GATE)
    assert failed(promotion) == {"min_gain", "max_class_drop"}
    assert any("measured on d (dddddddddddd)" in v.figure for v in promotion.verdicts)


def test_rollback_goes_back_as_far_as_there_are_champions(store, champion):
    promote(store, contender(store, "better2", 0.85), "m", GATE)
    promote(store, contender(store, "better3", 0.90), "m", GATE)
    assert rollback(store, "m") == (2, 3) and rollback(store, "m") == (1, 2)
    assert int(champion_of(store, "m").version) == 1
    with pytest.raises(ConfigError, match="none before it"):
        rollback(store, "m")
    with pytest.raises(ConfigError, match="no champion"):
        rollback(store, "nothing")


def _promote(root, run_id, start):
    store = open_store(TrackingConfig(root=root))
    run = get_run(store, run_id)
    start.wait()
    promote(store, run, "raced", GATE)


def test_three_threads_that_promote_one_run_make_one_version(store):
    run = contender(store, "a1")
    start = threading.Barrier(3)
    with ThreadPoolExecutor() as pool:
        threads = [pool.submit(_promote, str(store.root), run.id, start) for _ in range(3)]
    assert [thread.exception() for thread in threads] == [None] * 3
    assert [v.version for v in store.client.search_model_versions("name = 'raced'")] == [1]


@pytest.mark.slow
@pytest.mark.ci
def test_three_processes_that_promote_one_run_make_one_version(store):
    run = contender(store, "a1")
    context = multiprocessing.get_context("forkserver")  # imports once, not three times
    context.set_forkserver_preload([name for name in sys.modules if name.startswith("segtune.")])
    start = context.Barrier(3)
    processes = [
        context.Process(target=_promote, args=(str(store.root), run.id, start)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [p.exitcode for p in processes] == [0, 0, 0]
    assert [v.version for v in store.client.search_model_versions("name = 'raced'")] == [1]


def test_gate_files_and_overrides_are_read_and_typos_are_refused():
    assert load_gate() == GATE and load_gate(["gate=val"]).split == "val"
    assert load_gate(["gate.max_ece=0.5", "gate.min_gain=null"]).min_gain is None
    faults = [
        ("gate=vall", "did you mean 'val'"),
        ("gate.max_eec=1", "max_ece"),
        ("gate.max_ece=7", "max_ece=7"),
    ]
    for word, message in faults:
        with pytest.raises(ConfigError, match=message):
            load_gate([word])


def test_images_of_one_group_cannot_show_a_gain(store):
    for name, quality in (("a1", 0.8), ("b2", 0.9)):
        last = promote(store, contender(store, name, quality, groups=("v",) * 120), "g", GATE)
    assert failed(last) == {"min_gain"}
    assert np.all([v.passed is not False for v in last.verdicts if v.rule != "min_gain"])


@pytest.fixture
def without_test_split(tmp_path, store):
    """A run with evidence on val, of a dataset without a test split."""
    config = compose([*imported(tmp_path), "dataset.groups=null"]).config
    dataset = resolved(config.dataset, open_source(config.dataset))
    run = RunWriter(store, fake_run(store, "only1", 0.8, split=None))
    digest = make_folder(run.folder / "segmenter", note="only1")
    run.folder_artifact(run.folder / "segmenter", "segmenter")
    add_evidence(store, run, matrices(0.8), "val", segmenter=digest)
    run.data("config.yaml", config.model_copy(update={"dataset": dataset}).model_dump(mode="json"))
    return get_run(store, run.run_id)


def test_without_a_test_split_the_gate_judges_val_and_says_so(store, without_test_split):
    promotion = promote(store, without_test_split, "m", load_gate())
    assert promotion.moved and promotion.split == "val" and failed(promotion) == set()
    *_, line, note = promotion.lines()
    assert line.endswith("is the first champion (judged on val)")
    assert note.startswith("! Judged on val")
    command = note[note.index(shlex.quote(program()[0])) :]
    words = shlex.split(command)[len(program()) + 1 :]
    assert set(open_source(compose(words).config.dataset).splits()) >= {"train", "val", "test"}
    (file,) = artifact(store, without_test_split.id, "promotions").iterdir()
    decision = json.loads(file.read_text())
    assert decision["split"] == decision["gate"]["split"] == "val"
    assert decision["note"] == promotion.note


def test_an_explicit_test_split_is_not_replaced_by_val(store, without_test_split):
    promotion = promote(store, without_test_split, "m", load_gate(["gate.split=test"]))
    assert not promotion.moved and promotion.note == ""
    assert {"evidence", "untouched"} <= failed(promotion)
    assert "no test split" in promotion.verdicts[0].figure
