"""Annotation formats: what is imported is what the source says, pixel by pixel, judged by other means than ours."""

import base64
import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from segtune.api.datasets import import_dataset
from segtune.classes import ClassTable
from segtune.config.compose import compose
from segtune.data.batches.cache import load_split
from segtune.data.sources import open_source
from segtune.errors import ConfigError, DataError
from segtune.inference.regions.regions import find_regions
from segtune.inference.regions.writers import to_coco, to_yolo

H, W = 48, 64
NAMES = ["background", "car", "tree"]


def truth(seed: int) -> np.ndarray:
    """Two classes; the car has a hole and two parts."""
    mask = np.zeros((H, W), np.uint8)
    mask[6:30, 4:30] = 2
    mask[20:40, 20:50] = 1
    mask[26:32, 30 + seed : 38 + seed] = 0  # the hole
    mask[42:46, 2:9] = 1  # the second part
    return mask


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def save_photos(root: Path, count: int = 4) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"photo_{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(photo(i)).save(path)
    return paths


def imported(root: Path, output: Path, *overrides: str, **options) -> dict[str, np.ndarray]:
    """The masks that an import wrote, by name, after the written dataset was loaded as training loads it."""
    done = import_dataset(root, output, *overrides, **options)
    source = open_source(compose(["dataset=folder", f"dataset.root='{output}'"]).config.dataset)
    for split in done.counts:
        load_split(source, split, [H])
    return {p.stem: np.array(Image.open(p)) for p in (output / "masks").rglob("*.png")}


def same_as_truth(
    found: dict[str, np.ndarray], names: list[str] = NAMES, classes: list[str] = NAMES
) -> None:
    assert len(found) == 4
    order = np.array([classes.index(n) for n in names], np.uint8)
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, order[truth(int(name.rpartition("_")[2]))])


