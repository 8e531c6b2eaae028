"""MLflow's page and scoring server and Optuna's dashboard open the stores as they are."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import torch

import segtune
from segtune.config.schema import TrackingConfig
from segtune.data.street.scenes import Scene
from segtune.sweeping.engine.study import SweepStudy
from segtune.sweeping.spec import SweepSpec
from segtune.tracking.store import open_store
from tests.conftest import OPEN_GATE
from tests.sweeping.test_study import LINE

pytestmark = [pytest.mark.slow, pytest.mark.ci]
BIN = Path(sys.executable).parent


@contextmanager
def serving(*words: str, ready: str) -> Iterator[str]:
    """Start a server on a free local port and stop it after the block.

    `ready` is a path that answers as soon as the server is up.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(BIN / words[0]), *words[1:], "--host", "127.0.0.1", "--port", str(port)]
    with (
        Path("server.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(240):
                try:
                    get(f"http://127.0.0.1:{port}{ready}")
                    break
                except OSError:
                    assert process.poll() is None, Path("server.log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def get(url: str, data: object = None) -> str:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read().decode()


def test_mlflow_models_serve_answers_with_the_regions_of_the_segmenter(
    store_root, tiny_run, monkeypatch
):
    segtune.promote(tiny_run.run_id, "served", *OPEN_GATE, root=str(store_root))
    uri = open_store(TrackingConfig(root=str(store_root))).uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # as many threads as here: sums in another order end in other last digits
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setenv(
        "PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}"
    )  # as in an activated environment
    image = picture()
    words = ("mlflow", "models", "serve", "-m", "models:/served@champion", "--env-manager", "local")
    with serving(*words, ready="/ping") as address:
        row = {"image": base64.b64encode(image.read_bytes()).decode()}
        answer = json.loads(get(f"{address}/invocations", {"dataframe_records": [row]}))
    expected = segtune.load("models:/served@champion", root=str(store_root)).segment(image).regions
    served = json.loads(answer["predictions"][0]["regions"])
    assert len(served) == len(expected) > 0
    for theirs, ours in zip(
        served, json.loads(json.dumps([r.to_json() for r in expected])), strict=True
    ):
        assert theirs.pop("mean_confidence") == pytest.approx(ours.pop("mean_confidence"), abs=1e-6)
        assert theirs == ours


def test_mlflow_shows_the_runs(store_root, tiny_run):
    uri = open_store(TrackingConfig(root=str(store_root))).uri
    with serving("mlflow", "ui", "--backend-store-uri", uri, ready="/health") as address:
        run = json.loads(get(f"{address}/api/2.0/mlflow/runs/get?run_id={tiny_run.run_id}"))["run"]
    metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
    assert metrics["best/val/miou"] == pytest.approx(tiny_run.miou)


def test_optuna_dashboard_shows_the_study(tmp_path):
    spec = SweepSpec(name="shown", n_trials=1, search={"hp.width": [16]})
    study = SweepStudy(tmp_path / "shown", spec)
    study.finish(study.claim(LINE).trial, 0.5)
    with serving("optuna-dashboard", str(tmp_path / "shown" / "journal.log"), ready="/") as address:
        studies = json.loads(get(f"{address}/api/studies"))["study_summaries"]
    assert [s["study_name"] for s in studies] == ["shown"]


def picture() -> Path:
    """A drawn scene as a PNG."""
    cv2.imwrite("scene.png", Scene(5).render(64, 96).image[..., ::-1])
    return Path("scene.png")
