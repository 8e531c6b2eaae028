"""The whole job with the parts of examples/mylab.py: from a file, and from an installed package."""

import base64
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segtune.cli.main import main
from tests.conftest import OPEN_GATE, SCENES
from tests.plugins.conftest import forgotten_plugins  # noqa: F401  # a fixture for each test

MYLAB = Path(__file__).parents[2] / "examples/mylab.py"
PARTS = [
    "template=TinyNet",
    "loss.terms={cross_entropy: 1.0, tversky: 0.5}",
    "augment.parts={fog: {density: 0.3}}",
    "trainer.callbacks={largest_weight: {}}",
]
RUN = [
    *SCENES,
    *PARTS,
    "trainer=debug",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    "hp.num_epochs=2",
    "hp.per_item_lrate=1e-3",
]


def segtune(*words: str, python: str = sys.executable, **options):
    command = [python, "-m", "segtune", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, **options)


@pytest.fixture
def answer(capsys):
    """Run a command in this process: another one would take seconds to load its libraries."""

    def run(*words: str) -> dict:
        code = main([*words, f"plugins={MYLAB}", "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out.splitlines()[-1])

    return run


def post(server: subprocess.Popen, url: str, data: bytes, kind: str) -> dict:
    """Post to a server as soon as it listens."""
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    for _ in range(600):
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.loads(response.read())
        except (urllib.error.URLError, ConnectionError):
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def running(command: list[str], **options):
    """A server that ends with the block."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def test_the_example_is_short():
    assert len(MYLAB.read_text().splitlines()) < 60


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)
def test_one_file_serves_for_the_whole_job(tmp_path, answer):
    (tmp_path / "sweeps").mkdir()
    search = {"hp.width": [8, 12], "loss.options.tversky.alpha": [0.3, 0.7]}
    sweep = {"n_trials": 3, "workers": 2, "overrides": RUN, "search": search}
    (tmp_path / "sweeps/mine.yaml").write_text(yaml.safe_dump(sweep))
    words = [sys.executable, "-m", "segtune", "sweep", "mine", f"plugins={MYLAB}"]
    with (tmp_path / "err").open("w") as err:
        launcher = subprocess.Popen(words, stderr=err, stdout=err, start_new_session=True)
    for _ in range(600):
        if " trial " in (tmp_path / "err").read_text() or launcher.poll() is not None:
            break
        time.sleep(0.1)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    resumed = answer("sweep", "mine")
    assert resumed["trials"]["finished"] == 3, (tmp_path / "err").read_text()
    report = answer("compare", "mine", "output=report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert report and "worst_iou" in page
    limits = [*OPEN_GATE, "gate.metrics.worst_iou=0", "gate.min_export_agreement=null"]
    promoted = answer("promote", "mine", "model=roads", *limits)
    rules = {verdict["rule"]: verdict for verdict in promoted["rules"]}
    assert rules["metrics.worst_iou"]["passed"] is True
    evaluated = answer("evaluate", "models:/roads@champion")
    assert "worst_iou" in json.dumps(evaluated)
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    answer("predict", "model=models:/roads@champion", "source=photo.png", "output=masks")
    assert list((tmp_path / "masks").rglob("*.png"))
    photo_bytes = (tmp_path / "photo.png").read_bytes()
    expected = np.asarray(Image.open(next((tmp_path / "masks").rglob("*.png"))))
    serve = [sys.executable, "-m", "segtune", "serve", "model=models:/roads@champion"]
    with running([*serve, f"plugins={MYLAB}", "port=8765", "runtime=eager"]) as server:
        found = post(server, "http://127.0.0.1:8765/v1/segment", photo_bytes, "image/png")
    assert (found["images"][0]["width"], found["images"][0]["height"]) == (96, 64)
    check_mlflow(tmp_path, found["images"][0]["regions"])
    assert expected.shape == (64, 96)
    if importlib.util.find_spec("onnxscript"):  # segtune[export]
        answer("export", "model=models:/roads@champion", "format=onnx", "output=graph")
    without = segtune("predict", "model=models:/roads@champion", "source=photo.png", "output=other")
    assert without.returncode == 2
    assert "needs the architecture 'TinyNet' of plugin 'mylab'" in without.stderr


def check_mlflow(folder: Path, regions: list[dict]) -> None:
    """`mlflow models serve` with SEGTUNE_PLUGINS answers as `segtune serve` does."""
    (model,) = [p.parent for p in folder.rglob("MLmodel")]
    words = ["models", "serve", "-m", str(model), "--env-manager", "local", "-p", "8766"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for uvicorn
    environment = {**os.environ, "SEGTUNE_PLUGINS": str(MYLAB), "PATH": path}
    image = base64.b64encode((folder / "photo.png").read_bytes()).decode()
    body = json.dumps({"dataframe_records": [{"image": image}]}).encode()
    with running([sys.executable, "-m", "mlflow", *words], env=environment) as server:
        answer = post(server, "http://127.0.0.1:8766/invocations", body, "application/json")
    rows = json.loads(answer["predictions"][0]["regions"])
    assert [row["rle"] for row in rows] == [row["rle"] for row in regions]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_package_needs_no_word(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(MYLAB, package / "mylab.py")
    project = (
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mylab"\nversion = "1.2"\n'
        '[project.entry-points."segtune.plugins"]\nmylab = "mylab"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["mylab.py"]\n'
    )
    (package / "pyproject.toml").write_text(project)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(package)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next((package / "dist").glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env/bin/python")
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    done = segtune("train", *RUN, "--json", python=python, env=environment)
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout.splitlines()[-1])["segmenter"])
    recorded = json.loads((folder / "segmenter.json").read_text())["plugins"]
    assert recorded["loss/tversky"]["version"] == "1.2"
    assert set(recorded) == {
        "architecture/TinyNet",
        "loss/tversky",
        "augmentation/fog",
        "callback/largest_weight",
        "metric/worst_iou",
    }
    subprocess.run([python, "-m", "pip", "uninstall", "-qy", "mylab"], check=True)
    without = segtune("predict", f"model={folder}", "source=x.png", python=python, env=environment)
    assert "pip install mylab" in without.stderr, without.stderr
