"""Oxford-IIIT Pet: trimaps of 1, 2 and 3 with the published lists."""

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import photo, truth

TRAINVAL = ["Abyssinian_100", "beagle_2", "pug_3", "pug_4", "pug_5"]
TEST = ["Abyssinian_1", "beagle_9"]


def trimap(name: str) -> np.ndarray:
    return truth(int(name[-1]) % 4) + 1


def write_pets(root, values=trimap):
    folder = root / "annotations"
    (folder / "trimaps").mkdir(parents=True)
    (root / "images").mkdir()
    for name in [*TRAINVAL, *TEST, "unlisted_1"]:
        Image.fromarray(photo(int(name[-1]))).save(root / "images" / f"{name}.jpg")
        Image.fromarray(values(name)).save(folder / "trimaps" / f"{name}.png")
    (folder / "trimaps" / "._pug_3.png").write_bytes(b"left by the archive")
    (folder / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\nunlisted_1 1 1 1\n")
    for file, names in (("trainval", TRAINVAL), ("test", TEST)):
        (folder / f"{file}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))


@pytest.mark.parametrize(
    ("classes", "ids"),
    [
        ("", (1, 0, 255)),
        ("dataset.classes=[background,pet]", (1, 0, 255)),
        ("dataset.classes=[pet,background,border]", (0, 1, 2)),
    ],
)
def test_trimaps_become_ids_and_lists_become_splits(tmp_path, classes, ids):
    write_pets(tmp_path / "set")
    words = []
    options = [classes] if classes else []
    result = import_dataset(tmp_path / "set", tmp_path / "out", *options, say=words.append)
    assert result.format == "oxford_pets"
    assert result.counts == {"train": 4, "val": 1, "test": 2}
    table = np.array([0, *ids], np.uint8)
    found = {path.stem: path for path in (tmp_path / "out" / "masks").rglob("*.png")}
    assert set(found) == {*TRAINVAL, *TEST}
    for name, path in found.items():
        np.testing.assert_array_equal(np.array(Image.open(path)), table[trimap(name)])
        assert (path.parent.name == "test") == (name in TEST)
    text = "\n".join(words)
    assert "1 trimaps are in no list and were left out: 'unlisted_1.png'" in text
    assert ("not classified, is ignored" in text) == (255 in ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "annotations/trimaps/pug_3.png").unlink(), "'pug_3', has no trimap"),
        (lambda root: (root / "images/pug_3.jpg").unlink(), "'images/pug_3'"),
        (
            lambda root: Image.fromarray(truth(0)).save(root / "annotations/trimaps/pug_3.png"),
            r"pug_3.png' holds the value 0 \([\d,]+ px\); trimaps hold 1",
        ),
    ],
)
def test_a_set_that_is_not_as_published_is_refused(tmp_path, change, message):
    write_pets(tmp_path / "set")
    change(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")
