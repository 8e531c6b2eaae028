"""A valid set in each format that stores shapes: two photos, a car and a tree in each."""

import base64
import csv
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data.annotation_sets import H, W, encode_brush, photo, run_lengths

PHOTOS = ("day", "night")
LABELS = ("car", "tree")
GOOD = 8
"""The first coordinate of the first photo's car, or the first of its run lengths."""

Points = list[tuple[Any, Any]]
CAR: Points = [(40, 6), (38, 30), (12, 26)]
TREE: Points = [(20, 14), (60, 18), (50, 44), (24, 40)]


def cars(value: Any) -> dict[str, Points]:
    """Photo -> the corners of its car, of which the first may be bad."""
    return {"day": [(value, 7), *CAR], "night": [(9, 9), *CAR]}


def bits_of(points: Points) -> np.ndarray:
    """The pixels of the rectangle around some points."""
    xs, ys = zip(*points, strict=True)
    bits = np.zeros((H, W), bool)
    bits[min(ys) : max(ys), min(xs) : max(xs)] = True
    return bits


def runs_of(bits: np.ndarray, value: Any) -> list[Any]:
    """COCO's run lengths, of which the first is lowered by `GOOD` and follows `value`."""
    first, *others = run_lengths(bits.ravel(order="F"))
    return [value, 0, first - GOOD, *others]


def save_photos(folder: Path, suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(PHOTOS):
        Image.fromarray(photo(number)).save(folder / f"{name}{suffix}")


def flat(points: Points) -> list[Any]:
    return [value for point in points for value in point]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=0))


