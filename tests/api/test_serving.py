"""Which model a server opens, and what it states of it."""

import numpy as np
import pytest

from segtune.api.experiments import open_root
from segtune.api.serving import _located, _opened
from segtune.tracking.evidence import load_evidence
from segtune.tracking.runs import get_run


def test_a_served_run_states_its_quality_with_an_interval(tiny_run, store_root):
    store = open_root(str(store_root))
    served = _opened(f"runs:/{tiny_run.run_id}", "eager", store)
    quality = served.describe()["quality"]
    miou = load_evidence(store, get_run(store, tiny_run.run_id), "val").interval.value
    assert (quality["split"], quality["miou"]) == ("val", pytest.approx(miou))
    assert quality["low"] <= quality["miou"] <= quality["high"]
    mask = served.segmenter.segment(np.zeros((40, 40, 3), np.uint8)).mask
    assert mask.shape == (40, 40)


def test_a_served_folder_states_only_its_own_metrics(tiny_run):
    served = _opened(str(tiny_run.segmenter), "eager", None)
    assert served.describe()["quality"] == {}
    assert served.describe()["metrics"]["val/miou"] == pytest.approx(tiny_run.metrics["val/miou"])
    assert served.version == _located(str(tiny_run.segmenter), None).pinned
