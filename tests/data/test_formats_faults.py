"""Faulty annotations and archives: the message names the place, and no output is left behind."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segtune.api.importing import import_dataset
from segtune.data.reading.images import read_mask
from segtune.errors import ConfigError, DataError
from tests.data.annotation_sets import (
    coco_content,
    save_photos,
    write_coco,
    write_coco_panoptic,
    write_manifest,
)
from tests.data.imports import assert_equals_truth, import_masks


def pack(kind: str, path: Path, members: dict[str, bytes], link: str = "") -> Path:
    """Write an archive of some members, and of one symbolic link."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in members.items():
                packed.writestr(name, data)
            if link:
                info = zipfile.ZipInfo(link)
                info.external_attr = 0o120777 << 16
                packed.writestr(info, "/etc/passwd")
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed.addfile(info)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("member", "link"),
    [("../evil.txt", ""), ("/tmp/evil.txt", ""), ("a/../../evil.txt", ""), ("", "x")],
)
def test_an_archive_that_reaches_outside_is_refused_whole(tmp_path, kind, member, link):
    members = {"good.txt": b"1"} | ({member: b"2"} if member else {})
    archive = pack(kind, tmp_path / f"set.{kind}", members, link)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="its member .* nothing was unpacked"):
        import_dataset(archive, tmp_path / "out")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_of_annotations_is_imported(tmp_path, kind):
    write_coco(tmp_path / "set")
    members = {f"top/{path.name}": path.read_bytes() for path in (tmp_path / "set").iterdir()}
    archive = pack(kind, tmp_path / f"set.{kind}", members)
    assert_equals_truth(import_masks(archive, tmp_path / "out"))


def test_a_zip_with_a_password_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.json", "{}")
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # local and central header
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="needs a password"):
        import_dataset(path, tmp_path / "out")


def test_a_zip_whose_names_are_in_no_stated_encoding_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("ü.json", "{}")
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xbc\xaf"))
    with pytest.raises(DataError, match="names in UTF-8"):
        import_dataset(path, tmp_path / "out")


