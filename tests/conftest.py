"""Small data, private stores, and one tiny trained run that several tests share."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import segtune
from benchmarks.servers import DatabaseServer, TrackingServer, initdb
from segtune.training.result import RunResult

SCENES = [
    "dataset=street",
    "dataset.street={width:96,height:64,train:6,val:3,test:2,clips:1,clip_frames:5,seed:7}",
]
TINY = [
    *SCENES,
    "template=swift",
    "trainer=debug",
    "augment=light",
    "hp.width=16",
    "hp.image_size=[64]",
    "hp.batch_size=3",
    "hp.num_epochs=2",
    "hp.per_item_lrate=1e-3",
]


def tiny_without(*keys: str) -> list[str]:
    """TINY without the keys that a sweep searches."""
    return [word for word in TINY if word.split("=")[0] not in keys]


# a gate that a run of two epochs passes; tests/tracking/test_gate.py tests its rules
OPEN_GATE = ["gate=val", "gate.max_ece=null", "gate.min_gain=null", "gate.max_class_drop=null"]


def pytest_configure() -> None:
    """Keep temporary files in memory if there is room: a commit takes 10 ms or more on a disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return
    executable = not os.statvfs(memory).f_flag & os.ST_NOEXEC
    if executable and shutil.disk_usage(memory).free > 4 * 2**30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for scenes and step formats, shared by the processes of one test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["SEGTUNE_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in its own empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the run of `tiny_run`; its path contains a space."""
    return tmp_path_factory.mktemp("a store")


@pytest.fixture(scope="session")
def tiny_run(store_root: Path) -> RunResult:
    """A swift of width 16, trained for two epochs of two steps."""
    return segtune.train(*TINY, f"tracking.root='{store_root}'", say=lambda _: None)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore the number of threads: the format and the numerics of a training depend on it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data_root() -> Path:
    """The folder that SEGTUNE_DATA names."""
    root = Path(os.environ.get("SEGTUNE_DATA", ""))
    if not os.environ.get("SEGTUNE_DATA") or not root.is_dir():
        pytest.skip("needs real data: set SEGTUNE_DATA to the folder that holds it")
    return root


@pytest.fixture
def camvid(data_root: Path) -> Path:
    """The folder of CamVid under SEGTUNE_DATA."""
    root = data_root / "camvid"
    if not root.is_dir():
        pytest.skip("needs CamVid: set SEGTUNE_DATA to the folder that holds camvid/")
    return root


def write_pairs(
    root: Path, split: str, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
) -> None:
    """Image/mask pairs as PNGs in the layout of dataset=folder."""
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(root / "images" / split / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[DatabaseServer]:
    """A temporary PostgreSQL server."""
    if initdb() is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs the driver: pip install 'segtune[postgres]'")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = DatabaseServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def postgresql(postgresql_server: DatabaseServer) -> str:
    """URL of an empty database."""
    return postgresql_server.create(f"t{uuid.uuid4().hex[:8]}")


@pytest.fixture
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """An MLflow server with its own store."""
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()