def rle_of(bits: np.ndarray) -> dict:
    found = coco.encode(np.asfortranarray(bits.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def coco_json(root: Path, split: str = "") -> dict:
    images, annotations = [], []
    for i, path in enumerate(save_photos(root / split)):
        images.append({"id": i, "file_name": path.name, "height": H, "width": W})
        for label in (1, 2):
            row = {
                "image_id": i,
                "category_id": label * 7,
                "segmentation": rle_of(truth(i) == label),
                "iscrowd": 0,
            }
            annotations.append(row | {"id": len(annotations)})
    categories = [{"id": 14, "name": "tree"}, {"id": 7, "name": "car"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path) -> None:
    (root / "annotations.json").write_text(json.dumps(coco_json(root)))


def write_coco_uncompressed(root: Path) -> None:
    data = coco_json(root)
    for row in data["annotations"]:
        flat = (truth(row["image_id"]) == row["category_id"] // 7).ravel(order="F")
        edges = np.flatnonzero(
            np.diff(np.concatenate([[0], flat.astype(int), [1 - int(flat[-1])]]))
        )
        row["segmentation"] = {
            "size": [H, W],
            "counts": np.diff(np.concatenate([[0], edges])).tolist(),
        }
        row["iscrowd"] = 1
    (root / "annotations.json").write_text(json.dumps(data))


def write_panoptic(root: Path) -> None:
    images, annotations = [], []
    (root / "panoptic_val").mkdir(parents=True)
    for i, path in enumerate(save_photos(root / "photos")):
        ids = np.array([0, 70_000 + i, 300], np.int64)[truth(i)]
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
        Image.fromarray(png).save(root / "panoptic_val" / f"{path.stem}.png")
        images.append({"id": i, "file_name": path.name, "height": H, "width": W})
        segments = [{"id": 70_000 + i, "category_id": 1}, {"id": 300, "category_id": 2}]
        annotations.append(
            {"image_id": i, "file_name": f"{path.stem}.png", "segments_info": segments}
        )
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (root / "panoptic_val.json").write_text(json.dumps(data))


def write_voc(root: Path) -> None:
    save_photos(root / "JPEGImages")
    (root / "SegmentationClass").mkdir(parents=True)
    (root / "class_names.txt").write_text("\n".join(NAMES))
    for i in range(4):
        mask = Image.fromarray(truth(i), "P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        mask.save(root / "SegmentationClass" / f"photo_{i}.png")


def write_voc_colors(root: Path) -> None:
    """As CVAT exports it: colours, with their table."""
    write_voc(root)
    (root / "class_names.txt").unlink()
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:128,0,0::\ntree:0,128,0::\n"
    )
    for path in (root / "SegmentationClass").glob("*.png"):
        Image.open(path).convert("RGB").save(path)


def write_labelme(root: Path) -> None:
    for i, path in enumerate(save_photos(root)):
        shapes = []
        for label in (2, 1):
            ys, xs = np.nonzero(truth(i) == label)
            top, left, part = (
                ys.min(),
                xs.min(),
                (truth(i) == label)[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1],
            )
            buffer = io.BytesIO()
            Image.fromarray(part).save(buffer, "PNG")
            points = [[int(left), int(top)], [int(xs.max()), int(ys.max())]]
            text = base64.b64encode(buffer.getvalue()).decode()
            shapes.append(
                {
                    "label": NAMES[label],
                    "points": points,
                    "shape_type": "mask",
                    "mask": text,
                    "flags": {},
                }
            )
        shapes.append({"label": "car", "points": [[1, 1]], "shape_type": "point", "flags": {}})
        data = {
            "shapes": shapes,
            "imagePath": path.name,
            "imageHeight": H,
            "imageWidth": W,
            "imageData": None,
        }
        path.with_suffix(".json").write_text(json.dumps(data))


def write_cvat(root: Path) -> None:
    rows = []
    for i, path in enumerate(save_photos(root / "images")):
        shapes = ""
        for label in (1, 2):
            bits = truth(i) == label
            ys, xs = np.nonzero(bits)
            part = bits[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            edges = np.flatnonzero(
                np.diff(
                    np.concatenate([[0], part.ravel().astype(int), [1 - int(part.ravel()[-1])]])
                )
            )
            runs = np.diff(np.concatenate([[0], edges])).tolist()
            box = f'left="{xs.min()}" top="{ys.min()}" width="{part.shape[1]}" height="{part.shape[0]}"'
            rle = ", ".join(map(str, runs))
            shapes += f'<mask label="{NAMES[label]}" rle="{rle}" {box} z_order="0"/>'
        rows.append(f'<image id="{i}" name="{path.name}" width="{W}" height="{H}">{shapes}</image>')
    labels = "".join(
        f"<label><name>{n}</name><color>#1020{i}0</color></label>" for i, n in enumerate(NAMES[1:])
    )
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{"".join(rows)}</annotations>'
    (root / "annotations.xml").write_text(text)


def brush(bits: np.ndarray) -> list[int]:
    """Label Studio's run lengths, as its documentation states them: word size 8, run sizes 3, 4, 8 and 16 bits."""
    flat = np.zeros((*bits.shape, 4), np.uint8)
    flat[bits] = 255
    values, out = (
        flat.ravel(),
        f"{flat.size:032b}" + f"{8 - 1:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16)),
    )
    at = 0
    while at < len(values):
        end = at + 1
        while end < len(values) and values[end] == values[at] and end - at < 2**16:
            end += 1
        out += "1" + "11" + f"{end - at - 1:016b}" + f"{int(values[at]):08b}"
        at = end
    out += "0" * (-len(out) % 8)
    return [int(out[i : i + 8], 2) for i in range(0, len(out), 8)]


def write_label_studio(root: Path) -> None:
    tasks = []
    for i, path in enumerate(save_photos(root / "media")):
        rows = []
        for label in (1, 2):
            value = {
                "format": "rle",
                "rle": brush(truth(i) == label),
                "brushlabels": [NAMES[label]],
            }
            rows.append(
                {
                    "id": f"r{label}",
                    "type": "brushlabels",
                    "value": value,
                    "original_width": W,
                    "original_height": H,
                }
            )
        data = {"image": f"/data/upload/1/1a2b3c4d-{path.name}"}
        tasks.append(
            {"id": i, "data": data, "annotations": [{"was_cancelled": False, "result": rows}]}
        )
    (root / "export.json").write_text(json.dumps(tasks))


def write_manifest(root: Path) -> None:
    (root / "masks").mkdir(parents=True)
    with (root / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "split", "group"])
        for i, path in enumerate(save_photos(root / "img")):
            Image.fromarray(truth(i)).save(root / "masks" / f"{path.stem}.png")
            table.writerow(
                [
                    f"img/{path.name}",
                    f"masks/{path.stem}.png",
                    "train" if i < 3 else "val",
                    f"drive{i % 2}",
                ]
            )
    (root / "classes.yaml").write_text("classes: [background, car, tree]\n")


EXACT = {
    "coco": write_coco, "coco_panoptic": write_panoptic, "voc": write_voc, "labelme": write_labelme,
    "cvat": write_cvat, "label_studio": write_label_studio, "manifest": write_manifest,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_every_pixel_survives_a_format_that_can_hold_it(tmp_path, name):
    """Holes, several parts and run lengths; the format is found by itself."""
    root = tmp_path / "a set"
    EXACT[name](root)
    same_as_truth(imported(root, tmp_path / "out"))
    assert import_dataset(root, tmp_path / "again").format == name


def test_uncompressed_run_lengths_of_crowds_are_read_too(tmp_path):
    write_coco_uncompressed(tmp_path / "set")
    same_as_truth(imported(tmp_path / "set", tmp_path / "out"))
    ignored = imported(tmp_path / "set", tmp_path / "two", "dataset.annotations.crowd=ignore")
    assert {int(v) for m in ignored.values() for v in np.unique(m)} == {0, 255}


def test_voc_with_a_table_of_colours_is_read_by_colour(tmp_path):
    write_voc_colors(tmp_path / "set")
    same_as_truth(imported(tmp_path / "set", tmp_path / "out"))


def test_yolo_polygons_follow_cocos_rule_and_are_near_pillows(tmp_path):
    root = tmp_path / "yolo"
    corners = [(10.0, 8.0), (52.5, 11.0), (47.0, 40.25), (18.0, 36.0)]
    for split in ("train", "val"):
        for path in save_photos(root / "images" / split, 2):
            text = root / "labels" / split / f"{path.stem}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("1 " + " ".join(f"{x / W} {y / H}" for x, y in corners) + "\n")
    (root / "labels" / "val" / "photo_1.txt").unlink()  # an image without any object
    (root / "data.yaml").write_text(
        "path: /content/set\ntrain: images/train\nval: images/val\nnames: [tree, car]\n"
    )
    done = import_dataset(root, tmp_path / "out")
    assert (done.counts, done.classes) == ({"train": 2, "val": 2}, ("background", "tree", "car"))
    flat = [v for p in corners for v in p]
    ours = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "photo_0.png")) == 2
    np.testing.assert_array_equal(ours, coco.decode(coco.frPyObjects([flat], H, W))[..., 0] == 1)
    canvas = Image.new("L", (W, H))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    other = np.array(canvas) == 1
    assert (ours & other).sum() / (
        ours | other
    ).sum() > 0.93  # 1,150 px: a pixel along the outline is 7 %
    assert not np.array(Image.open(tmp_path / "out" / "masks" / "val" / "photo_1.png")).any()


def test_label_studios_polygons_rectangles_and_ellipses_are_in_percent(tmp_path):
    root = tmp_path / "ls"
    path = save_photos(root, 1)[0]
    rows = [
        ("polygonlabels", {"points": [[0, 0], [50, 0], [50, 50], [0, 50]]}),
        ("rectanglelabels", {"x": 50, "y": 50, "width": 25, "height": 25, "rotation": 0}),
        ("ellipselabels", {"x": 25, "y": 75, "radiusX": 12.5, "radiusY": 12.5, "rotation": 0}),
    ]
    result = [
        {"id": k, "type": k, "value": {**v, k: [name]}, "original_width": W, "original_height": H}
        for name, (k, v) in zip(["a", "b", "c"], rows, strict=True)
    ]
    tasks = [{"data": {"image": path.name}, "annotations": [{"result": result}]}]
    (root / "e.json").write_text(json.dumps(tasks))
    import_dataset(root, tmp_path / "out")
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "photo_0.png"))
    assert [int((mask == i).sum()) for i in (1, 2)] == [H * W // 4, H * W // 16]
    assert abs(int((mask == 3).sum()) - np.pi * 8 * 6) < 10
    assert (
        mask[H // 4, W // 4] == 1
        and mask[H * 5 // 8, W * 5 // 8] == 2
        and mask[H * 3 // 4, W // 4] == 3
    )


def test_what_predict_writes_as_coco_comes_back_pixel_by_pixel(tmp_path):
    """A round trip through our own writer; every pixel has a class, so no background is added."""
    photos = save_photos(tmp_path / "set")
    classes, rows = ClassTable.parse(["sky", "road", "car"]), []
    for i, path in enumerate(photos):
        regions = find_regions(truth(i), np.ones((H, W), np.float32), classes)
        rows.append(
            {"file": path.name, "width": W, "height": H, "regions": [r.to_json() for r in regions]}
        )
    (tmp_path / "set" / "coco.json").write_text(json.dumps(to_coco(rows, classes)))
    same_as_truth(imported(tmp_path / "set", tmp_path / "out"))
    source = open_source(
        compose(["dataset=folder", f"dataset.root='{tmp_path / 'out'}'"]).config.dataset
    )
    assert source.classes.names == ("sky", "road", "car")


def test_what_predict_writes_as_yolo_comes_back_within_a_pixel_of_the_outline(tmp_path):
    """YOLO's text has no holes and no parts: regions without them, told by the rule that fills polygons."""
    root, classes = tmp_path / "set", ClassTable.parse(["background", "car", "tree"])
    mask = np.zeros((H, W), np.uint8)
    mask[5:25, 5:35], mask[28:44, 20:60] = 1, 2
    path = save_photos(root / "images" / "train", 1)[0]
    (root / "labels" / "train").mkdir(parents=True)
    regions = [
        r
        for r in find_regions(mask, np.ones((H, W), np.float32), classes, "components")
        if r.concept_id
    ]
    (root / "labels" / "train" / f"{path.stem}.txt").write_text(to_yolo(regions))
    (root / "data.yaml").write_text("train: images/train\nnames: [background, car, tree]\n")
    found = imported(root, tmp_path / "out")[path.stem]
    off = found != mask
    edges = (
        cv2.dilate(
            cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), np.ones((3, 3))
        )
        > 0
    )
    assert not (off & ~edges).any() and off.mean() < 0.03


def overlapping(root: Path) -> None:
    """A large square over a small one, the small one first in the file."""
    save_photos(root, 1)
    small, large = (
        [[v for p in ((a, a), (b, a), (b, b), (a, b)) for v in p]] for a, b in ((10, 20), (5, 40))
    )
    rows = [
        {"id": 1, "image_id": 0, "category_id": 1, "segmentation": small},
        {"id": 2, "image_id": 0, "category_id": 2, "segmentation": large},
    ]
    image = {"id": 0, "file_name": "photo_0.png", "height": H, "width": W}
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}]
    (root / "a.json").write_text(
        json.dumps({"images": [image], "annotations": rows, "categories": categories})
    )


@pytest.mark.parametrize(
    ("order", "on_top"), [("auto", 1), ("largest_first", 1), ("file", 2), ("file_reversed", 1)]
)
def test_overlapping_objects_are_painted_in_the_order_asked_for(tmp_path, order, on_top):
    overlapping(tmp_path / "set")
    import_dataset(tmp_path / "set", tmp_path / "out", f"dataset.annotations.order={order}")
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "photo_0.png"))
    assert mask[15, 15] == on_top and mask[30, 30] == 2 and mask[45, 60] == 0