def write_coco(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    rows: list[dict[str, Any]] = []
    images = []
    for number, name in enumerate(PHOTOS, 1):
        images.append({"id": number, "file_name": f"{name}.png", "height": H, "width": W})
        tree = {"size": [H, W], "counts": run_lengths(bits_of(TREE).ravel(order="F"))}
        for category, shape in ((3, [flat(cars(value)[name])]), (7, tree)):
            keys = {"id": 100 + len(rows), "image_id": number, "category_id": category}
            rows.append(
                {**keys, "segmentation": shape, "iscrowd": 0, "area": 560, "bbox": [0, 0, 9, 9]}
            )
    categories = [{"id": 3, "name": "car"}, {"id": 7, "name": "tree"}]
    content = {"images": images, "annotations": rows, "categories": categories}
    write_json(root / "labels.json", content)


def write_labelme(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    buffer = io.BytesIO()
    Image.fromarray(np.ones((20, 30), bool)).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    for name in PHOTOS:
        tree = {"label": "tree", "shape_type": "mask", "points": [[20, 14], [49, 33]], "mask": mask}
        car = {"label": "car", "shape_type": "polygon", "points": cars(value)[name]}
        circle = {"label": "car", "shape_type": "circle", "points": [[50, 9], [54, 11]]}
        content = {"imagePath": f"{name}.png", "imageHeight": H, "imageWidth": W}
        write_json(root / f"{name}.json", {**content, "shapes": [car, tree, circle]})


def write_cvat(root: Path, value: Any = GOOD) -> None:
    save_photos(root / "images")
    nodes = ""
    for name in PHOTOS:
        points = ";".join(f"{x},{y}" for x, y in cars(value)[name])
        car = f'<polygon label="car" points="{points}" z_order="2"/>'
        tree = '<box label="tree" xtl="20" ytl="14" xbr="50" ybr="40" rotation="15" z_order="1"/>'
        mask = '<mask label="tree" rle="2, 3, 1" left="5" top="40" width="3" height="2"/>'
        ellipse = '<ellipse label="car" cx="55" cy="40" rx="5" ry="4"/>'
        shapes = f"{car}{tree}{mask}{ellipse}"
        nodes += f'<image name="{name}.png" width="{W}" height="{H}">{shapes}</image>\n'
    (root / "labels.xml").write_text(f"<annotations>{nodes}</annotations>")


def write_cvat_video(root: Path, value: Any = GOOD) -> None:
    for number in range(3):
        save_photos(root / "photos")
        (root / "photos" / "day.png").rename(root / f"frame_00000{number}.png")
    (root / "photos" / "night.png").unlink()
    keyframes = ""
    for frame, points in ((0, cars(value)["day"]), (2, cars(GOOD)["day"])):
        text = ";".join(f"{x},{y}" for x, y in points)
        keyframes += f'<polygon frame="{frame}" keyframe="1" outside="0" points="{text}"/>\n'
    boxes = '<box frame="1" keyframe="1" outside="0" xtl="5" ytl="30" xbr="20" ybr="44"/>'
    tracks = f'<track id="0" label="car">{keyframes}</track><track id="1" label="tree">{boxes}'
    meta = f"<meta><original_size><width>{W}</width><height>{H}</height></original_size></meta>"
    (root / "labels.xml").write_text(f"<annotations>{meta}{tracks}</track></annotations>")


def write_label_studio(root: Path, value: Any = GOOD) -> None:
    save_photos(root / "media")
    tasks = []
    for name in PHOTOS:
        car = {"points": [[x, y] for x, y in cars(value)[name]], "polygonlabels": ["car"]}
        tree = {"format": "rle", "rle": encode_brush(bits_of(TREE)), "brushlabels": ["tree"]}
        ellipse = {"x": 70, "y": 70, "radiusX": 9, "radiusY": 6, "ellipselabels": ["tree"]}
        box = {
            "x": 2,
            "y": 80,
            "width": 20,
            "height": 9,
            "rectanglelabels": ["car"],
        }
        results = []
        for letter, shape in zip("abcd", (car, tree, ellipse, box), strict=True):
            kind = next(key for key in shape if key.endswith("labels"))
            size = {"original_width": W, "original_height": H}
            results.append({"id": letter, "type": kind, "value": shape, **size})
        data = {"image": f"/data/upload/{name}.png"}
        tasks.append({"data": data, "annotations": [{"result": results}]})
    write_json(root / "tasks.json", tasks)


def write_yolo(root: Path, value: Any = GOOD) -> None:
    save_photos(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    for name in PHOTOS:
        first = [value / W if isinstance(value, int) else value, 0.2]
        car = " ".join(map(str, [*(first if name == "day" else [0.1, 0.2]), 0.6, 0.2, 0.5, 0.7]))
        text = f"0 {car}\n1 0.3 0.4 0.9 0.4 0.8 0.9\n"
        (root / "labels" / "train" / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text("train: images/train\nnames:\n  0: car\n  1: tree\n")


def via_regions(value: Any, name: str) -> list[dict[str, Any]]:
    xs, ys = zip(*cars(value)[name], strict=True)
    shapes = [
        ("car", {"name": "polygon", "all_points_x": xs, "all_points_y": ys}),
        ("tree", {"name": "rect", "x": 20, "y": 14, "width": 30, "height": 25}),
        ("tree", {"name": "ellipse", "cx": 52, "cy": 40, "rx": 8, "ry": 4, "theta": 0.3}),
        ("car", {"name": "circle", "cx": 8, "cy": 40, "r": 5}),
    ]
    return [{"shape_attributes": s, "region_attributes": {"class": label}} for label, s in shapes]


def write_via(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    content = {}
    for name in PHOTOS:
        regions = via_regions(value, name)
        content[f"{name}.png"] = {"filename": f"{name}.png", "size": 1, "regions": regions}
    write_json(root / "via.json", content)


def write_via_csv(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    with (root / "via.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "region_shape_attributes", "region_attributes"])
        for name in PHOTOS:
            for region in via_regions(value, name):
                table.writerow([f"{name}.png", *(json.dumps(cell) for cell in region.values())])


def write_supervisely(root: Path, value: Any = GOOD) -> None:
    save_photos(root / "set" / "img")
    buffer = io.BytesIO()
    Image.fromarray(np.ones((20, 30), bool)).save(buffer, "PNG")
    packed = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    for name in PHOTOS:
        hole = [[20, 12], [26, 12], [26, 16]]
        points = {"exterior": cars(value)[name], "interior": [hole]}
        car = {"classTitle": "car", "geometryType": "polygon", "points": points}
        bitmap = {"data": packed, "origin": [25, 20]}
        tree = {"classTitle": "tree", "geometryType": "bitmap", "bitmap": bitmap}
        content = {"size": {"height": H, "width": W}, "objects": [car, tree]}
        write_json(root / "set" / "ann" / f"{name}.png.json", content)
    classes = [{"title": "tree", "color": "#00FF00"}, {"title": "car", "color": "#FF0000"}]
    write_json(root / "meta.json", {"classes": classes})


def write_cityscapes(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    for name in PHOTOS:
        objects = [
            {"label": "terrain", "polygon": TREE},
            {"label": "car", "polygon": cars(value)[name]},
        ]
        content = {"imgHeight": H, "imgWidth": W, "objects": objects}
        write_json(root / f"{name}_gtFine_polygons.json", content)


def write_sa1b(root: Path, value: Any = GOOD) -> None:
    save_photos(root)
    for number, name in enumerate(PHOTOS):
        runs = [runs_of(bits_of(CAR), GOOD if number else value), runs_of(bits_of(TREE), GOOD)]
        rows = []
        for place, counts in enumerate(runs):
            rows.append({"id": 500 + place, "segmentation": {"size": [H, W], "counts": counts}})
        image = {"image_id": number, "width": W, "height": H, "file_name": f"{name}.png"}
        write_json(root / f"{name}.json", {"image": image, "annotations": rows})


def write_kaggle(root: Path, value: Any = GOOD) -> None:
    save_photos(root / "train")
    with (root / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ImageId", "ClassId", "EncodedPixels"])
        for name in PHOTOS:
            start = GOOD if name == "night" else value
            table.writerow([f"{name}.png", "car", f"{start} 40 300 500 900 20"])
            table.writerow([f"{name}.png", "tree", "1000 900 2000 40"])


SHAPE_SETS: dict[str, Callable[..., None]] = {
    "coco": write_coco,
    "label_studio": write_label_studio,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "yolo": write_yolo,
    "via": write_via,
    "via_csv": write_via_csv,
    "supervisely": write_supervisely,
    "cityscapes_polygons": write_cityscapes,
    "sa1b": write_sa1b,
    "kaggle_rle": write_kaggle,
}
"""Format -> writer of (folder, `GOOD` or a value that no shape may have)."""
