"""A mutated model folder gives one typed error, never a hang, a raw error or a false answer."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from segtune.classes import ClassTable
from segtune.errors import DataError, SegtuneError
from segtune.inference.loading import open_model
from segtune.inference.segmenter import Segmenter
from segtune.models.build import build
from segtune.models.folder import DESCRIPTION, MANIFEST, WEIGHTS, file_hash

SPEC = {"architecture": "Swift", "encoder": "", "width": 16, "depth": 1, "stem": "single"}
VALUES = [
    None,
    True,
    -1,
    0,
    2**40,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "../..",
    "\0",
    [],
    [None] * 3,
    {},
    {"a": 1},
]
IMAGE = np.zeros((40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "segmenter"
    segmenter = Segmenter(build(SPEC, 3), ClassTable.parse(["a", "b", "c"]), [64], {})
    template = {"name": "swift", "model": SPEC}
    segmenter.describe(template, {"name": "d", "metres": None}, {"val/miou": 0.5})
    segmenter.save(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "segmenter"))


def sign(folder: Path) -> None:
    """Give the manifest the hashes of the present files, as a stranger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"] = {name: file_hash(folder / name) for name in (DESCRIPTION, WEIGHTS)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [DESCRIPTION, MANIFEST, WEIGHTS])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling link", "deep JSON"])
def test_a_file_that_is_no_regular_file_is_refused_at_once(kind, name, folder):
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("/nowhere")
    else:
        path.write_text("[" * 100_000)
        if name == DESCRIPTION:
            sign(folder)
    with pytest.raises(DataError):
        open_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, folder):
    tensors = load_file(folder / WEIGHTS)
    name = next(n for n, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / WEIGHTS)
    sign(folder)
    with pytest.raises(DataError, match="1 of .* tensors hold NaN or infinity"):
        open_model(folder)


@pytest.mark.parametrize("name", [DESCRIPTION, MANIFEST])
@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_an_unknown_version_is_refused(version, name, folder):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | {"schema_version": version}))
    if name == DESCRIPTION:
        sign(folder)
    with pytest.raises(DataError, match="schema version"):
        open_model(folder)


def paths_in(value, path=()):
    """Yield the path of every value in nested data."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths_in(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths_in(value[index], (*path, index))


def mutate(content, rng: random.Random):
    *parents, last = rng.choice([path for path in paths_in(content) if path])
    place = content
    for key in parents:
        place = place[key]
    if rng.random() < 0.25:
        del place[last]
    else:
        place[last] = rng.choice(VALUES)


@pytest.mark.parametrize("name", [DESCRIPTION, MANIFEST])
def test_every_mutated_description_gives_an_answer_or_a_typed_error(name, folder):
    rng, original = random.Random(name), (folder / name).read_text()
    faults = []
    for _ in range(150):
        content = json.loads(original)
        mutate(content, rng)
        (folder / name).write_text(json.dumps(content))
        if name == DESCRIPTION:
            sign(folder)
        try:
            regions = open_model(folder).segment(IMAGE).regions
            json.dumps([region.to_json() for region in regions], allow_nan=False)
        except SegtuneError as error:
            faults.append(error)
    assert faults and {fault.exit_code for fault in faults} <= {2, 3}
    assert max(len(str(fault)) for fault in faults) < 2000


@pytest.mark.parametrize(("key", "value"), [("width", 4000), ("depth", 1_000_000)])
def test_a_huge_model_is_refused_before_it_takes_memory(key, value, folder, monkeypatch):
    content = json.loads((folder / DESCRIPTION).read_text())
    content["model"][key] = value
    (folder / DESCRIPTION).write_text(json.dumps(content))
    sign(folder)
    monkeypatch.setattr("segtune.inference.segmenter.build", lambda *_: pytest.fail("was built"))
    with pytest.raises(DataError, match=f"model.{key}={value}"):
        open_model(folder)