def test_cvats_z_order_is_kept(tmp_path):
    root = tmp_path / "cvat"
    save_photos(root, 1)
    shapes = '<box label="car" xtl="5" ytl="5" xbr="40" ybr="40" z_order="3"/>'
    shapes += '<box label="tree" xtl="10" ytl="10" xbr="20" ybr="20" z_order="1"/>'
    text = f'<annotations><image id="0" name="photo_0.png" width="{W}" height="{H}">{shapes}</image></annotations>'
    (root / "a.xml").write_text(text)
    import_dataset(root, tmp_path / "out")
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "train" / "photo_0.png"))
    assert mask[15, 15] == 1 and not (mask == 2).any()


def test_finer_labels_come_from_instance_attributes(tmp_path):
    data = coco_json(tmp_path / "set")
    for row in data["annotations"]:
        if row["category_id"] == 7:
            row["attributes"] = {
                "type": "bus" if row["image_id"] % 2 else "sedan",
                "occluded": False,
            }
    (tmp_path / "set" / "a.json").write_text(json.dumps(data))
    import_dataset(tmp_path / "set", tmp_path / "out")
    source = open_source(
        compose(["dataset=folder", f"dataset.root='{tmp_path / 'out'}'"]).config.dataset
    )
    assert [c.finer for c in source.classes.classes] == [(), ("bus", "sedan"), ()]
    for path in (tmp_path / "out" / "finer").rglob("*.png"):
        finer, seed = np.array(Image.open(path)), int(path.stem[-1])
        np.testing.assert_array_equal(finer != 255, truth(seed) == 1)
        assert set(np.unique(finer)) == {0 if seed % 2 else 1, 255}


