"""Masks in MATLAB files: as scipy.io wrote them, or refused."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from segtune.config.dataset_schema import DatasetConfig
from segtune.data.batches.cache import load_split
from segtune.data.reading.images import read_colors, read_mask
from segtune.data.sources import open_source
from segtune.errors import DataError
from tests.data.annotation_sets import NAMES, H, photo, truth

MASK = truth(0)
CELL = np.empty((2, 1), object)
CELL[:, 0] = [MASK, MASK + 1]


def written(path, content, **options):
    scipy.io.savemat(path, content, **options)
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float64", "bool"])
@pytest.mark.parametrize("inside", [False, True])
def test_the_only_array_is_the_mask(tmp_path, compressed, kind, inside):
    mask = MASK.astype(kind)
    content = {"LabelMap": mask, "names": ["car", "tree"], "present": np.array([[1], [2]])}
    content = {"GTcls": content} if inside else content
    path = written(tmp_path / "a.mat", content, do_compression=compressed)
    np.testing.assert_array_equal(read_mask(path), mask.astype(np.uint8))
    np.testing.assert_array_equal(read_mask(path.read_bytes()), mask.astype(np.uint8))


def test_colours_are_read_as_colours(tmp_path):
    colors = photo(0)
    path = written(tmp_path / "a.mat", {"rgb": colors})
    np.testing.assert_array_equal(read_colors(path), colors)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"S": MASK, "regions": MASK}, "arrays S 48x64, regions 48x64; .*mask_variable=S"),
        ({"text": "car"}, "holds the arrays none"),
        ({"layers": np.zeros((4, 5, 6))}, r"shape \(4, 5, 6\)"),
        ({"S": MASK + 0.5}, "fractions"),
        ({"S": np.where(MASK, np.nan, 0)}, "NaN"),
        ({"groundTruth": CELL}, "holds the arrays none"),
    ],
)
def test_a_file_without_one_array_of_ids_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_mask(written(tmp_path / "a.mat", content))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512), r"version 7.3 .*'-v7'"),
        (b"\x89HDF\r\n\x1a\n".ljust(512), r"version 7.3"),
        (b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\x0e\x00\x00\x00" * 9, "be read"),
        (b"MATLAB 5.0", "cannot be read as a MATLAB file"),
        (b"", "cannot be read as"),
    ],
)
def test_other_and_damaged_files_are_refused(tmp_path, data, message):
    path = tmp_path / "a.mat"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_mask(path)


def test_a_cut_file_is_refused(tmp_path):
    data = written(tmp_path / "a.mat", {"S": MASK}, do_compression=True).read_bytes()
    for end in range(1, len(data), 37):
        with pytest.raises(DataError):
            read_mask(data[:end])


def test_a_dataset_names_the_array_of_its_masks(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind / "train").mkdir(parents=True)
    Image.fromarray(photo(0)).save(tmp_path / "images" / "train" / "a.png")
    written(tmp_path / "masks" / "train" / "a.mat", {"gt": {"S": MASK, "edges": MASK > 0}})
    config = DatasetConfig(
        name="folder", source="folder", root=str(tmp_path), classes=NAMES, mask_variable="gt.S"
    )
    source = open_source(config)
    mask = load_split(source, "train", [H]).masks[0]
    np.testing.assert_array_equal(np.asarray(mask), MASK)
    other = open_source(config.model_copy(update={"mask_variable": "gt.edges"}))
    assert other.fingerprint(["train"]) != source.fingerprint(["train"])
