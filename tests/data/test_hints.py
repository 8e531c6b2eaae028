"""The lines that refusals print give right labels when they are followed."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.audit import audit
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from tests.data.published_sets import SIZE, stripes, write_mask, write_photo

_WORD = re.compile(r"'(dataset\.[^']+)'|(dataset\.[\w.]+=[^\s',;.]+)")


def write_set(root: Path, values: list, table: tuple[str, str] | None = None) -> Path:
    for index in range(4):
        write_photo(root / f"images/{index}.jpg")
        write_mask(root / f"masks/{index}.png", values)
    if table is not None:
        (root / table[0]).write_text(table[1])
    return root


def hints(text: str) -> list[str]:
    """The words of the dataset's config that a message prints."""
    return [quoted or plain for quoted, plain in _WORD.findall(text)]


def masks_after(root: Path, *words: str) -> list[np.ndarray]:
    import_dataset(root, root.parent / "out", *words, overwrite=True)
    paths = sorted((root.parent / "out/masks").rglob("*.png"))
    return [np.array(Image.open(path)) for path in paths]


def assert_ids(masks: list[np.ndarray], ids: list[int]) -> None:
    assert len(masks) == 4
    for mask in masks:
        np.testing.assert_array_equal(mask, stripes(ids))


@pytest.mark.parametrize(
    ("values", "given", "table", "ids"),
    [
        # ids, of which the user names one too few: name the background, or ignore 0
        ([0, 1, 2], "dataset.classes=[road,car]", None, [[0, 1, 2], [255, 0, 1]]),
        (
            [0, 1, 2, 3, 255],
            "dataset.classes=[a,b,c]",
            None,
            [[0, 1, 2, 3, 255], [255, 0, 1, 2, 255]],
        ),
        # others that no class has: ignore all of them
        ([0, 1, 5, 9], "dataset.classes=[road,car]", None, [[0, 1, 255, 255]]),
        ([0, 1, 2], "dataset.classes=[background,car]", None, [[0, 1, 255]]),
        ([0, 3, 9], None, ("classes.txt", "road\ncar\ntree\nsky\n"), [[0, 3, 255]]),
        (
            [0, 1, 7],
            None,
            ("_classes.csv", "Pixel Value, Class\n0, none\n1, road\n"),
            [[0, 1, 255]],
        ),
        (
            [0, 4, 7],
            None,
            ("_classes.csv", "Pixel Value, Class\n0, none\n4, road\n"),
            [[0, 1, 255]],
        ),
        # one object
        ([0, 100], "dataset.classes=[background,car]", None, [[0, 1]]),
        ([0, 255], "dataset.classes=[car]", None, [[0, 1]]),
        (
            [(0, 0, 0), (9, 9, 200), (255, 0, 0)],
            None,
            ("class_dict.csv", "name,r,g,b\nroad,255,0,0\nvoid,0,0,0\n"),
            [[1, 255, 0]],
        ),
    ],
)
def test_following_a_printed_line_gives_the_labels_that_it_promises(
    values, given, table, ids, tmp_path
):
    root = write_set(tmp_path / "set", values, table)
    words = [given] if given else []
    try:
        assert_ids(masks_after(root, *words), ids[0])  # some are read at once
        return
    except DataError as error:
        text = str(error)
    text = text.partition("To see all of it")[0]
    assert "label_map={2:255}" not in text or ids == [[0, 1, 255]]
    found = [hint for hint in hints(text) if "[road,car]" not in hint]
    lines = [[hint] for hint in found] if len(ids) > 1 else [found]
    assert len(lines) == len(ids), text
    for line, expected in zip(lines, ids, strict=True):
        kept = [
            word
            for word in words
            if word.partition("=")[0] not in {w.partition("=")[0] for w in line}
        ]
        assert_ids(masks_after(root, *kept, *line), expected)


@pytest.mark.parametrize("form", ["binary", "alpha", "index"])
def test_the_line_for_a_dark_object_inverts_the_masks(form, tmp_path):
    values = {"binary": [255] * 9 + [0], "index": [1] * 9 + [0], "alpha": [255] * 9 + [0]}[form]
    root = write_set(tmp_path / "set", values)
    if form == "alpha":
        for path in sorted((root / "masks").iterdir()):
            white = Image.new("L", SIZE[::-1], 255)
            Image.merge("LA", (white, Image.open(path).convert("L"))).save(path)
    lines: list[str] = []
    import_dataset(root, tmp_path / "first", say=lines.append)
    (remark,) = [line for line in lines if "of the pixels" in line]
    assert "91%" in remark or "90%" in remark
    words = [w for w in shlex.split(remark.rpartition("add ")[2]) if w.startswith("dataset.")]
    assert_ids(masks_after(root, *words), [0] * 9 + [1])