def test_annotations_of_the_stored_pixels_are_turned_with_the_image(tmp_path):
    """A phone's photo: 64 x 48 as stored, shown as 48 x 64; the tool annotated what is stored."""
    data = coco_json(tmp_path / "set")
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(4):
        Image.fromarray(photo(i)).save(tmp_path / "set" / f"photo_{i}.png", exif=exif)
    (tmp_path / "set" / "a.json").write_text(json.dumps(data))
    import_dataset(tmp_path / "set", tmp_path / "out")
    for path in (tmp_path / "out" / "masks").rglob("*.png"):
        np.testing.assert_array_equal(
            np.array(Image.open(path)), np.rot90(truth(int(path.stem[-1])), -1)
        )


def test_a_dataset_is_used_straight_from_its_annotations(tmp_path):
    """`dataset=coco dataset.root=DIR` converts once, and anew when the annotations change."""
    root = tmp_path / "set"
    write_coco(root)
    config = compose(["dataset=coco", f"dataset.root='{root}'"]).config.dataset
    said: list[str] = []
    first = open_source(config, said.append)
    assert (
        open_source(config, said.append).root == first.root
        and len([s for s in said if "converting" in s]) == 1
    )
    data = json.loads((root / "annotations.json").read_text())
    data["annotations"].pop()
    (root / "annotations.json").write_text(json.dumps(data))
    assert open_source(config).root != first.root


