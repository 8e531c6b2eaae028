"""Keys that the user gave take effect, or are refused with what is allowed."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from segtune.api.datasets import check
from segtune.api.importing import import_dataset
from segtune.errors import ConfigError, DataError, SegtuneError
from tests.data.published_sets import write_mask, write_photo

CLASSES = "dataset.classes=[a,b,c]"


def write_pairs(root: Path) -> Path:
    for number in range(3):
        write_photo(root / f"photos/p{number}.jpg")
        write_mask(root / f"labels/p{number}_gt.png", [0, 1, 2])
    return root


def write_coco(root: Path) -> Path:
    write_photo(root / "a.jpg")
    rows = [{"id": 1, "file_name": "a.jpg"}]
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    content = {"images": rows, "annotations": [shape], "categories": [{"id": 1, "name": "car"}]}
    (root / "a.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("images=photo", "images=photo: there is no such folder .* mean 'photos'"),
        ("masks=lables", "masks=lables: there is no such folder .* mean 'labels'"),
        (
            "images=zzz/{split}",
            "images=zzz/{split}: there is no such folder .* known: labels, photos",
        ),
        ("images=photos/{name}.png", "no image in .* fits it; there is 'p0.jpg'"),
        ("mask_suffix=_tg", "mask_suffix=_tg: .* none ends so; did you mean '_gt'"),
        ("image_suffix=_rgb", "image_suffix=_rgb: .* none ends so"),
        ("images=photos masks=labels", "pair none of 3 images .* add dataset.mask_suffix=_gt"),
        ("images=photos mask_suffix=t", "no images and masks of equal names fit"),
    ],
)
def test_a_folder_or_suffix_that_no_file_has_is_named_with_the_nearest(words, said, tmp_path):
    root = write_pairs(tmp_path / "set")
    given = [f"dataset.{text}" for text in words.split()]
    with pytest.raises(DataError, match=said):
        import_dataset(root, tmp_path / "out", *given)
    with pytest.raises(DataError, match=said):
        check("dataset=folder", f"dataset.root={root}", f"tracking.root={tmp_path}", *given)


@pytest.mark.parametrize("name", ["a.json", "a.jpg"])
def test_a_file_is_answered_with_its_folder(name, tmp_path):
    write_coco(tmp_path)
    with pytest.raises(DataError, match=f"is a file, and .* Give the folder .* '{tmp_path}'"):
        import_dataset(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("annotations.relocate=foo", "OLD:NEW is allowed"),
        ("annotations.relocate=:foo", "OLD:NEW is allowed"),
        ("annotations.order=z", "no effect on the format coco. It is for labelme, cvat"),
        ("annotations.annotator=5", "no effect on the format coco. It is for label_studio"),
        ("annotations.label=zzz", "no effect on the format coco. It is for via, huggingface"),
        ("annotations.finer=zzz", "no area has an attribute of this name"),
        ("label_map={1: 0}", "no effect on the format coco. It is for folder, manifest"),
        ("mask_suffix=_m", "no effect on the format coco. It is for folder"),
        ("page=2", "copies images as they are"),
    ],
)
def test_a_key_without_effect_on_the_format_is_refused(words, said, tmp_path):
    root = write_coco(tmp_path / "set")
    with pytest.raises(ConfigError, match=said):
        import_dataset(root, tmp_path / "out", f"dataset.{words}")


@pytest.mark.parametrize("text", ["order=z", "annotator=5", "crowd=ignore"])
def test_a_key_of_annotations_is_refused_for_folders(text, tmp_path):
    root = write_pairs(tmp_path / "set")
    with pytest.raises(ConfigError, match=f"annotations.{text} has no effect on the format folder"):
        import_dataset(root, tmp_path / "out", CLASSES, f"dataset.annotations.{text}")


def test_ignored_ids_are_kept_by_an_import(tmp_path):
    root = write_coco(tmp_path / "set")
    import_dataset(root, tmp_path / "out", "dataset.ignore=[0,255]")
    table = yaml.safe_load((tmp_path / "out/classes.yaml").read_text())
    assert [row["name"] for row in table["classes"]] == ["background", "car"]
    assert table["ignore"] == [0, 255]


def test_an_unknown_annotator_is_answered_with_the_known_ones(tmp_path):
    write_photo(tmp_path / "set/a.jpg")
    value = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["car"]}
    result = {"type": "polygonlabels", "value": value, "original_width": 40, "original_height": 30}
    annotations = [{"completed_by": 7, "result": [result]}]
    tasks = [{"data": {"image": "a.jpg"}, "annotations": annotations}]
    (tmp_path / "set/tasks.json").write_text(json.dumps(tasks))
    with pytest.raises(ConfigError, match="annotator=5: the annotations of .* are by 7"):
        import_dataset(tmp_path / "set", tmp_path / "out", "dataset.annotations.annotator=5")


def test_a_damaged_json_file_is_noted_with_reason_and_line(tmp_path):
    write_coco(tmp_path / "set")
    (tmp_path / "set/b.json").write_text('{"a": 1,\n "b": }')
    notes: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", say=notes.append)
    (note,) = [note for note in notes if "b.json" in note]
    assert "Expecting value: line 2 column 7" in note


@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_the_verdict_of_a_check_states_its_reason(tolerance, tmp_path):
    for split, numbers in {"train": range(5), "val": range(5, 7)}.items():
        for number in numbers:
            write_photo(tmp_path / f"set/images/{split}/{number}.png")
            write_mask(tmp_path / f"set/masks/{split}/{number}.png", [0, 1])
    (tmp_path / "set/images/train/0.png").write_bytes(b"none")
    root = f"dataset.root={tmp_path / 'set'}"
    words = ["dataset=folder", root, f"tracking.root={tmp_path}", f"dataset.tolerance={tolerance}"]
    with_empty = check(*words, CLASSES)._verdict()
    assert with_empty.startswith("refused: the whole dataset has the fault: class")
    verdict = check(*words, "dataset.classes=[a,b]")._verdict()
    expected = "within tolerance: 20 %" if tolerance == 0.5 else "refused: 20 %"
    assert verdict.startswith(f"{expected} of a split's images are bad")


def test_a_table_is_named_by_its_format_in_messages(tmp_path):
    write_photo(tmp_path / "set/a.jpg")
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(tmp_path / "set/a.png")
    (tmp_path / "set/t.csv").write_text("image,mask\na.jpg,a.png\n")
    with pytest.raises(SegtuneError) as fault:
        import_dataset(tmp_path / "set", tmp_path / "out", CLASSES)
    assert "dataset 'manifest' names" in str(fault.value)
