"""The check: each kind of fault is found in the right file, its fix makes the data usable, and clean data is clean."""

import io
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segtune.config.compose import compose
from segtune.config.dataset_schema import DatasetConfig, SplitsConfig
from segtune.data.audit import audit, write_fixes
from segtune.data.audit.findings import KINDS
from segtune.data.batches.cache import load_split
from segtune.data.source.layout import Source
from segtune.data.sources import open_source

SIZE = (60, 80)
CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "car", "color": [200, 30, 30]},
    {"name": "tree", "color": [20, 180, 60]},
]


def scene(seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A textured image and its mask of overlapping blobs; no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SIZE, np.uint8)
    for value in range(1, classes):
        center = (int(rng.integers(15, 65)), int(rng.integers(15, 45)))
        cv2.ellipse(mask, center, (16, 9), float(rng.integers(180)), 0, 360, value, -1)
    return image, mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """24 train and 8 val pairs without a fault, in a folder with a space in its name."""
    return draw(tmp_path / "my roads", 24, 8)


def draw(root: Path, train: int, val: int) -> Path:
    for number in range(train + val):
        split = "train" if number < train else "val"
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        image, mask = scene(number)
        Image.fromarray(image).save(root / "images" / split / f"{number:03d}.png")
        Image.fromarray(mask).save(root / "masks" / split / f"{number:03d}.png")
    return root


def config(root: Path, **options) -> DatasetConfig:
    return DatasetConfig(
        name="roads", source="folder", root=str(root), **({"classes": CLASSES} | options)
    )


def mask_path(root: Path, number: int = 5) -> Path:
    return root / "masks" / "train" / f"{number:03d}.png"


def image_path(root: Path, number: int = 5) -> Path:
    return root / "images" / "train" / f"{number:03d}.png"


def last_val(root: Path, place: int = 1) -> Path:
    return sorted((root / "images" / "val").iterdir())[-place]


def every_mask(root: Path) -> list[Path]:
    return sorted((root / "masks").rglob("*.png"))


def colored(mask: np.ndarray) -> np.ndarray:
    return np.array([c["color"] for c in CLASSES], np.uint8)[mask]


# --- one function for each fault: changes the files, gives what to look for and options of the dataset


def unreadable(root: Path, n: int = 5) -> str:
    image_path(root, n).write_bytes(b"<html>not found</html>")
    return f"images/train/{n:03d}.png"


def truncated(root: Path, n: int = 5) -> str:
    buffer = io.BytesIO()
    Image.fromarray(scene(n)[0]).resize((160, 120)).save(buffer, "JPEG", quality=95)
    image_path(root, n).unlink()
    image_path(root, n).with_suffix(".jpg").write_bytes(buffer.getvalue()[:-400])
    return f"images/train/{n:03d}.jpg"


def bomb(root: Path, n: int = 5) -> str:
    Image.new("1", (20_000, 12_000)).save(image_path(root, n))
    return f"images/train/{n:03d}.png"


