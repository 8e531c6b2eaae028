"""Small data, private stores, and one tiny run that several tests look at."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import segtune
from segtune.training import RunResult

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


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes and step formats of the tests stay out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SEGTUNE_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose path has a space in it, with the run of `tiny_run`."""
    return tmp_path_factory.mktemp("a store")


@pytest.fixture(scope="session")
def tiny_run(store_root: Path) -> RunResult:
    """A swift of width 16, trained for two epochs of two steps."""
    return segtune.train(*TINY, f"tracking.root='{store_root}'", say=lambda _: None)


@pytest.fixture
def camvid() -> Path:
    """The folder of CamVid under SEGTUNE_DATA."""
    root = Path(os.environ.get("SEGTUNE_DATA", "")) / "camvid"
    if not os.environ.get("SEGTUNE_DATA") or not root.is_dir():
        pytest.skip("needs CamVid: set SEGTUNE_DATA to the folder that holds camvid/")
    return root


def write_pairs(root: Path, split: str, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    """Image/mask pairs as PNGs in the layout of dataset=folder."""
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(root / "images" / split / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / split / f"{number}.png")
