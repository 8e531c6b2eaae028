"""One mask file for each class of an image: by name, by folder, and what is no such folder."""

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.data.formats import detect, formats
from segtune.errors import DataError
from tests.data.annotation_sets import NAMES, photo, truth
from tests.data.imports import assert_equals_truth, import_masks

LAYOUTS = {
    "CelebA-HQ-img/{i}.png": "mask-anno/{part}/{i:05d}_{name}.png",
    "images/photo_{i}.png": "masks/photo_{i}_{name}.png",
    "set/photo_{i}.png": "set/photo_{i}-{name}.gif",
    "img/photo_{i}.png": "masks/{name}/photo_{i}.png",
    "img/train/photo_{i}.png": "masks/{name}/train/photo_{i}.png",
    "train/images/photo_{i}.png": "train/masks/{name}/photo_{i}.png",
}
NUMBERED = [
    ("masks/class_{label}/{i}.png", 2),
    ("masks/{i}_c{label}.png", 2),
    ("masks/{i}_rater{label}.png", 0),
    ("masks/{i}_R{label}.png", 0),
]


def save(path, pixels, scale=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels * scale, np.uint8)).save(path)


@pytest.mark.parametrize(("images", "masks"), LAYOUTS.items())
def test_each_class_has_its_pixels(tmp_path, images, masks):
    for i in range(4):
        save(tmp_path / "set" / images.format(i=i), photo(i), 1)
        for label in (1, 2):
            file = masks.format(i=i, name=NAMES[label], part=i // 2)
            save(tmp_path / "set" / file, truth(i) == label)
    found = import_masks(tmp_path / "set", tmp_path / "out")
    assert_equals_truth({f"photo_{name.removeprefix('photo_')}": m for name, m in found.items()})
    result = import_dataset(tmp_path / "set", tmp_path / "again")
    assert (result.format, result.classes) == ("class_masks", tuple(NAMES))


def test_parts_of_faces_overlap_as_in_the_conversion_of_celebamask_hq(tmp_path):
    """The authors' script paints skin, nose, …, hair, hat, …, cloth, later ones on top.

    Their masks have half the size of the images.
    """
    rng = np.random.default_rng(0)
    names = ["skin", "nose", "l_eye", "r_eye", "u_lip", "hair", "ear_r", "cloth"]
    for i in range(3):
        save(tmp_path / "set" / "CelebA-HQ-img" / f"{i}.jpg", photo(i), 1)
        expected = np.zeros((24, 32), np.uint8)
        for class_id, name in enumerate(names, 1):
            top, left = rng.integers(0, 12), rng.integers(0, 16)
            bits = np.zeros((24, 32), bool)
            bits[top : top + 12, left : left + 14] = True
            save(tmp_path / "set" / "anno" / "0" / f"{i:05d}_{name}.png", bits)
            expected[bits] = class_id
        np.save(tmp_path / f"{i}.npy", expected.repeat(2, 0).repeat(2, 1))
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert result.classes == ("background", *names)
    assert "each pixel of a mask becomes a square" in "\n".join(words)
    for path in (tmp_path / "out" / "masks").rglob("*.png"):
        expected = np.load(tmp_path / f"{path.stem}.npy")
        np.testing.assert_array_equal(np.array(Image.open(path)), expected)


def test_an_image_without_a_file_of_a_class_lacks_it(tmp_path):
    for i in range(3):
        save(tmp_path / "set" / "img" / f"a{i}.png", photo(i), 1)
    for file, label in {"a0_car": 1, "a0_tree": 2, "a1_tree": 2}.items():
        save(tmp_path / "set" / "masks" / f"{file}.png", truth(0) == label)
    words = []
    result = import_dataset(tmp_path / "set", tmp_path / "out", say=words.append)
    assert sum(result.counts.values()) == 2
    assert (
        "1 image files have no mask of a class, and are none; they were left out: 'img/a2.png'"
        in "\n".join(words)
    )
    mask = next((tmp_path / "out" / "masks").rglob("a1.png"))
    np.testing.assert_array_equal(np.array(Image.open(mask)), np.where(truth(0) == 2, 2, 0))


@pytest.mark.parametrize(
    "files",
    [
        ["images/a.png", "masks/a_mask.png", "masks/b_mask.png", "images/b.png"],
        ["images/a.png", "masks/a_mask.png", "masks/a_color.png"],
        ["images/a.png", "masks/a_1.png", "masks/a_2.png"],
        ["images/a.png", "masks/a/road.png", "masks/a/car.png"],
        ["images/train/a.png", "masks/train/a.png", "images/val/a.png", "masks/val/a.png"],
        ["images/Urban/0.png", "images/Rural/0.png", "masks/Urban/0.png", "masks/Rural/0.png"],
        ["images/a.png", "masks/day/a.png", "masks/night/b.png", "images/b.png"],
        ["a.png", "a_road.png"],
    ],
)
def test_other_folders_are_not_taken_for_classes(tmp_path, files):
    for file in files:
        save(tmp_path / file, photo(0) if "image" in file else truth(0) > 0, 1)
    assert not formats()["class_masks"].find_files(tmp_path)
    assert detect(tmp_path) in (None, "instances")


SPLIT_WORDS = ["dev", "test", "val", "train", "valid"]


@pytest.mark.parametrize("masks", ["masks/{name}/{i}.png", "masks/{i}_{name}.png"])
@pytest.mark.parametrize("images", ["images/{i}.png", "images/{split}/{i}.png"])
@pytest.mark.parametrize("word", SPLIT_WORDS)
def test_a_class_may_be_called_as_a_split(word, images, masks, tmp_path):
    for i in range(2):
        split = "training" if i else "testing"
        save(tmp_path / images.format(i=i, split=split), photo(i), 1)
        for name in (word, "water"):
            save(tmp_path / masks.format(i=i, name=name), truth(i) == 1)
    found = formats()["class_masks"].find_files(tmp_path)
    assert {mask.label for mask in found} == {word, "water"} and len(found) == 4


@pytest.mark.parametrize("word", SPLIT_WORDS)
@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images/{split}/{i}.png", "masks/{name}/{split}/{i}.png"),
        ("images/{i}{split}.png", "masks/{name}/{split}/{i}{split}.png"),
        ("images_{split}/{i}.png", "masks/{name}/{split}/{i}.png"),
    ],
)
def test_a_folder_of_a_split_is_no_class(word, images, masks, tmp_path):
    other = "training" if word != "train" else "test"
    for split in (word, other):
        for i in range(2):
            save(tmp_path / images.format(i=i, split=split), photo(i), 1)
            for name in ("road", "water"):
                save(tmp_path / masks.format(i=i, name=name, split=split), truth(i) == 1)
    found = formats()["class_masks"].find_files(tmp_path)
    assert {mask.label for mask in found} == {"road", "water"} and len(found) == 8