def test_a_small_object_gets_no_remark_on_inverting(tmp_path):
    lines: list[str] = []
    import_dataset(write_set(tmp_path / "set", [0, 0, 255]), tmp_path / "out", say=lines.append)
    assert not any("label_map" in line for line in lines)


def test_check_offers_no_repair_that_moves_labels(tmp_path):
    root = write_set(tmp_path / "set", [0, 1, 2])
    config = DatasetConfig(
        **{"name": "x", "source": "folder", "root": str(root), "classes": ["road", "car"]},
        **{"images": "images", "masks": "masks", "splits": {"val": 0.5}},
    )
    result = audit(open_source(config), [24])
    (finding,) = [f for f in result.findings if f.kind == "unknown_ids"]
    assert "'dataset.classes=[background,road,car]'" in finding.repair
    assert "label_map" not in str(result.fixes())


@pytest.mark.parametrize(("far", "is_left_out"), [((201, 33, 29), False), ((20, 220, 20), True)])
def test_check_reads_no_unlisted_colour_as_the_nearest_class(far, is_left_out, tmp_path):
    root = write_set(tmp_path / "set", [(0, 0, 0), (200, 30, 30), far])
    rows = [{"name": "a", "color": [0, 0, 0]}, {"name": "b", "color": [200, 30, 30]}]
    config = DatasetConfig(
        **{"name": "x", "source": "folder", "root": str(root), "classes": rows},
        **{"images": "images", "masks": "masks", "splits": {"val": 0.5}, "mask_format": "rgb"},
    )
    fixes = audit(open_source(config), [24]).fixes()
    assert ("quarantine" in fixes, "formats" in fixes) == (is_left_out, not is_left_out)


def cut_out(path: Path) -> None:
    """A photo whose background is transparent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 4)).astype(np.uint8)
    noise[..., 3] = stripes([0, 255, 0])
    Image.fromarray(noise).save(path)


def test_cut_out_photos_are_read_by_their_opacity(tmp_path):
    root = tmp_path / "set"
    for index in range(4):
        write_photo(root / f"images/{index}.jpg")
        cut_out(root / f"masks/{index}.png")
    assert_ids(masks_after(root), [0, 1, 0])


def test_objects_in_the_opacity_of_some_masks_alone_are_refused_with_the_line(tmp_path):
    root = write_set(tmp_path / "set", [0, 255])
    white = Image.new("L", SIZE[::-1], 255)
    opacity = Image.fromarray(stripes([0, 255]).astype(np.uint8))
    Image.merge("LA", (white, opacity)).save(root / "masks/0.png")
    with pytest.raises((DataError, ConfigError), match=r"opacity.*dataset\.mask_format=alpha"):
        masks_after(root)


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([1, 2, 3], [[1, 2, 255], [0, 1, 255], [1, 255, 255]]),
        ([0, 1, 2, 3], [[0, 1, 2, 255], [255, 0, 1, 255], [0, 1, 255, 255]]),
        ([0, 1, 2, 7], [[0, 1, 2, 255], [255, 0, 1, 255], [0, 1, 255, 255]]),
    ],
)
def test_ids_from_one_and_from_zero_each_have_their_line(values, ids, tmp_path):
    root = write_set(tmp_path / "set", values)
    words = ["dataset.images=images", "dataset.masks=masks", "dataset.splits.val=0.5"]
    with pytest.raises(DataError) as caught:
        masks_after(root, *words, "dataset.mask_format=index", "dataset.classes=[road,car]")
    lines = str(caught.value).partition("To see all of it")[0].split(" If ")[1:]
    assert len(lines) == 3
    for line, expected in zip(lines, ids, strict=True):
        found = hints(line)
        classes = [] if "classes" in line else ["dataset.classes=[road,car]"]
        assert_ids(
            masks_after(root, *words, "dataset.mask_format=index", *classes, *found), expected
        )
