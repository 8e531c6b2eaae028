"""Parquet and Arrow tables of Hugging Face's `datasets`, written with pyarrow alone."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.errors import ConfigError, DataError
from tests.data.annotation_sets import NAMES, photo, truth
from tests.data.imports import assert_equals_truth, import_masks

CLASSES = f"dataset.classes=[{','.join(NAMES)}]"
CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def table_of(rows, names=("image", "label"), cell=CELL):
    columns = {name: pa.array([row[i] for row in rows], cell) for i, name in enumerate(names)}
    return pa.table({**columns, "scene": ["street"] * len(rows)})


def rows_of(numbers, path="photo_{}.png"):
    return [
        (
            {"bytes": encoded(photo(i)), "path": path and path.format(i)},
            {"bytes": encoded(truth(i)), "path": None},
        )
        for i in numbers
    ]


def write(path, table, form="parquet"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(table, path.with_suffix(".parquet"), row_group_size=2)
        return
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as file, new(file, table.schema) as out:
        out.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
def test_every_row_is_read_with_its_split_and_pixels(tmp_path, form):
    root = tmp_path / "set"
    write(root / "data" / "train-00000-of-00001", table_of(rows_of([0, 1, 2])), form)
    write(root / "data" / "validation-00000-of-00001", table_of(rows_of([3])), form)
    (root / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    assert_equals_truth(import_masks(root, tmp_path / "out"))
    result = import_dataset(root, tmp_path / "again")
    assert (result.format, result.counts) == ("huggingface", {"train": 3, "val": 1})
    assert result.classes == tuple(NAMES)
    for path in (tmp_path / "out" / "images").rglob("*.png"):
        pixels = np.array(Image.open(path))
        np.testing.assert_array_equal(pixels, photo(int(path.stem[-1])))


@pytest.mark.parametrize("cell", [CELL, pa.binary()])
def test_rows_without_names_are_numbered(tmp_path, cell):
    rows = rows_of(range(4), path=None)
    rows[1][0]["bytes"] = encoded(photo(1), "JPEG")
    if cell != CELL:
        rows = [[value["bytes"] for value in row] for row in rows]
    write(tmp_path / "set" / "all", table_of(rows, ("image", "mask"), cell))
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out", CLASSES))
    names = sorted(path.name for path in (tmp_path / "out" / "images").rglob("all*"))
    assert names == [f"all_00000{i}.{'jpg' if i == 1 else 'png'}" for i in range(4)]


def test_equal_names_of_two_tables_stay_two_images(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "set" / name, table_of(rows_of([0, 1])))
    result = import_dataset(tmp_path / "set", tmp_path / "out", CLASSES)
    assert sum(result.counts.values()) == 4


def test_the_column_of_masks_is_chosen_by_its_name(tmp_path):
    rows = [
        (image, {"bytes": encoded(truth(i) * 0)}, mask)
        for i, (image, mask) in enumerate(rows_of(range(4)))
    ]
    write(tmp_path / "set" / "train", table_of(rows, ("image", "mask", "label")))
    with pytest.raises(DataError, match=r"columns of images image, mask, label; .*label=COLUMN"):
        import_dataset(tmp_path / "set", tmp_path / "out", CLASSES)
    chosen = "dataset.annotations.label=label"
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out", CLASSES, chosen))


def test_files_that_cells_name_are_read_beside_the_table(tmp_path):
    rows = []
    for i in range(4):
        for kind, pixels in (("i", photo(i)), ("m", truth(i))):
            (tmp_path / "set").mkdir(exist_ok=True)
            (tmp_path / "set" / f"{kind}_{i}.png").write_bytes(encoded(pixels))
        rows.append([{"bytes": None, "path": f"{kind}_{i}.png"} for kind in "im"])
    write(tmp_path / "set" / "train", table_of(rows))
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out", CLASSES))
    (tmp_path / "set" / "m_2.png").unlink()
    with pytest.raises(DataError, match=r"row 2, label, holds no bytes, and the path 'm_2.png'"):
        import_dataset(tmp_path / "set", tmp_path / "other", CLASSES)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (None, ConfigError, "names no classes: there is no classes.yaml and no id2label"),
        ({"0": "a", "2": "b"}, DataError, "id2label.json' cannot be read .KeyError: '1'"),
        ({"0": "a", "1": "b"}, DataError, r"row 0, label' holds label 2 \([\d,]+ px\)"),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path, names, error, message):
    write(tmp_path / "set" / "train", table_of(rows_of(range(4))))
    if names is not None:
        (tmp_path / "set" / "id2label.json").write_text(json.dumps(names))
    with pytest.raises(error, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_cut_table_is_refused_or_left_alone(tmp_path):
    write(tmp_path / "set" / "train", table_of(rows_of(range(4))), "stream")
    path = tmp_path / "set" / "train.arrow"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"train.arrow' cannot be read as a table"):
        import_dataset(tmp_path / "set", tmp_path / "out", CLASSES)