def broken_mask(root: Path, n: int = 5) -> str:
    data = mask_path(root, n).read_bytes()
    mask_path(root, n).write_bytes(data[: len(data) // 2])
    return f"masks/train/{n:03d}.png"


def other_size(root: Path, n: int = 5) -> str:
    Image.open(mask_path(root, n)).crop((0, 0, 70, 60)).save(mask_path(root, n))
    return f"images/train/{n:03d}.png"


def exif(root: Path, n: int = 5) -> str:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(scene(n)[0]).save(image_path(root, n), exif=tags)
    return f"images/train/{n:03d}.png"


def unknown(root: Path, n: int = 5) -> str:
    mask = np.array(Image.open(mask_path(root, n)))
    mask[:3, :5] = 77
    Image.fromarray(mask).save(mask_path(root, n))
    return f"masks/train/{n:03d}.png"


def deep(root: Path, n: int = 5) -> str:
    mask = np.array(Image.open(mask_path(root, n))).astype(np.uint16)
    mask[:3, :5] = 1000
    Image.fromarray(mask).save(mask_path(root, n))
    return f"masks/train/{n:03d}.png"


def zero_255(root: Path) -> str:
    for path in every_mask(root):
        Image.fromarray((np.array(Image.open(path)) == 1).astype(np.uint8) * 255).save(path)
    return "masks/train/005.png"


def one_zero_255(root: Path, n: int = 5) -> str:
    Image.fromarray((np.array(Image.open(mask_path(root, n))) == 1).astype(np.uint8) * 255).save(
        mask_path(root, n)
    )
    return f"masks/train/{n:03d}.png"


def palette(root: Path, n: int = 5) -> str:
    mask = np.array(Image.open(mask_path(root, n)))
    turned = Image.fromarray(
        np.array([2, 0, 1], np.uint8)[mask], "P"
    )  # colours right, indices another tool's
    turned.putpalette([*CLASSES[1]["color"], *CLASSES[2]["color"], *CLASSES[0]["color"]])
    turned.save(mask_path(root, n))
    return f"masks/train/{n:03d}.png"


def rgb(root: Path, n: int = 5) -> str:
    Image.fromarray(colored(np.array(Image.open(mask_path(root, n))))).save(mask_path(root, n))
    return f"masks/train/{n:03d}.png"


def every_rgb(root: Path) -> str:
    for path in every_mask(root):
        Image.fromarray(colored(np.array(Image.open(path)))).save(path)
    return "masks/train/005.png"


def antialiased(root: Path, n: int = 5) -> str:
    mask = (
        np.array(Image.open(mask_path(root, n))) * 2
    )  # ids 0, 2, 4: what lies between is no class border's
    small = cv2.resize(mask, (40, 30), interpolation=cv2.INTER_NEAREST)
    Image.fromarray(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)).save(
        mask_path(root, n)
    )
    return f"masks/train/{n:03d}.png"


def antialiased_colors(root: Path, n: int = 5) -> str:
    pixels = colored(np.array(Image.open(mask_path(root, n))))
    small = cv2.resize(pixels, (40, 30), interpolation=cv2.INTER_NEAREST)
    Image.fromarray(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_LINEAR)).save(
        mask_path(root, n)
    )
    return f"masks/train/{n:03d}.png"


def jpeg(root: Path, n: int = 5) -> str:
    pixels = colored(np.array(Image.open(mask_path(root, n))))
    mask_path(root, n).unlink()
    Image.fromarray(pixels).save(mask_path(root, n).with_suffix(".jpg"), quality=90)
    return f"masks/train/{n:03d}.jpg"


def off_by_one(root: Path) -> str:
    for path in every_mask(root):
        Image.fromarray(np.array(Image.open(path)) + 1).save(path)
    return "masks/train/005.png"


def no_mask(root: Path, n: int = 5) -> str:
    mask_path(root, n).unlink()
    return f"images/train/{n:03d}.png"


def no_image(root: Path, n: int = 5) -> str:
    image_path(root, n).unlink()
    return f"masks/train/{n:03d}.png"


def twins(root: Path, n: int = 5) -> str:
    Image.fromarray(scene(n)[0]).save(image_path(root, n).with_suffix(".jpg"))
    return f"images/train/{n:03d}.jpg"


def case(root: Path, n: int = 5) -> str:
    image_path(root, n).rename(image_path(root, n).with_name(f"Frame_{n}.png"))
    mask_path(root, n).rename(mask_path(root, n).with_name(f"frame_{n}.png"))
    return f"images/train/Frame_{n}.png"


def unicode(root: Path, n: int = 5) -> str:
    name = "Straße_é"
    image_path(root, n).rename(
        image_path(root, n).with_name(unicodedata.normalize("NFC", name) + ".png")
    )
    mask_path(root, n).rename(
        mask_path(root, n).with_name(unicodedata.normalize("NFD", name) + ".png")
    )
    return "images/train/" + unicodedata.normalize("NFC", name) + ".png"


