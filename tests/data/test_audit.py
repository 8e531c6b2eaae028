"""The check names each kind of fault in the right file; its fix makes the data usable."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.config.compose import compose
from segtune.config.dataset_schema import DatasetConfig, SplitsConfig
from segtune.data.audit import Audit, audit, palettes, write_fixes
from segtune.data.audit.findings import KINDS
from segtune.data.batches.cache import load_split
from segtune.data.reading.blending import RESIZE_AGAIN
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from tests.data import seeded_faults as seeds
from tests.data.drawn_scenes import CLASSES, draw, mask_path, read_pixels, scene


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """24 train and 8 val pairs without a fault, in a folder with a space in its name."""
    return draw(tmp_path / "my roads", 24, 8)


def open_roads(root: Path, **options) -> Source:
    options = {"classes": CLASSES} | options
    return open_source(DatasetConfig(name="roads", source="folder", root=str(root), **options))


def check(root: Path, image_size: int = 60, **options) -> Audit:
    return audit(open_roads(root, **options), [image_size])


def fixed(root: Path, result: Audit, path: Path, **options) -> Source:
    """Write the fixes of a check, and open the dataset with them."""
    write_fixes(result, path)
    return open_roads(root, **options, fixes=str(path))


def kinds(source: Source) -> list[str]:
    return [finding.kind for finding in audit(source, [60]).findings]


def stored_masks(source: Source) -> dict[str, np.ndarray]:
    """Name -> mask of the train images, at their stored size."""
    data = load_split(source, "train", [60], stored_masks=True)
    return dict(zip(data.names, data.masks, strict=True))


THIN_LINE = " If these are classes of thin lines or layers: 'dataset.thin_classes=[car]'"
BY_LIST = {"images": "images", "masks": "masks", "splits": SplitsConfig(lists="{split}.txt")}
TWO_CLASSES = {"classes": CLASSES[:2]}
FAULTS: list[tuple[str, Callable[[Path], str], dict]] = [
    ("unreadable_image", seeds.unreadable, {}),
    ("truncated_image", seeds.truncated, {}),
    ("bomb", seeds.bomb, {}),
    ("several_pages", seeds.stack, {}),
    ("alpha_is_a_band", seeds.infrared, {}),
    ("narrow_range", seeds.twelve_bits, {}),
    ("unknown_range", seeds.signed, {}),
    ("unreadable_mask", seeds.broken_mask, {}),
    ("size_mismatch", seeds.other_size, {}),
    ("exif_mismatch", seeds.exif, {}),
    ("unknown_ids", seeds.unknown, {}),
    ("unknown_ids", seeds.deep, {}),
    ("mask_0_255", seeds.zero_255, TWO_CLASSES),
    ("mask_0_255", seeds.one_zero_255, {}),
    ("mask_unclear", seeds.in_opacity, TWO_CLASSES),
    ("two_masks", seeds.second_mask, {}),
    ("mask_palette", seeds.palette, {}),
    ("mask_rgb", seeds.rgb, {}),
    ("mask_rgb", seeds.every_rgb, {}),
    ("mask_antialiased", seeds.antialiased, {}),
    ("mask_antialiased", seeds.antialiased_colors, {}),
    ("mask_jpeg", seeds.jpeg, {}),
    ("mask_off_by_one", seeds.off_by_one, {}),
    ("missing_mask", seeds.no_mask, {}),
    ("two_images", seeds.twins, {}),
    ("case_clash", seeds.case, {}),
    ("unicode_clash", seeds.unicode, {}),
    ("duplicate", seeds.same, {}),
    ("near_duplicate", seeds.nearly_same, {}),
    ("near_duplicate", seeds.mirrored, {}),
    ("empty_class", seeds.empty, {}),
    ("absent_from_val", seeds.absent, {}),
    ("foreign_path", seeds.foreign, BY_LIST),
    ("split_overlap", seeds.overlap, BY_LIST),
    ("list_entry", seeds.no_such_entry, BY_LIST),
]


@pytest.mark.parametrize(
    ("kind", "seed", "options"), FAULTS, ids=[seed.__name__ for _, seed, _ in FAULTS]
)
def test_a_fault_is_found_in_its_file_and_its_fix_works(root, tmp_path, kind, seed, options):
    file = seed(root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    result = check(root, **options)
    assert [finding.kind for finding in result.findings] == [kind]
    assert file in result.findings[0].files
    source = fixed(root, result, tmp_path / "fixes.yaml", **options)
    # no file of the dataset changed
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert kinds(source) == (["divided_group"] if kind == "near_duplicate" else [])
    assert len(load_split(source, "train", [60])) >= 22
    assert len(load_split(source, "val", [60])) >= 6


@pytest.mark.parametrize(
    ("kind", "seed", "repair"),
    [
        ("mask_palettes_differ", seeds.own_palettes, palettes._REPAIR),
        ("mask_thin_lines", seeds.thin_lines, f"{RESIZE_AGAIN}{THIN_LINE}"),
        ("rare_class", seeds.rare, "sampling=rare_crops loss.class_weights=effective"),
        ("too_small", seeds.tiny, "'hp.image_size=[64]'"),
        ("missing_image", seeds.no_image, "add the images, or remove the masks"),
        ("mask_preview", seeds.preview, "remove one"),
        ("bands", seeds.four_bands, "'dataset.bands=[1,2,3]' states the bands to read"),
        (
            "passed_over",
            seeds.other_suffix,
            f"convert them (1 .heic); read are {', '.join(IMAGE_SUFFIXES)}, and .gif, .npy and "
            ".mat for masks. Masks should be PNG",
        ),
    ],
)
def test_a_weakness_is_reported_with_the_line_that_helps(root, kind, seed, repair):
    name = seed(root)
    result = check(root, image_size=30)
    assert [(f.kind, f.repair) for f in result.findings] == [(kind, repair)]
    assert name in result.findings[0].files
    assert not result.refused


@pytest.mark.parametrize(
    "options",
    [
        {"thin_classes": ["car"]},
        {"classes": [{"name": n} for n in ("road", "Road_Boundary", "tree")]},
    ],
    ids=["stated", "named"],
)
def test_classes_of_lines_are_not_taken_for_interpolation(root, options):
    seeds.thin_lines(root)
    assert check(root, **options).findings == []


def test_every_kind_of_fault_is_tried():
    tried = {kind for kind, _, _ in FAULTS}
    tried |= {"rare_class", "too_small", "missing_image", "unknown_colors", "mask_preview", "bands"}
    tried |= {"mask_thin_lines", "passed_over", "mask_palettes_differ", "divided_group"}
    assert set(KINDS) == tried


def test_a_colour_that_no_class_has_is_found_where_colours_are_expected(root, tmp_path):
    seeds.every_rgb(root)
    pixels = read_pixels(mask_path(root))
    pixels[:4, :4] = (201, 33, 29)  # nearly the colour of a car
    Image.fromarray(pixels).save(mask_path(root))
    result = check(root, mask_format="rgb")
    assert [(f.kind, f.files) for f in result.findings] == [
        ("unknown_colors", ["masks/train/005.png"])
    ]
    source = fixed(root, result, tmp_path / "fixes.yaml", mask_format="rgb")
    assert kinds(source) == []
    assert (stored_masks(source)["005"][:4, :4] == 1).all()


def test_fixed_masks_are_those_that_were_drawn(root, tmp_path):
    """Colours, palettes and shifted ids come back as the ids that they were made from."""
    for seed in (seeds.palette, seeds.off_by_one, seeds.every_rgb):
        copy = tmp_path / seed.__name__
        shutil.copytree(root, copy)
        seed(copy)
        masks = stored_masks(fixed(copy, check(copy), copy / "fixes.yaml"))
        assert len(masks) == 24
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask, scene(int(name))[1])


def test_a_fix_of_one_file_does_not_touch_the_file_of_its_name_in_another_split(tmp_path):
    root = draw(tmp_path / "set", 24, 8)
    for kind in ("images", "masks"):
        for path in sorted((root / kind / "val").iterdir()):
            path.rename(path.with_name(f"{int(path.stem) - 24:03d}.png"))  # 000 to 007, as in train
    seeds.rgb(root, 5)
    seeds.exif(root, 6)
    source = fixed(root, check(root), tmp_path / "fixes.yaml")
    assert kinds(source) == []
    assert len(load_split(source, "val", [60])) == 8
    np.testing.assert_array_equal(stored_masks(source)["005"], scene(5)[1])


def test_several_faults_at_once_are_fixed_together(root, tmp_path):
    seeds.unreadable(root)
    seeds.other_size(root, 7)
    seeds.no_mask(root, 9)
    result = check(root)
    found = {finding.kind for finding in result.findings}
    assert found == {"unreadable_image", "size_mismatch", "missing_mask"}
    assert result.refused
    assert result.bad == pytest.approx(3 / 24)  # of train
    source = fixed(root, result, tmp_path / "fixes.yaml")
    assert kinds(source) == []
    assert len(load_split(source, "train", [60])) == 21


AT_ONCE = [
    ("unreadable_image", seeds.unreadable),
    ("truncated_image", seeds.truncated),
    ("bomb", seeds.bomb),
    ("unreadable_mask", seeds.broken_mask),
    ("size_mismatch", seeds.other_size),
    ("exif_mismatch", seeds.exif),
    ("unknown_ids", seeds.unknown),
    ("mask_0_255", seeds.one_zero_255),
    ("mask_palette", seeds.palette),
    ("mask_rgb", seeds.rgb),
    ("mask_antialiased", seeds.antialiased),
    ("mask_jpeg", seeds.jpeg),
    ("missing_mask", seeds.no_mask),
    ("missing_image", seeds.no_image),
    ("two_images", seeds.twins),
    ("case_clash", seeds.case),
    ("unicode_clash", seeds.unicode),
    ("duplicate", seeds.same),
    ("near_duplicate", seeds.nearly_same),
    ("near_duplicate", seeds.mirrored),
]


def test_twenty_faults_in_one_dataset_are_each_found_in_their_file_and_fixed_together(tmp_path):
    root = draw(tmp_path / "a set", 60, 12)
    seeded = [(kind, seed(root, 3 + 2 * place)) for place, (kind, seed) in enumerate(AT_ONCE)]
    result = check(root)
    files = {finding.kind: finding.files for finding in result.findings}
    missed = [(kind, file) for kind, file in seeded if file not in files.get(kind, [])]
    assert missed == []
    assert set(files) == {kind for kind, _ in AT_ONCE}
    assert result.refused
    source = fixed(root, result, tmp_path / "fixes.yaml")
    assert kinds(source) == ["missing_image", "divided_group"]  # warnings, which need no fix
    assert len(load_split(source, "train", [60])) >= 44


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("noise", [0, 3])
def test_blank_tiles_in_two_splits_are_no_duplicates(root, grey, noise):
    seeds.blank(root, grey, noise)
    assert check(root).findings == []


def test_tolerance_decides_between_refusing_and_leaving_out(root):
    seeds.unreadable(root)
    assert not check(root).refused  # 1 of 24 is within 5 %
    assert check(root, tolerance=0.01).refused


def open_member(*overrides: str) -> Source:
    return open_source(compose(overrides).config.dataset)


SOME_SCENES = "dataset.street={train:40,val:12,test:12,clips:0}"
ALL_SCENES = pytest.param([], marks=pytest.mark.slow, id="all scenes")


@pytest.mark.parametrize("overrides", [pytest.param([SOME_SCENES], id="some scenes"), ALL_SCENES])
def test_nothing_is_found_in_the_street_scenes(overrides):
    assert audit(open_member("dataset=street", *overrides), [192]).findings == []


@pytest.mark.slow
@pytest.mark.ci
def test_nothing_is_found_in_camvid(camvid):
    assert audit(open_member("dataset=camvid"), [360]).findings == []