def test_a_folder_that_may_be_a_class_or_a_split_is_refused(tmp_path):
    for i in range(2):
        save(tmp_path / f"set/images/dev/{i}.png", photo(i), 1)
        for name in ("dev", "water", "road"):
            save(tmp_path / f"set/masks/{name}/{i}.png", truth(i) == 1)
    with pytest.raises(DataError, match="may show the class 'dev'.*rename its folder"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_images_may_lie_beside_the_folders_of_classes(tmp_path):
    for i in range(2):
        save(tmp_path / f"images/{i}.png", photo(i), 1)
        for name in ("road", "water"):
            save(tmp_path / f"{name}/{i}.png", truth(i) == 1)
    found = formats()["class_masks"].find_files(tmp_path)
    assert {(mask.label, mask.image) for mask in found} == {
        (name, f"images/{i}.png") for name in ("road", "water") for i in range(2)
    }


def test_pixels_of_two_classes_are_told(tmp_path):
    for i in range(2):
        save(tmp_path / f"set/images/{i}.png", photo(i), 1)
        save(tmp_path / f"set/masks/road/{i}.png", truth(i) == 1)
        water = truth(i) == 2
        water[36:38, 30:50] = True  # of the road too
        save(tmp_path / f"set/masks/water/{i}.png", water)
    notes: list[str] = []
    import_dataset(tmp_path / "set", tmp_path / "out", say=notes.append)
    (note,) = [line for line in notes if "masks of different classes hold the same pixels" in line]
    assert "of 'road'" in note or "of 'water'" in note


@pytest.mark.parametrize(("masks", "count"), NUMBERED)
def test_classes_may_be_numbers_and_raters_are_none(masks, count, tmp_path):
    save(tmp_path / "images/0.png", photo(0), 1)
    for label in (1, 2):
        save(tmp_path / masks.format(i=0, label=label), truth(0) == label)
    assert len(formats()["class_masks"].find_files(tmp_path)) == count


@pytest.mark.parametrize("pixels", [truth(0), photo(0)])
def test_masks_of_several_values_are_not_taken_for_classes(tmp_path, pixels):
    for file in ("images/a.png", "masks/a_car.png", "masks/a_tree.png"):
        save(tmp_path / file, pixels, 1)
    assert not formats()["class_masks"].find_files(tmp_path)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("more/a_car.png", truth(0) == 1), "both hold the class 'car' of 'img/a.png'"),
        (("masks/a_road.png", truth(0)[:-1] == 1), "a_road.png' is 64 x 47, its image 64 x 48"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_file(tmp_path, second, message):
    save(tmp_path / "set" / "img" / "a.png", photo(0), 1)
    for name, label in (("car", 1), ("tree", 2)):
        save(tmp_path / "set" / "masks" / f"a_{name}.png", truth(0) == label)
    save(tmp_path / "set" / second[0], second[1])
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")