def test_colour_and_bright_masks_are_imported_as_ids(tmp_path):
    root = tmp_path / "set"
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir(parents=True)
    Image.fromarray(photo(0)).save(root / "images" / "train" / "a.png")
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], np.uint8)
    Image.fromarray(colors[truth(0)]).save(root / "masks" / "train" / "a.webp", lossless=True)
    rows = zip(NAMES, colors.tolist(), strict=True)
    table = "dataset.classes=[" + ", ".join(f"{{name: {n}, color: {c}}}" for n, c in rows) + "]"
    import_dataset(root, tmp_path / "out", table, "dataset.mask_format=rgb")
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "out" / "masks" / "train" / "a.png")), truth(0)
    )
    bright = (truth(0) > 0).astype(np.uint8) * 255
    Image.fromarray(bright).save(root / "masks" / "train" / "a.gif")
    (root / "masks" / "train" / "a.webp").unlink()
    import_dataset(root, tmp_path / "two", "dataset.classes=[no,yes]", "dataset.mask_format=binary")
    np.testing.assert_array_equal(
        np.array(Image.open(tmp_path / "two" / "masks" / "train" / "a.png")), bright > 0
    )


# --- what is wrong is told, and nothing is left behind


def pack(kind: str, path: Path, members: dict[str, bytes], link: str = "") -> Path:
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
    members = {f"top/{p.name}": p.read_bytes() for p in (tmp_path / "set").iterdir()}
    same_as_truth(imported(pack(kind, tmp_path / f"set.{kind}", members), tmp_path / "out"))


def test_a_cut_archive_is_told(tmp_path):
    archive = pack("zip", tmp_path / "a.zip", {"a.txt": b"1" * 1000})
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(DataError, match="no archive that can be unpacked whole"):
        import_dataset(archive, tmp_path / "out")


