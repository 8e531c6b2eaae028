"""A dataset's entry: simultaneous reads are all recorded, and pictures are saved once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import segtune
from segtune.config.schema import TrackingConfig
from segtune.tracking.datasets import keep_pictures, pictures, reads, reads_of_test, record_read
from segtune.tracking.runs import artifact, get_run
from segtune.tracking.store import open_store
from tests.conftest import TINY


@pytest.fixture
def store(tmp_path):
    return open_store(TrackingConfig(root=str(tmp_path / "store")))


def test_simultaneous_reads_are_all_recorded(store):
    with ThreadPoolExecutor(6) as pool:
        runs = [f"run{n}" for n in range(12)]
        list(pool.map(lambda run: record_read(store, "d", "test", "f1", run, "evaluate"), runs))
    record_read(store, "d", "test", "f2", "other", "gate")
    record_read(store, "it's", "test", "f3", "quoted", "look")
    assert [r.run for r in reads_of_test(store, "it's")] == ["quoted"]
    assert len(reads_of_test(store, "d")) == 13
    assert {r.run for r in reads(store, "f1")} == set(runs)
    assert [(r.run, r.purpose) for r in reads(store, "f2")] == [("other", "gate")]


def test_pictures_are_drawn_once_and_read_by_name(store):
    image, truth = np.full((4, 6, 3), 90, np.uint8), np.arange(24, dtype=np.uint8).reshape(4, 6)
    drawn = []

    def draw():
        drawn.append(1)
        return {"a/b": (image, truth), "c": (image, truth)}

    keep_pictures(store, "d", "val", "f", draw)
    keep_pictures(store, "d", "val", "f", draw)
    saved = pictures(store, "f", ["a/b", "gone"])
    assert len(drawn) == 1 and list(saved) == ["a/b"]
    saved_image, saved_truth = saved["a/b"]
    np.testing.assert_array_equal(saved_truth, truth)
    assert np.abs(saved_image.astype(int) - 90).max() <= 2  # a JPEG is not exact


def test_evaluating_on_test_is_recorded_with_its_run_and_leaves_evidence(store_root, tiny_run):
    store = open_store(TrackingConfig(root=str(store_root)))
    evidence = segtune.evaluate(
        tiny_run.run_id,
        *TINY[:2],
        f"tracking.root='{store_root}'",
        split="test",
        purpose="look",
        say=lambda _: None,
    )
    last = reads(store, evidence.origin.fingerprint)[-1]
    assert (last.run, last.purpose) == (tiny_run.run_id, "look")
    folder = get_run(store, tiny_run.run_id).tags["segtune.evidence.test"]
    assert artifact(store, tiny_run.run_id, f"evidence/{folder}") is not None
    assert evidence.origin.duplicates == () and evidence.origin.cost["size_mb"] > 0
