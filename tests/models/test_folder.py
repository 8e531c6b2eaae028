"""A segmenter folder is data: changed or other files are refused, and nothing is executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from segtune.errors import DataError, StorageError
from segtune.models.folder import file_hash, read_folder, write_folder

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1], dtype=torch.int64)}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_round_trip_keeps_everything(tmp_path):
    write_folder(tmp_path / "s", TENSORS, {"template": "swift"})
    description, tensors = read_folder(tmp_path / "s")
    assert description["template"] == "swift"
    assert all(torch.equal(tensors[k], v) for k, v in TENSORS.items())


@pytest.mark.parametrize("name", ["model.safetensors", "segmenter.json"])
def test_a_changed_byte_is_refused(tmp_path, name):
    write_folder(tmp_path / "s", TENSORS, {})
    data = bytearray((tmp_path / "s" / name).read_bytes())
    data[-2] ^= 1
    (tmp_path / "s" / name).write_bytes(data)
    with pytest.raises(DataError, match=f"{name} was changed"):
        read_folder(tmp_path / "s")


def test_a_pickle_beside_it_is_refused_and_not_executed(tmp_path):
    write_folder(tmp_path / "s", TENSORS, {})
    (tmp_path / "s" / "model.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(DataError, match=r"model\.pkl"):
        read_folder(tmp_path / "s")
    assert not (tmp_path / "boom").exists()


def test_a_pickle_in_place_of_the_weights_is_refused_even_with_a_matching_manifest(tmp_path):
    digest = write_folder(tmp_path / "s", TENSORS, {})
    (tmp_path / "s" / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    path = tmp_path / "s" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"]["model.safetensors"] = file_hash(tmp_path / "s" / "model.safetensors")
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="cannot be read"):
        read_folder(tmp_path / "s")
    with pytest.raises(DataError, match="not the one that was registered"):
        read_folder(tmp_path / "s", digest)
    assert not (tmp_path / "boom").exists()


def test_a_missing_file_and_an_unknown_version_are_refused(tmp_path):
    write_folder(tmp_path / "s", TENSORS, {})
    (tmp_path / "s" / "segmenter.json").unlink()
    with pytest.raises(DataError, match="lacks"):
        read_folder(tmp_path / "s")
    (tmp_path / "s" / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(DataError, match="schema version 99"):
        read_folder(tmp_path / "s")


def test_an_empty_folder_is_no_segmenter(tmp_path):
    with pytest.raises(DataError, match="is not a segmenter"):
        read_folder(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_folder(tmp_path / "file" / "s", TENSORS, {})
