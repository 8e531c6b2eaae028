"""Keys and files of classes, splits and images are readable and unique for any name."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric

from segtune.config.schema import TrackingConfig
from segtune.tracking.evidence import load_evidence
from segtune.tracking.names import file_name, key_name, legacy_key
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import artifact, curve, get_run
from segtune.tracking.store import open_store
from tests.report.fakes import add_evidence, matrices

MLFLOW_KEY = re.compile(r"[/\w.\- ]{1,250}")
CLASSES = [
    "道路",
    "汽车",
    "行人",
    "天空",
    "सड़क",
    "crack <5%",
    "crack >5%",
    "crack _5_",
    "Car",
    "car",
    "road/wet",
    "road//wet",
    "../miou",
    "a:b",
    "a_b",
    "é",
    "e\u0301",
    " road ",
    ".",
    "n" * 300,
    "n" * 301,
    "'\"",
    "🚗",
    "🚙",
]
# names that look like generated keys
CLASSES += [key_name(f"val/iou/{c}").removeprefix("val/iou/") for c in CLASSES[5:]]
CLASSES = list(dict.fromkeys(CLASSES))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(TrackingConfig(root=str(tmp_path_factory.mktemp("store"))))


def test_each_class_has_its_own_metric_parameter_and_tag(store):
    values = {f"val/iou/{name}": float(n) for n, name in enumerate(CLASSES)}
    params = {f"p/{k}": v for k, v in values.items()}
    run = RunWriter.create(store, "r", params, {f"t.{k}": "x" for k in values})
    run.metrics(values, 0)
    run.tags({f"u.{k}": str(v) for k, v in values.items()})
    run.finish("finished")
    record = get_run(store, run.run_id)
    for key, value in values.items():
        assert curve(store, run.run_id, key) == [(0, value)]
    assert sorted(record.metrics.values()) == sorted(values.values())
    assert all(record.params[key_name(f"p/{k}")] == str(v) for k, v in values.items())
    assert all(record.tags[key_name(f"u.{k}")] == str(v) for k, v in values.items())
    readable = {"val/iou/道路", "val/iou/Car", "val/iou/car", "val/iou/road/wet"}
    assert readable <= set(record.metrics) and any("crack lt5pct" in key for key in record.metrics)


@given(st.text(min_size=1, max_size=400), st.text(min_size=1, max_size=400))
def test_keys_are_valid_for_mlflow_and_differ_if_their_names_differ(one, two):
    keys = [key_name(f"val/iou/{name}") for name in (one, two)]
    assert all(MLFLOW_KEY.fullmatch(key) and not key.startswith(("/", "..")) for key in keys)
    assert (keys[0] == keys[1]) == (one == two)


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_file_names_stay_in_their_folder_and_differ_if_their_names_differ(one, two):
    for name in (one, two):
        for part in file_name(name).split("/"):
            assert part not in ("", ".", "..") and len(part.encode(errors="replace")) < 200
        assert not re.search(r'[<>:"|?*%#\\\0]', file_name(name))
    assert (file_name(one) == file_name(two)) == (one == two)


@pytest.mark.parametrize(
    "name", ["a/b", "../up", "/root", "what? #1 50%", "图" * 120, "nul", "a//b"]
)
def test_a_picture_is_saved_under_its_images_name(store, name):
    run = RunWriter.create(store, "r", {}, {})
    run.image(f"overlays/{file_name(name)}.png", np.zeros((4, 5, 3), np.uint8))
    path = artifact(store, run.run_id, f"overlays/{file_name(name)}.png")
    assert path is not None and path.is_file()
    assert [f.path for f in store.client.list_artifacts(run.run_id)] == ["overlays"]


@pytest.mark.parametrize("split", ["val", "2024/val", "val (old)", "验证"])
def test_evidence_is_found_for_any_name_of_a_split(store, split):
    run = RunWriter.create(store, "r", {}, {})
    add_evidence(store, run, matrices(0.5, number=4), split)
    assert load_evidence(store, get_run(store, run.run_id), split).origin.split == split


def test_metrics_of_0_1_0_are_read_unless_two_classes_shared_a_key(store):
    run = RunWriter.create(store, "old", {}, {})
    run.data("classes.json", [{"name": n} for n in ("rue pavée", "道路", "汽车", "a<", "a_")])
    for name in ("rue pavée", "道路", "a_"):
        store.client.log_batch(run.run_id, [Metric(legacy_key(f"val/iou/{name}"), 0.5, 0, 0)])
    assert curve(store, run.run_id, "val/iou/rue pavée") == [(0, 0.5)]
    for shared in ("道路", "汽车", "a<"):
        assert curve(store, run.run_id, f"val/iou/{shared}") == []
    assert curve(store, run.run_id, "val/iou/a_") == [(0, 0.5)]
