"""A pipe or a device in the place of a file is refused at once: to read it may never end."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segtune.data.reading.images import read_image, read_mask
from segtune.data.source.files import digests, read_bytes, walk
from segtune.data.source.text import read_text, read_xml
from segtune.errors import DataError
from segtune.inference.media.inputs import find_inputs
from segtune.measure.evidence import Evidence
from segtune.tracking.health import broken_checkpoints
from segtune.training.checkpoints import read_checkpoint

READERS = {
    "text": lambda path: read_text(path),
    "XML": lambda path: read_xml(path),
    "bytes": lambda path: read_bytes(path),
    "hash": lambda path: digests([path]),
    "image": lambda path: read_image(path),
    "mask": lambda path: read_mask(path, "m"),
    "array": lambda path: read_mask(link(path, ".npy"), "m"),
    "files of a folder": lambda path: list(walk(path.parent, (".png",))),
    "source of predict": lambda path: find_inputs([str(path)]),
    "checkpoint": lambda path: read_checkpoint(path),
    "best weights": lambda path: read_best_weights(path),
    "evidence": lambda path: Evidence.load(link(path, "evidence.json").parent),
}


def read_best_weights(path: Path) -> None:
    folder = path.parent / "run"
    folder.mkdir()
    best = {"Keeper": {"best_epoch": 0}}
    parts = dict.fromkeys(["optimizer_states", "lr_schedulers", "loops", "global_step"])
    state = {"state_dict": {}, "epoch": 0, "callbacks": best, **parts}
    torch.save(state, folder / "last.ckpt")
    (folder / "best.safetensors").symlink_to(path)
    read_checkpoint(folder / "last.ckpt")


def link(path: Path, name: str) -> Path:
    """Another path of what lies at a path."""
    other = path.with_name(name if "." in name[1:] else f"a{name}")
    other.symlink_to(path)
    return other


@pytest.fixture(params=["pipe", "device", "link to a pipe"])
def path(request, tmp_path):
    path = tmp_path / "a.png"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    return path


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(name, path):
    with pytest.raises(DataError):
        READERS[name](path)


@pytest.mark.timeout(20)
def test_a_pipe_is_a_broken_checkpoint(path, tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    last = tmp_path / "runs" / "a" / "last.ckpt"
    last.symlink_to(path)
    assert broken_checkpoints(tmp_path) == [last]


def test_a_listing_of_all_files_leaves_out_what_is_no_file(path):
    (path.parent / "b.txt").write_text("")
    shutil.copyfile(path.parent / "b.txt", path.parent / "c.png")
    (path.parent / "nowhere.png").symlink_to("/nowhere")  # the reader says that it is missing
    assert list(walk(path.parent)) == ["b.txt", "c.png", "nowhere.png"]


def test_files_behind_links_are_listed_and_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.uint8))
    (tmp_path / "b.npy").symlink_to(tmp_path / "a.npy")
    assert list(walk(tmp_path, (".npy",))) == ["a.npy", "b.npy"]
    assert read_mask(tmp_path / "b.npy", "m").shape == (2, 3)
