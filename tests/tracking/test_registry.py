"""Registered segmenters: equal masks from any place, one champion, no code from their files."""

import base64
import io
import json
import pickle
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import segtune
from segtune.config.conf_files import load_gate
from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, DataError, StorageError
from segtune.tracking.promotion import promote
from segtune.tracking.registry import locate
from segtune.tracking.runs import get_run
from segtune.tracking.store import open_store
from tests.conftest import OPEN_GATE
from tests.models.test_folder import Bomb

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def store(store_root, tiny_run):
    return open_store(TrackingConfig(root=str(store_root)))


@pytest.fixture(scope="module")
def champion(store, tiny_run):
    return promote(store, get_run(store, tiny_run.run_id), "street", load_gate(OPEN_GATE))


def test_run_registered_model_and_copied_folder_give_equal_masks(
    store_root, tiny_run, champion, tmp_path
):
    folder = tmp_path / "elsewhere" / "segmenter"
    shutil.copytree(tiny_run.segmenter, folder)
    uris = [tiny_run.uri, tiny_run.run_id, "models:/street@champion", champion.uri, folder]
    first, *others = [segtune.load(u, root=str(store_root)).segment(IMAGE) for u in uris]
    for segmentation in others:
        np.testing.assert_array_equal(segmentation.mask, first.mask)
        np.testing.assert_array_equal(segmentation.confidence, first.confidence)


def test_promoting_the_same_run_again_makes_no_second_version(store, tiny_run, champion):
    again = promote(store, get_run(store, tiny_run.run_id), "street", load_gate(OPEN_GATE))
    assert (again.version, again.moved) == (champion.version, True)
    assert len(store.client.search_model_versions("name = 'street'")) == 1


def _stored(store) -> Path:
    """Return the folder of the champion's files."""
    return locate("models:/street@champion", store).folder.parent.parent


def test_a_pickle_beside_a_registered_segmenter_is_refused_and_not_executed(
    store_root, tiny_run, champion, tmp_path
):
    spoiled = tmp_path / "store"
    shutil.copytree(tiny_run.segmenter, spoiled / "segmenter")
    (spoiled / "segmenter" / "weights.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(DataError, match="weights.pkl"):
        segtune.load(spoiled / "segmenter")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "place", ["python_model.pkl", "artifacts/weights.pt", "artifacts/segmenter/model.bin"]
)
def test_unexpected_files_in_a_registered_models_folder_are_refused(
    store, store_root, tiny_run, champion, place, tmp_path
):
    path = _stored(store) / place
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    try:
        with pytest.raises(DataError, match=path.name):
            segtune.load("models:/street@champion", root=str(store_root))
    finally:
        path.unlink()
    assert not (tmp_path / "boom").exists()


def test_a_changed_manifest_is_refused(store, store_root, tiny_run, champion):
    manifest = _stored(store) / "artifacts" / "segmenter" / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(before + " ")
    try:
        with pytest.raises(DataError, match="not the one that was registered"):
            segtune.load(champion.uri, root=str(store_root))
    finally:
        manifest.write_text(before)


@pytest.mark.parametrize(
    "uri", ["models:/none@champion", "models:/street/99", "models:/streets", "f" * 32, "no/folder"]
)
def test_a_uri_that_leads_nowhere_is_an_error(store_root, champion, uri):
    with pytest.raises(ConfigError):
        segtune.load(uri, root=str(store_root))


def test_a_store_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="tracking.root"):
        open_store(TrackingConfig(root=str(tmp_path / "file" / "store")))


def test_mlflows_own_loader_returns_the_same_regions(store, champion):
    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PNG")
    folder = locate(champion.uri, store).folder.parent.parent
    model = mlflow.pyfunc.load_model(str(folder))
    answer = model.predict(pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]}))
    regions = json.loads(answer[0]["regions"])
    expected = segtune.load(folder / "artifacts" / "segmenter").segment(IMAGE).regions
    assert regions == json.loads(json.dumps([r.to_json() for r in expected]))