def same(root: Path, n: int = 5) -> str:
    shutil.copy(last_val(root), image_path(root, n))
    return f"images/train/{n:03d}.png"


def nearly_same(root: Path, n: int = 5) -> str:
    image = Image.open(last_val(root, 2))
    image_path(root, n).unlink()
    image.save(image_path(root, n).with_suffix(".jpg"), quality=60)
    return f"images/train/{n:03d}.jpg"


def mirrored(root: Path, n: int = 5) -> str:
    image = np.array(Image.open(last_val(root, 3)))[:, ::-1]
    Image.fromarray(image).save(image_path(root, n))
    return f"images/train/{n:03d}.png"


def empty(root: Path) -> str:
    for path in every_mask(root):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 1, 0, mask).astype(np.uint8)).save(path)
    return "car"


def rare(root: Path) -> str:
    for path in sorted((root / "masks" / "train").glob("*.png"))[1:]:
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(path)
    return "tree"


def absent(root: Path) -> str:
    for path in (root / "masks" / "val").glob("*.png"):
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(path)
    return "tree"


def tiny(root: Path) -> str:
    for path in every_mask(root):
        mask = np.array(Image.open(path))
        mask[mask == 2] = 0
        mask[10:16, 10:16] = 2
        Image.fromarray(mask).save(path)
    return "tree"


def lists(root: Path) -> tuple[list[str], list[str]]:
    """Pours both splits into one folder, and gives the names that lists divide it by."""
    names = []
    for split in ("train", "val"):
        names.append(sorted(p.name for p in (root / "images" / split).iterdir()))
        for kind in ("images", "masks"):
            for path in (root / kind / split).iterdir():
                path.rename(root / kind / path.name)
            (root / kind / split).rmdir()
    return names[0], names[1]


def write_lists(root: Path, train: list[str], val: list[str]) -> None:
    for split, names in (("train", train), ("val", val)):
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")


def foreign(root: Path) -> str:
    train, val = lists(root)
    write_lists(root, [f"/home/somebody/data/images/{n}" for n in train], val)
    return "train.txt"


def overlap(root: Path) -> str:
    train, val = lists(root)
    write_lists(root, [*train, val[0]], val)
    return "images/024.png"


def no_such_entry(root: Path) -> str:
    train, val = lists(root)
    write_lists(root, [*train, "gone.png"], val)
    return "train.txt"


BY_LIST = {"images": "images", "masks": "masks", "splits": SplitsConfig(lists="{split}.txt")}
TWO = {"classes": CLASSES[:2]}
FAULTS: list[tuple[str, Callable[[Path], str], dict]] = [
    ("unreadable_image", unreadable, {}),
    ("truncated_image", truncated, {}),
    ("bomb", bomb, {}),
    ("unreadable_mask", broken_mask, {}),
    ("size_mismatch", other_size, {}),
    ("exif_mismatch", exif, {}),
    ("unknown_ids", unknown, {}),
    ("unknown_ids", deep, {}),
    ("mask_0_255", zero_255, TWO),
    ("mask_0_255", one_zero_255, {}),
    ("mask_palette", palette, {}),
    ("mask_rgb", rgb, {}),
    ("mask_rgb", every_rgb, {}),
    ("mask_antialiased", antialiased, {}),
    ("mask_antialiased", antialiased_colors, {}),
    ("mask_jpeg", jpeg, {}),
    ("mask_off_by_one", off_by_one, {}),
    ("missing_mask", no_mask, {}),
    ("two_images", twins, {}),
    ("case_clash", case, {}),
    ("unicode_clash", unicode, {}),
    ("duplicate", same, {}),
    ("near_duplicate", nearly_same, {}),
    ("near_duplicate", mirrored, {}),
    ("empty_class", empty, {}),
    ("absent_from_val", absent, {}),
    ("foreign_path", foreign, BY_LIST),
    ("split_overlap", overlap, BY_LIST),
    ("list_entry", no_such_entry, BY_LIST),
]


