"""The content of a store in MLflow's page and in `segtune list`."""

import json

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import IntegrityError

import segtune
from segtune.api import experiments, sweeps
from segtune.cli.main import main
from segtune.config.schema import GateConfig, TrackingConfig
from segtune.errors import ConfigError
from segtune.sweeping.engine.records import Counts
from segtune.sweeping.launch import SweepResult
from segtune.tracking.datasets import record_read
from segtune.tracking.promotion import promote
from segtune.tracking.run_table import run_table
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import curve, get_run
from segtune.tracking.store import open_store
from segtune.training.result import RunResult
from tests.conftest import TINY
from tests.report.fakes import fake_run
from tests.tracking.test_gate import contender

GATE = GateConfig()


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "a store")))


def test_each_kind_is_listed_newest_first_with_one_line_per_entry(store, capsys):
    for n, name in enumerate(("one", "two")):
        parent = RunWriter.create(store, name, {}, {"segtune.kind": "sweep", "segtune.sweep": name})
        parent.finish("finished")
        fake_run(store, f"{name}-0", 0.5 + n / 10, sweep=name)
        fake_run(store, f"{name}-1", 0.4, "pruned", sweep=name)
    for n in (1, 2):
        promote(store, contender(store, f"m{n}", 0.5 + n / 10), "street", GATE)
    record_read(store, "d", "test", "9" * 64, "r", "look")
    store.client.delete_run(fake_run(store, "gone"))
    expected = {
        "runs": (6, "m2"),
        "sweeps": (2, "two"),
        "models": (2, "models:/street/2"),
        "datasets": (3, "999999"),
    }
    for kind, (count, first) in expected.items():
        listing = segtune.list_entries(kind, root=str(store.root))
        _, *lines = listing.lines()
        assert len(listing.rows) == len(lines) == count and first in lines[0]
        assert main(["list", kind, f"tracking.root={store.root}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[kind] == list(listing.rows)
    sweeps = segtune.list_entries("sweeps", root=str(store.root)).rows
    counts = [(s["finished"], s["pruned"], s["best_val_miou"]) for s in sweeps]
    assert counts == [(1, 1, 0.6), (1, 1, 0.5)]
    models = segtune.list_entries("models", root=str(store.root)).rows
    assert [m["champion"] for m in models] == [True, False]
    with pytest.raises(ConfigError, match="did you mean 'models'"):
        segtune.list_entries("model", root=str(store.root))
    assert main(["list", "sweeep", f"tracking.root={store.root}"]) == 2


def test_an_empty_store_lists_nothing(store, capsys):
    assert main(["list", "runs", f"tracking.root={store.root}"]) == 0
    assert "no runs yet" in capsys.readouterr().out


def test_the_printed_address_opens_the_run_table_with_our_columns(store):
    serve, address = run_table(store)
    assert "ui --backend-store-uri" in serve and "a store/mlflow.db'" in serve
    assert address.startswith(f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs?")
    tags = store.client.get_experiment(store.experiment_id).tags
    key = address.partition("viewStateShareKey=")[2].partition("&")[0]
    view = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    columns = {
        "metrics.`best/val/miou`",
        "metrics.`test/miou`",
        "attributes.`Dataset`",
        "attributes.`Source`",
    }
    assert columns <= set(view["selectedColumns"])
    # sorted by time, MLflow would fold the trials under their sweep
    assert view["columnOrder"][0] == view["orderByKey"] == "metrics.`best/val/miou`"
    assert tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_a_finished_training_is_printed_while_the_tracking_server_is_away(
    store, verb, monkeypatch, capsys
):
    def away(*_, **__):
        raise MlflowException("API request failed: connection refused")

    run = get_run(store, fake_run(store, "a1"))
    trained = RunResult(
        run.id, "finished", {"val/miou": 0.8}, store.root / "segmenter", store.root, 1.0
    )
    swept = SweepResult("s", Counts(finished=1), run, "parent", 1.0, store.tracking)
    room = experiments if verb == "train" else sweeps
    monkeypatch.setattr(room, verb, lambda *_, **__: trained if verb == "train" else swept)
    monkeypatch.setattr(type(store.client), "get_experiment", away)
    words = [verb, *(["s"] if verb == "sweep" else []), f"tracking.root={store.root}"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "next: " in shown and "in MLflow" not in shown
    assert main([*words, "--json"]) == 0 and json.loads(capsys.readouterr().out)


def test_a_sweep_with_failed_trials_names_the_command_that_retries_them(store, monkeypatch, capsys):
    run = get_run(store, fake_run(store, "a1"))
    swept = SweepResult("s", Counts(finished=1, failed=2), run, "parent", 1.0, store.tracking)
    monkeypatch.setattr(sweeps, "sweep", lambda *_: swept)
    assert main(["sweep", "s", f"tracking.root={store.root}"]) == 0
    shown = capsys.readouterr().out
    assert "2 failed" in shown and "segtune retry s" in shown


@pytest.mark.parametrize(
    "error", [IntegrityError("INSERT", {}, ValueError("UNIQUE")), MlflowException("IntegrityError")]
)
def test_a_dataset_is_logged_again_if_another_process_logs_it_at_the_same_moment(
    store, monkeypatch, error
):
    original, calls = type(store.client).log_inputs, []

    def second_of_two(client, *words):
        calls.append(words)
        if len(calls) == 1:
            raise error
        return original(client, *words)

    monkeypatch.setattr(type(store.client), "log_inputs", second_of_two)
    run = RunWriter.create(store, "a", {}, {})
    row = {"name": "roads", "digest": "d", "source": "/data", "context": "train", "profile": {}}
    run.inputs([row])
    assert len(calls) == 2
    inputs = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert [i.dataset.name for i in inputs] == ["roads"]


def test_a_second_listing_writes_nothing(store, monkeypatch):
    RunWriter.create(store, "s", {}, {"segtune.kind": "sweep", "segtune.sweep": "s"})
    run_table(store)
    monkeypatch.setattr(
        type(store.client), "set_experiment_tag", lambda *_: pytest.fail("nothing changed")
    )
    run_table(store)


def test_a_run_shows_its_datasets_rates_losses_test_metrics_and_load(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    words = [
        *TINY,
        "trainer.val_every=2",
        "tracking.system_metrics=true",
        f"tracking.root={tmp_path / 'own'}",
    ]
    result = segtune.train(*words, say=lambda _: None)
    store = open_store(TrackingConfig(root=str(tmp_path / "own")))
    run = store.client.get_run(result.run_id)
    inputs = {i.tags[0].value: i.dataset for i in run.inputs.dataset_inputs}
    assert set(inputs) == {"train", "val"} and inputs["val"].name == "street"
    assert run.data.tags["segtune.dataset"].startswith(inputs["val"].digest)
    assert len(inputs["val"].digest) == 36
    assert "source" in inputs["train"].to_dictionary()
    assert json.loads(inputs["train"].profile)["images"] == 6
    for key in ("train/loss", "train/lr"):
        assert [step for step, _ in curve(store, result.run_id, key)] == [0, 1]
    assert [step for step, _ in curve(store, result.run_id, "val/miou")] == [1]
    assert run.data.tags["mlflow.source.name"] == "segtune train"
    assert any(key.startswith("system/") for key in run.data.metrics)
    words = [*words[:2], words[-1]]
    evidence = segtune.evaluate(result.run_id, *words, split="test", say=lambda _: None)
    metrics = store.client.get_run(result.run_id).data.metrics
    assert metrics["test/miou"] == pytest.approx(evidence.scores.miou)
    for name, iou in zip(evidence.origin.classes, evidence.scores.iou, strict=True):
        assert (f"test/iou/{name}" in metrics) == (iou is not None)
