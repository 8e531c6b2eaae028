"""Roboflow's masks beside images: the values of `_classes.csv` are the classes."""

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.errors import DataError
from tests.data.annotation_sets import save_photos, truth
from tests.data.imports import assert_equals_truth, import_masks, mask_of

HEAD = "Pixel Value, Class\n"
TABLE = HEAD + "0, background\n1, car\n2, tree\n"


def write_split(folder, table=TABLE, values=(0, 1, 2), hash_="", count=4):
    for index, path in enumerate(save_photos(folder, count)):
        stem = f"{path.stem}{hash_}"
        path.rename(folder / f"{stem}.png")
        mask = np.array(values, np.uint8)[truth(index)]
        Image.fromarray(mask).save(folder / f"{stem}_mask.png")
    (folder / "_classes.csv").write_text(table)


def test_masks_beside_images_are_read_with_their_split(tmp_path):
    write_split(tmp_path / "set" / "train")
    write_split(tmp_path / "set" / "valid", count=1)
    result = import_dataset(tmp_path / "set", tmp_path / "out")
    assert (result.format, result.counts) == ("roboflow_masks", {"train": 4, "val": 1})
    assert result.classes == ("background", "car", "tree")
    for index in range(4):
        mask = mask_of(tmp_path / "out", f"train/photo_{index}")
        np.testing.assert_array_equal(mask, truth(index))


def test_values_are_keys_in_each_folder(tmp_path):
    write_split(tmp_path / "set" / "train")
    table = HEAD + "7,tree\n0,background\n\n3,car\n"
    write_split(tmp_path / "set" / "valid", table, values=(0, 3, 7), count=1)
    result = import_dataset(tmp_path / "set", tmp_path / "out")
    assert result.classes == ("background", "car", "tree")
    np.testing.assert_array_equal(mask_of(tmp_path / "out", "val/photo_0"), truth(0))


def test_copies_of_one_photo_stay_together_where_folders_name_no_split(tmp_path):
    for copy in range(3):
        write_split(tmp_path / "set" / "export", hash_=f"_png.rf.{copy}")
    import_dataset(tmp_path / "set", tmp_path / "out")
    splits = {}
    masks = tmp_path / "out" / "masks"
    for path in masks.rglob("*.png"):
        split = path.relative_to(masks).parts[0]
        splits.setdefault(path.name.partition(".rf.")[0], set()).add(split)
    assert len(splits) == 4
    assert all(len(names) == 1 for names in splits.values())


def test_an_image_without_a_mask_is_left_out_with_a_word(tmp_path):
    write_split(tmp_path / "set")
    (tmp_path / "set" / "photo_1_mask.png").unlink()
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert sum(result.counts.values()) == 3
    assert "1 images have no mask and were left out: 'photo_1.png'" in "\n".join(words)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (HEAD + "0,background\n1,car\n", r"holds the value 2 \([\d,]+ px\).*_classes.csv"),
        (HEAD + "0,background\n1,car\n1,tree\n", "line 4 states the value 1"),
        (HEAD + "0,background\n1,car\n2,car\n", "line 4 states .* 'car' for the second time"),
        (HEAD + "background,0\n", "line 2 is 'background,0'"),
        (HEAD + "0\n", "line 2 is '0'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, table, message):
    write_split(tmp_path / "set", table)
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_mask_without_its_image_is_named(tmp_path):
    write_split(tmp_path / "set")
    (tmp_path / "set" / "photo_1.png").unlink()
    with pytest.raises(DataError, match="image of .*photo_1_mask.png"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_a_byte_order_mark_before_the_table_is_no_part_of_it(tmp_path):
    write_split(tmp_path / "set", "\ufeff" + TABLE.replace("\n", "\r\n"))
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out"))