@pytest.mark.parametrize(
    ("kind", "seed", "options"), FAULTS, ids=[f.__name__ for _, f, _ in FAULTS]
)
def test_a_fault_is_found_in_its_file_and_its_fix_works(root, tmp_path, kind, seed, options):
    file = seed(root)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    found = audit(open_source(config(root, **options)), [60])
    assert [f.kind for f in found.findings] == [kind]
    assert file in found.findings[0].files
    write_fixes(found, tmp_path / "fixes.yaml")
    assert {
        p: p.stat().st_mtime_ns for p in root.rglob("*")
    } == before  # no file of the dataset changed
    fixed = open_source(config(root, **options, fixes=str(tmp_path / "fixes.yaml")))
    assert audit(fixed, [60]).findings == []
    assert len(load_split(fixed, "train", [60])) >= 22 and len(load_split(fixed, "val", [60])) >= 6


@pytest.mark.parametrize(
    ("kind", "seed", "repair"),
    [
        ("rare_class", rare, "sampling=rare_crops loss.class_weights=effective"),
        ("too_small", tiny, "'hp.image_size=[64]'"),
        ("missing_image", no_image, "add the images, or remove the masks"),
    ],
)
def test_a_weakness_is_told_with_the_line_that_helps(root, kind, seed, repair):
    what = seed(root)
    found = audit(open_source(config(root)), [30])
    assert [(f.kind, f.repair) for f in found.findings] == [
        (kind, repair)
    ] and what in found.findings[0].files
    assert not found.refused


def test_the_faults_of_the_test_are_all_kinds_but_one():
    seen = {k for k, _, _ in FAULTS} | {"rare_class", "too_small", "missing_image"}
    assert set(KINDS) - seen == {"unknown_colors"}


def test_a_colour_that_no_class_has_is_found_where_colours_are_expected(root, tmp_path):
    every_rgb(root)
    pixels = np.array(Image.open(mask_path(root)))
    pixels[:4, :4] = (201, 33, 29)  # about a car's
    Image.fromarray(pixels).save(mask_path(root))
    found = audit(open_source(config(root, mask_format="rgb")), [60])
    assert [(f.kind, f.files) for f in found.findings] == [
        ("unknown_colors", ["masks/train/005.png"])
    ]
    write_fixes(found, tmp_path / "fixes.yaml")
    fixed = open_source(config(root, mask_format="rgb", fixes=str(tmp_path / "fixes.yaml")))
    assert audit(fixed, [60]).findings == []
    row = [p.name for p in fixed.pairs("train")].index("005")
    assert (load_split(fixed, "train", [60], stored_masks=True).masks[row][:4, :4] == 1).all()


def test_what_a_fix_reads_is_what_was_drawn(root, tmp_path):
    """Colours, palettes and shifted ids come back as the ids that they were made from."""
    for seed in (palette, off_by_one, every_rgb):
        copy = tmp_path / seed.__name__
        shutil.copytree(root, copy)
        seed(copy)
        write_fixes(audit(open_source(config(copy)), [60]), copy / "fixes.yaml")
        source = open_source(config(copy, fixes=str(copy / "fixes.yaml")))
        for number, mask in zip(
            range(24), load_split(source, "train", [60], stored_masks=True).masks, strict=True
        ):
            np.testing.assert_array_equal(mask, scene(number)[1])


