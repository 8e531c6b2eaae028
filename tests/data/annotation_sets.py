"""Writers of small annotated sets in each format: four photos with known masks."""

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

H, W = 48, 64
NAMES = ["background", "car", "tree"]


def truth(seed: int) -> np.ndarray:
    """The mask of photo 0..3: two classes; the car has a hole and two parts."""
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


def run_lengths(bits: np.ndarray) -> list[int]:
    """Lengths of the runs of a flat mask; the first run is outside."""
    flat = bits.astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def bounding_box(bits: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, and the first column and row behind the mask."""
    ys, xs = np.nonzero(bits)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def coco_content(root: Path) -> dict[str, Any]:
    """Save the photos, and return the content of their COCO file."""
    images, annotations = [], []
    for i, path in enumerate(save_photos(root)):
        images.append({"id": i, "file_name": path.name, "height": H, "width": W})
        for label in (1, 2):
            rle = coco_mask.encode(np.asfortranarray((truth(i) == label).astype(np.uint8)))
            row = {
                "id": len(annotations),
                "image_id": i,
                "category_id": label * 7,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "iscrowd": 0,
            }
            annotations.append(row)
    categories = [{"id": 14, "name": "tree"}, {"id": 7, "name": "car"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path) -> None:
    (root / "annotations.json").write_text(json.dumps(coco_content(root)))


def write_coco_crowds(root: Path) -> None:
    """All areas as crowds, with uncompressed run lengths."""
    content = coco_content(root)
    for row in content["annotations"]:
        flat = (truth(row["image_id"]) == row["category_id"] // 7).ravel(order="F")
        row["segmentation"] = {"size": [H, W], "counts": run_lengths(flat)}
        row["iscrowd"] = 1
    (root / "annotations.json").write_text(json.dumps(content))


def write_coco_panoptic(root: Path) -> None:
    images, annotations = [], []
    (root / "panoptic_val").mkdir(parents=True)
    for i, path in enumerate(save_photos(root / "photos")):
        ids = np.array([0, 70_000 + i, 300], np.int64)[truth(i)]
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
        file_name = f"{path.stem}.png"
        Image.fromarray(png).save(root / "panoptic_val" / file_name)
        images.append({"id": i, "file_name": path.name, "height": H, "width": W})
        segments = [{"id": 70_000 + i, "category_id": 1}, {"id": 300, "category_id": 2}]
        row = {"image_id": i, "file_name": file_name, "segments_info": segments}
        annotations.append(row)
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "panoptic_val.json").write_text(json.dumps(content))


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
    table = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:128,0,0::\ntree:0,128,0::\n"
    (root / "labelmap.txt").write_text(table)
    for path in (root / "SegmentationClass").glob("*.png"):
        Image.open(path).convert("RGB").save(path)


def write_labelme(root: Path) -> None:
    for i, path in enumerate(save_photos(root)):
        shapes = []
        for label in (2, 1):
            bits = truth(i) == label
            left, top, right, bottom = bounding_box(bits)
            buffer = io.BytesIO()
            Image.fromarray(bits[top:bottom, left:right]).save(buffer, "PNG")
            shape = {
                "label": NAMES[label],
                "points": [[left, top], [right - 1, bottom - 1]],
                "shape_type": "mask",
                "mask": base64.b64encode(buffer.getvalue()).decode(),
                "flags": {},
            }
            shapes.append(shape)
        shapes.append({"label": "car", "points": [[1, 1]], "shape_type": "point", "flags": {}})
        content = {
            "shapes": shapes,
            "imagePath": path.name,
            "imageHeight": H,
            "imageWidth": W,
            "imageData": None,
        }
        path.with_suffix(".json").write_text(json.dumps(content))


def write_cvat(root: Path) -> None:
    images = []
    for i, path in enumerate(save_photos(root / "images")):
        shapes = ""
        for label in (1, 2):
            bits = truth(i) == label
            left, top, right, bottom = bounding_box(bits)
            box = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
            rle = ", ".join(map(str, run_lengths(bits[top:bottom, left:right].ravel())))
            shapes += f'<mask label="{NAMES[label]}" rle="{rle}" {box} z_order="0"/>'
        size = f'width="{W}" height="{H}"'
        images.append(f'<image id="{i}" name="{path.name}" {size}>{shapes}</image>')
    labels = ""
    for i, name in enumerate(NAMES[1:]):
        labels += f"<label><name>{name}</name><color>#1020{i}0</color></label>"
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0"?><annotations>{meta}{"".join(images)}</annotations>'
    (root / "annotations.xml").write_text(text)


def encode_brush(bits: np.ndarray) -> list[int]:
    """Label Studio's run lengths, as its documentation states them.

    Word size 8, run sizes 3, 4, 8 and 16 bits.
    """
    flat = np.zeros((*bits.shape, 4), np.uint8)
    flat[bits] = 255
    values = flat.ravel()
    sizes = "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    stream = f"{flat.size:032b}" + f"{8 - 1:05b}" + sizes
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start] and end - start < 2**16:
            end += 1
        stream += "1" + "11" + f"{end - start - 1:016b}" + f"{int(values[start]):08b}"
        start = end
    stream += "0" * (-len(stream) % 8)
    return [int(stream[i : i + 8], 2) for i in range(0, len(stream), 8)]


def write_label_studio(root: Path) -> None:
    tasks = []
    for i, path in enumerate(save_photos(root / "media")):
        results = []
        for label in (1, 2):
            rle = encode_brush(truth(i) == label)
            row = {
                "id": f"r{label}",
                "type": "brushlabels",
                "value": {"format": "rle", "rle": rle, "brushlabels": [NAMES[label]]},
                "original_width": W,
                "original_height": H,
            }
            results.append(row)
        data = {"image": f"/data/upload/1/1a2b3c4d-{path.name}"}
        annotation = {"was_cancelled": False, "result": results}
        tasks.append({"id": i, "data": data, "annotations": [annotation]})
    (root / "export.json").write_text(json.dumps(tasks))


def write_manifest(root: Path) -> None:
    (root / "masks").mkdir(parents=True)
    with (root / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "mask", "split", "group"])
        for i, path in enumerate(save_photos(root / "img")):
            mask = f"masks/{path.stem}.png"
            Image.fromarray(truth(i)).save(root / mask)
            split = "train" if i < 3 else "val"
            table.writerow([f"img/{path.name}", mask, split, f"drive{i % 2}"])
    (root / "classes.yaml").write_text("classes: [background, car, tree]\n")


EXACT: dict[str, Callable[[Path], None]] = {
    "coco": write_coco,
    "coco_panoptic": write_coco_panoptic,
    "voc": write_voc,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "label_studio": write_label_studio,
    "manifest": write_manifest,
}
"""Format -> writer, for the formats that can hold every pixel."""