def test_an_image_beside_the_folder_is_written_inside_the_output(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    content = coco_content(tmp_path / "beside")
    for row in content["images"]:
        row["file_name"] = f"../beside/{row['file_name']}"
    (root / "a.json").write_text(json.dumps(content))
    import_dataset(root, tmp_path / "out")
    masks = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png"))
    assert {path.parts[1] for path in masks} <= {"train", "val"}
    assert {path.name for path in tmp_path.iterdir()} == {"set", "beside", "out"}


def test_a_cut_archive_is_refused(tmp_path):
    archive = pack("zip", tmp_path / "a.zip", {"a.txt": b"1" * 1000})
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(DataError, match="no archive that can be unpacked whole"):
        import_dataset(archive, tmp_path / "out")


COCO_FAULTS = {
    "no such image": (
        lambda content: content["images"][1].update(file_name="gone.png"),
        r"images\[1\]\.file_name is 'gone.png'.*no such image",
    ),
    "absolute path": (
        lambda content: content["images"][1].update(file_name="/home/me/p.png"),
        r"absolute path .*annotations\.relocate=",
    ),
    "unknown category": (
        lambda content: content["annotations"][2].update(category_id=99),
        r"annotations\[2\]\.category_id is 99",
    ),
    "unknown image": (
        lambda content: content["annotations"][2].update(image_id=99),
        r"annotations\[2\]\.image_id is 99",
    ),
    "polygon of 1.5 points": (
        lambda content: content["annotations"][2].update(segmentation=[[1, 2, 3]]),
        r"annotations\[2\] \(id 2\): segmentation is",
    ),
    "polygon of 1.5 points with an area": (
        lambda content: content["annotations"][2].update(segmentation=[[1, 2, 3]], area=9),
        r"a\.json' annotations\[2\] \(id 2\): segmentation is",
    ),
    "image without an id": (
        lambda content: content["images"][0].pop("id"),
        r"images\[0\] lacks id",
    ),
    "run lengths of another size": (
        lambda content: content["annotations"][2]["segmentation"].update(size=[1, 1]),
        r"segmentation\.size is \[1, 1\]",
    ),
    "image of another size": (
        lambda content: content["images"][0].update(height=10),
        "its annotations are for 64 x 10",
    ),
    "no categories": (lambda content: content.pop("categories"), "no list of categories"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_a_fault_in_coco_is_reported_with_its_place_and_leaves_nothing(tmp_path, fault):
    change, message = COCO_FAULTS[fault]
    content = coco_content(tmp_path / "set")
    change(content)
    (tmp_path / "set" / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_segment_of_an_unknown_category_is_reported_with_its_place(tmp_path):
    write_coco_panoptic(tmp_path / "set")
    file = tmp_path / "set" / "panoptic_val.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["segments_info"][0]["category_id"] = 99
    file.write_text(json.dumps(content))
    message = r"annotations\[1\]\.segments_info has the category_id 99; categories are 1, 2"
    with pytest.raises(DataError, match=message):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_relocate_replaces_paths_of_another_machine(tmp_path):
    content = coco_content(tmp_path / "set")
    for row in content["images"]:
        row["file_name"] = f"/home/me/x/{row['file_name']}"
    (tmp_path / "set" / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="absolute path that does not exist here"):
        import_dataset(tmp_path / "set", tmp_path / "out")
    relocate = f"dataset.annotations.relocate='/home/me/x:{tmp_path / 'set'}'"
    assert_equals_truth(import_masks(tmp_path / "set", tmp_path / "out", relocate))


def test_a_manifest_with_foreign_paths_names_row_and_column(tmp_path):
    write_manifest(tmp_path / "set")
    table = tmp_path / "set" / "pairs.csv"
    table.write_text(table.read_text().replace("img/photo_2.png", "C:\\data\\photo_2.png"))
    with pytest.raises(DataError, match=r"pairs\.csv' row 3, image, is 'C:.*absolute path"):
        import_dataset(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [("classes: [", "cannot be read as YAML"), ("[road, car]", "holds list; a mapping")],
)
def test_a_faulty_class_table_beside_a_manifest_is_reported_with_its_file(tmp_path, text, message):
    write_manifest(tmp_path / "set")
    (tmp_path / "set" / "classes.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.yaml' {message}"):
        import_dataset(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9 0.1 0.1 0.2 0.2 0.3 0.1", r"line 1 is of class 9; data\.yaml names 0\.\.1"),
        ("0 0.5 0.5 0.1 0.1", "a box, not a polygon"),
        ("0 12 14 20 30 5 9", r"shares of width and height"),
        ("car 0.1 0.1", "a class number and coordinates"),
        ("0,0.1,0.1,0.5,0.5,0.1,0.5", "a class number and coordinates"),
    ],
)
def test_a_fault_in_yolo_is_reported_with_file_and_line(tmp_path, text, message):
    root = tmp_path / "yolo"
    save_photos(root / "images" / "train", 1)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "photo_0.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nnames: {0: tree, 1: car}\n")
    with pytest.raises(DataError, match=message):
        import_dataset(root, tmp_path / "out")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32"])
def test_xml_entities_are_not_expanded(encoding, tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY x "ha">]><annotations>&x;</annotations>'
    (tmp_path / "a.xml").write_bytes(bomb.encode(encoding))
    with pytest.raises(DataError, match="XML entities"):
        import_dataset(tmp_path, tmp_path / "out")


def test_a_folder_without_annotations_is_refused_with_the_known_formats(tmp_path):
    (tmp_path / "set").mkdir()
    formats = "coco_panoptic, coco, label_studio, labelme, cvat, voc, yolo"
    with pytest.raises(DataError, match=formats):
        import_dataset(tmp_path / "set", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'coco'"):
        import_dataset(tmp_path / "set", tmp_path / "out", format="coko")
    with pytest.raises(ConfigError, match="exists"):
        import_dataset(tmp_path / "set", tmp_path / "set")
    with pytest.raises(DataError, match="does not exist"):
        import_dataset(tmp_path / "nowhere", tmp_path / "out")


def test_damaged_files_and_other_formats_beside_annotations_are_told(tmp_path):
    root = tmp_path / "set"
    write_coco(root)
    (root / "cut.json").write_text('{"images": [')
    row = {"shapes": [], "imagePath": "photo_0.png", "imageHeight": 9, "imageWidth": 9}
    (root / "photo_0.json").write_text(json.dumps(row))
    lines: list[str] = []
    import_dataset(root, tmp_path / "out", say=lines.append)
    notes = [line for line in lines if "passed over" in line or "besides" in line]
    assert len(notes) == 2
    assert notes[0].startswith("1 JSON files") and "'cut.json'" in notes[0]
    assert notes[1].startswith("1 formats besides coco") and "format=NAME" in notes[1]
    assert notes[1].endswith("labelme")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    write_coco(tmp_path / "set")
    members = {f"top/{path.name}": path.read_bytes() for path in (tmp_path / "set").iterdir()}
    inner = pack("zip", tmp_path / "labels.zip", {"a.txt": b"1"})
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as packed:
        for name, data in {**members, "labels.zip": inner.read_bytes()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    assert_equals_truth(import_masks(archive, tmp_path / "out"))


def test_tables_called_after_splits_are_all_read(tmp_path):
    write_manifest(tmp_path / "set")
    (table,) = (tmp_path / "set").glob("*.csv")
    header, *rows = [line.split(",") for line in table.read_text().splitlines()]
    for split, part in (("train", rows[:3]), ("val", rows[3:])):
        lines = [",".join(row[:2]) for row in [header, *part]]
        (tmp_path / "set" / f"{split}.csv").write_text("\n".join(lines))
    table.unlink()
    import_dataset(tmp_path / "set", tmp_path / "out")
    masks = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.png"))
    assert [p.parts[1] for p in masks if p.parts[0] == "masks"] == ["train"] * 3 + ["val"]


@pytest.mark.parametrize("group", [".", "..", "../../x", "a/b"])
def test_a_group_never_leads_out_of_its_split(tmp_path, group):
    write_manifest(tmp_path / "set")
    (table,) = (tmp_path / "set").glob("*.csv")
    table.write_text(table.read_text().replace("drive0", group))
    import_dataset(tmp_path / "set", tmp_path / "out")
    masks = [p for p in (tmp_path / "out" / "masks").rglob("*.png")]
    assert len(masks) == 4
    assert {p.relative_to(tmp_path / "out" / "masks").parts[0] for p in masks} == {"train", "val"}
    assert all(len(p.relative_to(tmp_path / "out" / "masks").parts) == 3 for p in masks)


def write_flat(root: Path, images: range, masks: range, bright: int = 255) -> None:
    """Photos and masks of one object in two folders, called after numbers."""
    for kind, numbers in (("images", images), ("masks", masks)):
        (root / kind).mkdir(parents=True)
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
            if kind == "masks":
                pixels = np.zeros((48, 64), np.uint8)
                pixels[5:20, 5 : 20 + number] = bright
            Image.fromarray(pixels).save(root / kind / f"{number}.png")


@pytest.mark.parametrize("first", [0, 2])
def test_images_and_masks_counted_from_other_numbers_are_refused(tmp_path, first):
    write_flat(tmp_path / "set", range(1, 9), range(first, first + 8))
    with pytest.raises(DataError, match=rf"numbered from 1 and the masks from {first}"):
        import_dataset(tmp_path / "set", tmp_path / "out")
    words = ["dataset.images=images", "dataset.masks=masks"]
    import_dataset(tmp_path / "set", tmp_path / "out", *words)


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize("classes", ["car", "road,car"])
def test_masks_of_0_and_255_never_become_ignored_objects(tmp_path, as_table, classes):
    write_flat(tmp_path / "set", range(8), range(8))
    if as_table:
        rows = [f"images/{n}.png,masks/{n}.png" for n in range(8)]
        (tmp_path / "set" / "pairs.csv").write_text("\n".join(["image,mask", *rows]))
    elif classes == "road,car":
        import_dataset(tmp_path / "set", tmp_path / "out", f"dataset.classes=[{classes}]")
        (mask,) = (tmp_path / "out" / "masks").rglob("0.png")
        assert (read_mask(mask) == 1).sum() == 15 * 15
        return
    with pytest.raises(DataError, match=r"two values|0 and 255 alone"):
        import_dataset(tmp_path / "set", tmp_path / "out", f"dataset.classes=[{classes}]")
    assert not (tmp_path / "out").exists()