def test_a_fix_of_one_file_leaves_that_of_its_name_in_another_split_alone(tmp_path):
    root = draw(tmp_path / "set", 24, 8)
    for kind in ("images", "masks"):
        for path in sorted((root / kind / "val").iterdir()):
            path.rename(path.with_name(f"{int(path.stem) - 24:03d}.png"))  # 000 to 007, as in train
    rgb(root, 5)
    exif(root, 6)
    write_fixes(audit(open_source(config(root)), [60]), tmp_path / "fixes.yaml")
    fixed = open_source(config(root, fixes=str(tmp_path / "fixes.yaml")))
    assert audit(fixed, [60]).findings == [] and len(load_split(fixed, "val", [60])) == 8
    whole = load_split(fixed, "train", [60], stored_masks=True)
    np.testing.assert_array_equal(whole.masks[whole.names.index("005")], scene(5)[1])


def test_several_faults_at_once_are_fixed_together(root, tmp_path):
    unreadable(root)
    Image.open(mask_path(root, 7)).crop((0, 0, 70, 60)).save(mask_path(root, 7))
    mask_path(root, 9).unlink()
    found = audit(open_source(config(root)), [60])
    assert {f.kind for f in found.findings} == {"unreadable_image", "size_mismatch", "missing_mask"}
    assert found.refused and found.bad == pytest.approx(3 / 24)  # of train
    write_fixes(found, tmp_path / "fixes.yaml")
    fixed = open_source(config(root, fixes=str(tmp_path / "fixes.yaml")))
    assert audit(fixed, [60]).findings == [] and len(load_split(fixed, "train", [60])) == 21


AT_ONCE = [
    ("unreadable_image", unreadable), ("truncated_image", truncated), ("bomb", bomb), ("unreadable_mask", broken_mask),
    ("size_mismatch", other_size), ("exif_mismatch", exif), ("unknown_ids", unknown), ("mask_0_255", one_zero_255),
    ("mask_palette", palette), ("mask_rgb", rgb), ("mask_antialiased", antialiased), ("mask_jpeg", jpeg),
    ("missing_mask", no_mask), ("missing_image", no_image), ("two_images", twins), ("case_clash", case),
    ("unicode_clash", unicode), ("duplicate", same), ("near_duplicate", nearly_same), ("near_duplicate", mirrored),
]  # fmt: skip


def test_twenty_faults_in_one_dataset_are_each_found_in_their_file_and_fixed_together(tmp_path):
    root = draw(tmp_path / "a set", 60, 12)
    seeded = [(kind, seed(root, 3 + 2 * place)) for place, (kind, seed) in enumerate(AT_ONCE)]
    found = audit(open_source(config(root)), [60])
    by_kind = {f.kind: f.files for f in found.findings}
    assert [(kind, file) for kind, file in seeded if file not in by_kind.get(kind, [])] == []
    assert set(by_kind) == {kind for kind, _ in AT_ONCE} and found.refused
    write_fixes(found, tmp_path / "fixes.yaml")
    fixed = open_source(config(root, fixes=str(tmp_path / "fixes.yaml")))
    assert [f.kind for f in audit(fixed, [60]).findings] == [
        "missing_image"
    ]  # nothing needs to be done about it
    assert len(load_split(fixed, "train", [60])) >= 44


def test_tolerance_decides_between_refusing_and_leaving_out(root):
    unreadable(root)
    source = open_source(config(root))
    assert not audit(source, [60]).refused  # 1 of 32 is within five in a hundred
    assert audit(open_source(config(root, tolerance=0.01)), [60]).refused


def clean(*overrides: str) -> Source:
    return open_source(compose(overrides).config.dataset)


SOME_SCENES = "dataset.street={train:40,val:12,test:12,clips:0}"
ALL_SCENES = pytest.param([], marks=(pytest.mark.slow, pytest.mark.ci), id="all scenes")


@pytest.mark.parametrize("overrides", [pytest.param([SOME_SCENES], id="some scenes"), ALL_SCENES])
def test_nothing_is_found_in_the_street_scenes(overrides):
    assert audit(clean("dataset=street", *overrides), [192]).findings == []


def test_nothing_is_found_in_camvid(camvid):
    assert audit(clean("dataset=camvid"), [360]).findings == []
