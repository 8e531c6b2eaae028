"""Small imitations of published sets: their folders, names and codings, with drawn content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
Values = Sequence[int | tuple[int, int, int]]


@dataclass(frozen=True)
class PublishedSet:
    """The layout of a set, and what an import makes of it.

    Attributes:
        pairs: image -> mask.
        values: stored in each mask, in stripes of equal width.
        others: files without a partner: images, or texts with their content.
        ids: class id of each of `values` after the import; 255 is ignored.
        counts: images by split.
        classes: their names.
        words: some of the words that say how it was read.
    """

    pairs: dict[str, str]
    values: Values
    ids: tuple[int, ...]
    counts: dict[str, int]
    classes: tuple[str, ...]
    words: tuple[str, ...]
    others: dict[str, str | None] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        for image, mask in self.pairs.items():
            write_photo(root / image)
            write_mask(root / mask, self.values)
        for file, text in self.others.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                write_photo(root / file)
            else:
                (root / file).write_text(text)


def write_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.as_posix().encode())).integers(0, 255, (*SIZE, 3))
    Image.fromarray(noise.astype(np.uint8)).save(path)


def stripes(values: Values) -> np.ndarray:
    """(H, W) numbers or (H, W, 3) colours, in stripes of equal width."""
    columns = np.arange(SIZE[1]) * len(values) // SIZE[1]
    row = np.array(values)[columns]
    return np.repeat(row[None], SIZE[0], axis=0)


def write_mask(path: Path, values: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = stripes(values).astype(np.uint16 if np.max(values) > 255 else np.uint8)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def pairs(names: Sequence[str], image: str, mask: str) -> dict[str, str]:
    return {image.format(name): mask.format(name) for name in names}


def numbered(count: int, form: str = "{}") -> list[str]:
    return [form.format(index) for index in range(count)]


def by_split(
    counts: dict[str, int], image: str, mask: str, name: Callable[[int], str] = str
) -> dict[str, str]:
    """Pairs of several splits; the patterns hold {0} for the split and {1} for the name."""
    result = {}
    for split, count in counts.items():
        for index in range(count):
            result[image.format(split, name(index))] = mask.format(split, name(index))
    return result


OBJECT = ("background", "object")
PETS = numbered(6, "Abyssinian_{}")
PET_LISTS = {
    "annotations/trainval.txt": "".join(f"{name} 1 1 1\n" for name in PETS[:4]),
    "annotations/test.txt": "".join(f"{name} 1 1 1\n" for name in PETS[4:]),
    "annotations/list.txt": "#Image CLASS-ID\n" + "".join(f"{name} 1 1 1\n" for name in PETS),
}
RED_GREEN = [(0, 0, 0), (255, 0, 0), (0, 255, 0)]
CLASS_DICT = "name,r,g,b\nvoid,0,0,0\nroad,255,0,0\ncar,0,255,0\n"
THREE = {"train": 4, "val": 2, "test": 2}
TWO = {"train": 4, "val": 2}
FIVE_ONE = {"train": 4, "val": 1}


SETS = {
    "camvid_segnet": PublishedSet(
        by_split(THREE, "{0}/0001TP_{1}.png", "{0}annot/0001TP_{1}.png", "{:06d}".format),
        [0, 1, 2, 3],
        (0, 1, 2, 3),
        THREE,
        ("class_0", "class_1", "class_2", "class_3"),
        ("dataset.images='{split}'", "dataset.masks='{split}annot'"),
    ),
    "camvid_kaggle": PublishedSet(
        by_split(TWO, "CamVid/{0}/0001TP_{1}.png", "CamVid/{0}_labels/0001TP_{1}_L.png"),
        RED_GREEN,
        (0, 1, 2),
        TWO,
        ("void", "road", "car"),
        ("dataset.mask_suffix=_L", "dataset.mask_format=rgb"),
        {"CamVid/class_dict.csv": CLASS_DICT},
    ),
    "camvid_fastai": PublishedSet(
        pairs(numbered(5, "0016E5_{}"), "images/{}.png", "labels/{}_P.png"),
        [0, 1, 2],
        (0, 1, 2),
        FIVE_ONE,
        ("Animal", "Archway", "Bicyclist"),
        ("dataset.mask_suffix=_P", "dataset.masks=labels"),
        {"codes.txt": "Animal\nArchway\nBicyclist\n"},
    ),
    "lists_of_trainval": PublishedSet(
        pairs(PETS, "images/{}.jpg", "annotations/maps/{}.png"),
        [1, 2, 3],
        (0, 1, 2),
        TWO,
        ("class_1", "class_2", "class_3"),
        ("dataset.reduce_zero_label=true", "dataset.folder_names={train:trainval,val:test}"),
        PET_LISTS,
    ),
    "carvana": PublishedSet(
        pairs(numbered(5, "fff9b3_{:02d}"), "train/{}.jpg", "train_masks/{}_mask.gif"),
        [0, 1],
        (0, 1),
        FIVE_ONE,
        OBJECT,
        ("dataset.masks='{split}_masks'", "dataset.mask_suffix=_mask"),
        {"test/abc_01.jpg": None},
    ),
    "loveda": PublishedSet(
        by_split(
            {"Train/Urban": 2, "Train/Rural": 2, "Val/Urban": 1, "Val/Rural": 1},
            "{0}/images_png/{1}.png",
            "{0}/masks_png/{1}.png",
        ),
        [0, 1, 2, 3],
        (0, 1, 2, 3),
        TWO,
        ("class_0", "class_1", "class_2", "class_3"),
        (
            "dataset.images='{split}/{folder}/images_png'",
            "dataset.folder_names={train:Train,val:Val}",
        ),
        {"Test/Urban/images_png/7.png": None},
    ),
    "deepglobe_roads": PublishedSet(
        pairs(numbered(5), "train/{}_sat.jpg", "train/{}_mask.png"),
        [(0, 0, 0), (255, 255, 255)],
        (0, 1),
        FIVE_ONE,
        OBJECT,
        ("dataset.image_suffix=_sat", "dataset.mask_format=binary"),
        {"valid/8_sat.jpg": None, "test/9_sat.jpg": None},
    ),
    "isic_2018": PublishedSet(
        pairs(
            numbered(5, "ISIC_000{}"),
            "ISIC2018_Task1-2_Training_Input/{}.jpg",
            "ISIC2018_Task1_Training_GroundTruth/{}_segmentation.png",
        ),
        [0, 255],
        (0, 1),
        FIVE_ONE,
        OBJECT,
        ("dataset.mask_suffix=_segmentation", "dataset.mask_format=binary"),
    ),
    "kvasir_seg": PublishedSet(
        pairs(numbered(5, "cju{}"), "Kvasir-SEG/images/{}.jpg", "Kvasir-SEG/masks/{}.jpg"),
        [0, 255],
        (0, 1),
        FIVE_ONE,
        OBJECT,
        ("dataset.images=Kvasir-SEG/images", "dataset.mask_format=binary"),
    ),
    "crack500": PublishedSet(
        by_split({"traindata": 4, "valdata": 2}, "{0}/{0}/x_{1}.jpg", "{0}/{0}/x_{1}_mask.png"),
        [0, 255],
        (0, 1),
        TWO,
        OBJECT,
        ("dataset.mask_format=binary",),
    ),
    "massachusetts_roads": PublishedSet(
        by_split(THREE, "{0}/sat/{1}.tiff", "{0}/map/{1}.tif", "2272888{}_15".format),
        [0, 255],
        (0, 1),
        THREE,
        OBJECT,
        ("dataset.images='{split}/sat'", "dataset.masks='{split}/map'"),
    ),
    "potsdam": PublishedSet(
        pairs(
            numbered(5, "top_potsdam_2_{}"),
            "2_Ortho_RGB/{}_RGB.tif",
            "5_Labels_all/{}_label.tif",
        ),
        [(255, 255, 255), (0, 0, 255), (0, 255, 255)],
        (2, 0, 1),
        FIVE_ONE,
        ("color_0000ff", "color_00ffff", "color_ffffff"),
        ("dataset.image_suffix=_RGB", "dataset.mask_suffix=_label"),
    ),
    "inria_aerial": PublishedSet(
        pairs(numbered(5, "austin{}"), "train/images/{}.tif", "train/gt/{}.tif"),
        [0, 255],
        (0, 1),
        FIVE_ONE,
        OBJECT,
        ("dataset.images='{split}/images'", "dataset.masks='{split}/gt'"),
        {"test/images/bellingham1.tif": None},
    ),
    "bdd100k": PublishedSet(
        by_split(TWO, "seg/images/{0}/a{1}.jpg", "seg/labels/{0}/a{1}_train_id.png"),
        [0, 1, 2, 255],
        (0, 1, 2, 255),
        TWO,
        ("class_0", "class_1", "class_2"),
        ("dataset.images=seg/images/{split}", "dataset.mask_suffix=_train_id"),
        {"seg/color_labels/train/a0_train_color.png": None},
    ),
    "mapillary": PublishedSet(
        by_split(
            {"training": 4, "validation": 2}, "{0}/images/a{1}.jpg", "{0}/v1.2/labels/a{1}.png"
        ),
        [0, 1, 2],
        (0, 1, 2),
        TWO,
        ("Bird", "Curb", "Fence"),
        ("dataset.folder_names={train:training,val:validation}",),
        {
            "config_v1.2.json": '{"labels": [{"readable": "Bird", "color": [165, 42, 42]}, '
            '{"readable": "Curb", "color": [0, 192, 0]}, '
            '{"readable": "Fence", "color": [196, 196, 196]}]}',
            "testing/images/z.jpg": None,
        },
    ),
    "nnunet_like": PublishedSet(
        pairs(numbered(5, "bra_{}"), "imagesTr/{}.png", "labelsTr/{}.png"),
        [0, 1, 2],
        (0, 1, 2),
        FIVE_ONE,
        ("background", "edema", "tumor"),
        ("dataset.images=images{split}", "dataset.masks=labels{split}"),
        {"dataset.json": '{"labels": {"background": 0, "edema": 1, "tumor": 2}}'},
    ),
    "same_folder_and_stem": PublishedSet(
        pairs(numbered(5, "photo{}"), "{}.jpg", "{}.png"),
        [0, 128, 255],
        (0, 1, 2),
        FIVE_ONE,
        ("class_0", "class_128", "class_255"),
        ("dataset.images='{name}.jpg'", "dataset.masks='{name}.png'"),
    ),
    "folder_per_image": PublishedSet(
        pairs(numbered(5, "{:03d}"), "{}/img.png", "{}/label.png"),
        [0, 1, 2],
        (0, 1, 2),
        FIVE_ONE,
        ("_background_", "cat", "dog"),
        ("dataset.images='{name}/img.png'", "dataset.masks='{name}/label.png'"),
        {"label_names.txt": "_background_\ncat\ndog\n"},
    ),
    "other_languages": PublishedSet(
        pairs(numbered(5, "a{}"), "Bilder/{}.jpg", "Masken/{}.png"),
        [0, 7, 9],
        (0, 1, 2),
        FIVE_ONE,
        ("class_0", "class_7", "class_9"),
        ("dataset.images=Bilder", "dataset.masks=Masken", "dataset.label_map={7:1,9:2}"),
    ),
    "prefixes": PublishedSet(
        by_split(TWO, "{0}/image_{1}.png", "{0}/mask_{1}.png"),
        [0, 255],
        (0, 1),
        TWO,
        OBJECT,
        (
            "dataset.images='{split}/image_{name}.png'",
            "dataset.masks='{split}/mask_{name}.png'",
        ),
    ),
    "arrays": PublishedSet(
        by_split(TWO, "images/{0}/{1}.png", "masks/{0}/{1}.npy"),
        [0, 1, 1000],
        (0, 1, 2),
        TWO,
        ("class_0", "class_1", "class_1000"),
        ("dataset.label_map={1000:2}",),
    ),
}
"""Name -> imitation."""
