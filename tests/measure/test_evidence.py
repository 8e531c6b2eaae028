"""Evidence survives a round trip, and its figures equal those of plain counts."""

import json

import numpy as np
import pytest

from segtune.errors import DataError
from segtune.measure.calibration import Calibration
from segtune.measure.evidence import Evidence, Origin


def evidence(
    rng, names=("a", "b/ü", "c"), classes=("road", "car"), groups=None, matrices=None, **origin
):
    """Evidence of a segmenter that guesses, on images of 8x10 pixels; it is well calibrated."""
    number, count = len(names), len(classes)
    matrices = rng.integers(0, 40, (number, count, count)) if matrices is None else matrices
    confidence = rng.random((number, 80), np.float32)
    ids = rng.integers(0, count, (number, 80)).astype(np.uint8)
    is_right = rng.random((number, 80)) < confidence
    truth = np.where(is_right, ids, (ids + 1) % count).astype(np.uint8)
    facts = {
        "dataset": "d",
        "split": "val",
        "fingerprint": "f" * 64,
        "segmenter": "s" * 64,
        "cost": {"params_m": 1.0},
        "device": "cpu",
        "duplicates": (),
        "made": "2026-01-01T00:00:00+00:00",
        "classes": classes,
    }
    return Evidence(
        Origin(**{**facts, **origin}),
        names,
        groups,
        sizes=np.full((number, 2), (8, 10)),
        matrices=matrices,
        outlines=rng.integers(0, 9, (number, 2, count)),
        calibration=Calibration.count(confidence, ids, truth),
        disputed=rng.random(number),
        masks={names[1]: ids[0].reshape(8, 10)},
        disputes={names[1]: is_right[0].reshape(8, 10).astype(np.uint8)},
    )


def test_a_round_trip_keeps_everything(tmp_path):
    made = evidence(np.random.default_rng(0), groups=("v", "v", "w"))
    made.save(tmp_path / "e")
    read = Evidence.load(tmp_path / "e")
    assert (read.origin, read.names, read.groups) == (made.origin, made.names, made.groups)
    for field in ("sizes", "matrices", "outlines", "disputed"):
        np.testing.assert_array_equal(getattr(read, field), getattr(made, field))
    assert (
        read.metrics() == made.metrics() and read.calibration.points() == made.calibration.points()
    )
    for field in ("masks", "disputes"):
        assert list(getattr(read, field)) == ["b/ü"]
        np.testing.assert_array_equal(getattr(read, field)["b/ü"], getattr(made, field)["b/ü"])
    (tmp_path / "e" / "disputes.npz").unlink()  # earlier versions wrote none
    assert Evidence.load(tmp_path / "e").disputes == {}


def test_images_are_ranked_by_the_miou_of_each():
    made = evidence(np.random.default_rng(1))
    for matrix, miou in zip(made.matrices, made.image_miou, strict=True):
        hit = np.diag(matrix)
        assert miou == pytest.approx(np.mean(hit / (matrix.sum(0) + matrix.sum(1) - hit)))


def test_one_group_gives_no_interval():
    assert evidence(np.random.default_rng(0), groups=("v", "v", "v")).interval is None
    assert evidence(np.random.default_rng(0), groups=("v", "v", "w")).interval.units == 2


def test_damaged_evidence_and_another_version_are_refused(tmp_path):
    evidence(np.random.default_rng(0)).save(tmp_path / "e")
    path = tmp_path / "e" / "evidence.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps({**description, "schema_version": 99}))
    with pytest.raises(DataError, match="schema version 99"):
        Evidence.load(tmp_path / "e")
    path.write_text("{")
    with pytest.raises(DataError, match="Measure again"):
        Evidence.load(tmp_path / "e")


@pytest.mark.parametrize("key", ["names", "classes", "groups", "dataset", "segmenter"])
def test_a_name_that_is_no_text_is_refused(key, tmp_path):
    made = evidence(np.random.default_rng(0), groups=("v", "v", "w"))
    made.save(tmp_path)
    path = tmp_path / "evidence.json"
    content = json.loads(path.read_text())
    content[key] = [[1], *content[key][1:]] if isinstance(content[key], list) else 3
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="a name in it is no text"):
        Evidence.load(tmp_path)