def broken(root: Path, change) -> None:
    data = coco_json(root)
    change(data)
    (root / "a.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d["images"][1].update(file_name="gone.png"),
            r"images\[1\]\.file_name is 'gone.png'.*no such image",
        ),
        (
            lambda d: d["images"][1].update(file_name="/home/me/p.png"),
            r"absolute path .*annotations\.relocate=",
        ),
        (
            lambda d: d["annotations"][2].update(category_id=99),
            r"annotations\[2\]\.category_id is 99",
        ),
        (lambda d: d["annotations"][2].update(image_id=99), r"annotations\[2\]\.image_id is 99"),
        (
            lambda d: d["annotations"][2].update(segmentation=[[1, 2, 3]]),
            r"annotations\[2\]\.segmentation is",
        ),
        (
            lambda d: d["annotations"][2]["segmentation"].update(size=[1, 1]),
            r"segmentation\.size is \[1, 1\]",
        ),
        (lambda d: d["images"][0].update(height=10), "its annotations speak of 64 x 10"),
        (lambda d: d.pop("categories"), "no list of categories"),
    ],
)
def test_a_fault_in_coco_is_told_with_its_place_and_leaves_nothing(tmp_path, change, words):
    broken(tmp_path / "set", change)
    with pytest.raises(DataError, match=words):
        import_dataset(tmp_path / "set", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_paths_of_another_machine_are_replaced_when_told(tmp_path):
    broken(
        tmp_path / "set",
        lambda d: [i.update(file_name=f"/home/me/x/{i['file_name']}") for i in d["images"]],
    )
    with pytest.raises(DataError, match="absolute path that does not exist here"):
        import_dataset(tmp_path / "set", tmp_path / "out")
    move = f"dataset.annotations.relocate='/home/me/x:{tmp_path / 'set'}'"
    same_as_truth(imported(tmp_path / "set", tmp_path / "out", move))


def test_a_manifest_with_foreign_paths_names_row_and_column(tmp_path):
    write_manifest(tmp_path / "set")
    text = (
        (tmp_path / "set" / "pairs.csv")
        .read_text()
        .replace("img/photo_2.png", "C:\\data\\photo_2.png")
    )
    (tmp_path / "set" / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=r"pairs\.csv' row 3, image, is 'C:.*absolute path"):
        import_dataset(tmp_path / "set", tmp_path / "out")


def test_groups_of_a_manifest_become_groups_of_the_dataset(tmp_path):
    write_manifest(tmp_path / "set")
    import_dataset(tmp_path / "set", tmp_path / "out")
    source = open_source(
        compose(["dataset=folder", f"dataset.root='{tmp_path / 'out'}'"]).config.dataset
    )
    assert {source.group(p.name) for p in source.pairs("train")} == {"drive0", "drive1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9 0.1 0.1 0.2 0.2 0.3 0.1", r"line 1 is of class 9; data\.yaml names 0\.\.1"),
        ("0 0.5 0.5 0.1 0.1", "a box, not a polygon"),
        ("0 12 14 20 30 5 9", r"shares of width and height"),
        ("car 0.1 0.1", "a class number and coordinates"),
    ],
)
def test_a_fault_in_yolo_is_told_with_file_and_line(tmp_path, text, words):
    root = tmp_path / "yolo"
    save_photos(root / "images" / "train", 1)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "photo_0.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nnames: {0: tree, 1: car}\n")
    with pytest.raises(DataError, match=words):
        import_dataset(root, tmp_path / "out")


def test_xml_entities_are_not_expanded(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY x "ha">]><annotations>&x;</annotations>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(DataError, match="XML entities"):
        import_dataset(tmp_path, tmp_path / "out")


