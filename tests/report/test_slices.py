"""Parts of a split have the mIoU of their images; a user's table divides it too."""

import numpy as np
import pytest

from segtune.config.schema import TrackingConfig
from segtune.errors import ConfigError, DataError
from segtune.report.candidates import collect
from segtune.report.image_table import read_image_table
from segtune.report.slices import slice_rows
from segtune.tracking.store import open_store
from tests.report.fakes import fake_run, matrices

NAMES = ("a/x1.png", "a/x2.png", "b/y 3.png")


@pytest.mark.parametrize(
    "text",
    [
        "image,rain\na/x1.png,yes\na/x2.png,no\nb/y 3.png,\n",
        "rain;file\nyes;x1.jpg\nno;x2\nmaybe;other.png\n",
        "\ufeffName\train\nx1\tyes\nx2\tno\n",
        "frame,rain\nx1.png,yes\nx2.png,no\n",
    ],
)
def test_a_table_names_images_in_any_usual_way(text, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    assert read_image_table(path, NAMES) == {"rain": ["yes", "no", ""]}


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("image,rain\nq.png,yes\n", ConfigError, "a/x1.png"),
        ("image\nx1\n", DataError, "another column"),
        ("", DataError, "no table"),
        ("image,rain\nx1,1\nx1.png,2\n", DataError, "line 3"),
        (None, ConfigError, "cannot be read"),
    ],
)
def test_a_table_that_fits_no_split_is_refused(text, kind, words, tmp_path):
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(kind, match=words):
        read_image_table(path, NAMES)


def test_each_part_has_the_miou_of_its_images(tmp_path):
    counts = matrices(0.9, 12)
    counts[6:] = matrices(0.5, 12)[6:]
    store = open_store(TrackingConfig(root=str(tmp_path / "store")))
    run = fake_run(store, "a1", counts=counts)
    table = tmp_path / "t.csv"
    lines = [f"img{n},{'dry' if n < 6 else 'wet'},{n}\n" for n in range(12)]
    table.write_text("image,weather,constant\n" + "".join(lines))
    (best,) = collect(store, [run]).candidates
    rows = {(r["property"], r["part"]): r for r in slice_rows(store, best, None, table)}
    dry, wet = rows["weather", "dry"], rows["weather", "wet"]
    matrix = counts[:6].sum(0)
    hits = np.diag(matrix)
    expected = (hits / (matrix.sum(0) + matrix.sum(1) - hits)).mean()
    assert dry["images"] == wet["images"] == 6 and dry["best"] == pytest.approx(expected, abs=1e-6)
    assert dry["best"] > 0.7 > wet["best"] and dry["other"] is None
    assert not any(name == "image size" for name, _ in rows)  # all images have one size