def test_what_is_no_dataset_is_told_with_what_would_be(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(
        DataError, match="coco_panoptic, coco, label_studio, labelme, cvat, voc, yolo"
    ):
        import_dataset(tmp_path / "set", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'coco'"):
        import_dataset(tmp_path / "set", tmp_path / "out", format="coko")
    with pytest.raises(ConfigError, match="exists"):
        import_dataset(tmp_path / "set", tmp_path / "set")
    with pytest.raises(DataError, match="does not exist"):
        import_dataset(tmp_path / "nowhere", tmp_path / "out")


# --- real sets


def iou(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[int, float]:
    assert sorted(found) == sorted(wanted)
    both, any_of = np.zeros(256), np.zeros(256)
    for name, mask in found.items():
        for value in np.union1d(mask, wanted[name]):
            both[value] += ((mask == value) & (wanted[name] == value)).sum()
            any_of[value] += ((mask == value) | (wanted[name] == value)).sum()
    return {int(v): both[v] / any_of[v] for v in np.flatnonzero(any_of)}


def real_voc(root: Path) -> dict[str, np.ndarray]:
    return {p.stem: np.array(Image.open(p)) for p in (root / "SegmentationClass").glob("*.png")}


@pytest.fixture
def labelme_set(data_root: Path) -> Path:
    root = data_root / "labelme_voc_coco"
    if not root.is_dir():
        pytest.skip("SEGTUNE_DATA holds no labelme_voc_coco")
    return root


@pytest.mark.data
@pytest.mark.parametrize("task", ["instance_segmentation", "semantic_segmentation"])
def test_labelmes_own_photos_as_voc_keep_every_pixel(labelme_set, tmp_path, task):
    voc = labelme_set / task / "data_dataset_voc"
    assert set(iou(imported(voc, tmp_path / "voc"), real_voc(voc)).values()) == {1.0}


@pytest.mark.data
def test_labelmes_polygons_and_coco_file_agree_with_its_voc_masks(labelme_set, tmp_path):
    """Both outlined by Pillow's rule, as LabelMe's exporters do: its COCO file says so by the areas that it states."""
    root = labelme_set / "instance_segmentation"
    wanted = real_voc(root / "data_dataset_voc")
    json_masks = imported(root / "data_annotated", tmp_path / "json")
    assert (
        min(iou(json_masks, wanted).values()) > 0.9998
    )  # one pixel of 543,500 differs, between Pillow's versions
    coco_masks = imported(root / "data_dataset_coco", tmp_path / "coco")
    for name, mask in coco_masks.items():
        mask[wanted[name] == 255] = 255  # its COCO file leaves the pixels to be ignored out
    assert min(iou(coco_masks, wanted).values()) > 0.99


@pytest.mark.data
@pytest.mark.parametrize(
    "step", [10, pytest.param(1, marks=(pytest.mark.slow, pytest.mark.ci), id="all images")]
)
def test_the_nuclei_become_one_class_and_no_pixel_is_lost(data_root, tmp_path, step):
    if not (data_root / "dsb2018_nuclei").is_dir():
        pytest.skip("SEGTUNE_DATA holds no dsb2018_nuclei")
    root = tmp_path / "nuclei"
    root.mkdir()
    for folder in sorted((data_root / "dsb2018_nuclei").iterdir())[::step]:
        (root / folder.name).symlink_to(folder)
    found = imported(root, tmp_path / "out", "dataset.classes=[background,nucleus]")
    wanted = {}
    for folder in root.iterdir():
        masks = [np.array(Image.open(p)) > 0 for p in (folder / "masks").glob("*.png")]
        wanted[folder.name] = np.any(masks, axis=0).astype(np.uint8)
    assert iou(found, wanted) == {0: 1.0, 1: 1.0}


@pytest.mark.data
def test_the_potholes_equal_cocos_own_decoder_and_are_near_pillows(data_root, tmp_path):
    root = data_root / "pothole_yoloseg"
    if not root.is_dir():
        pytest.skip("SEGTUNE_DATA holds no pothole_yoloseg")
    found, exact, near = imported(root, tmp_path / "out"), {}, {}
    for name, mask in found.items():
        text = next(root.glob(f"labels/*/{name}.txt"))
        height, width = mask.shape
        lines = [line.split()[1:] for line in text.read_text().splitlines()]
        shapes = [np.array(line, float).reshape(-1, 2) * [width, height] for line in lines]
        polygons = [s.ravel().tolist() for s in shapes]
        bits = (
            coco.decode(coco.frPyObjects(polygons, height, width))
            if polygons
            else np.zeros((height, width, 1))
        )
        exact[name] = bits.any(2).astype(np.uint8)
        canvas = Image.new("L", (width, height))
        for shape in shapes:
            ImageDraw.Draw(canvas).polygon([tuple(p) for p in shape], fill=1)
        near[name] = np.array(canvas)
    assert iou(found, exact) == {0: 1.0, 1: 1.0}
    assert min(iou(found, near).values()) > 0.99
