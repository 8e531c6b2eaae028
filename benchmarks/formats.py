"""Time the listing, pairing and dividing of 100,000 images in a format, and state the memory.

    python benchmarks/formats.py folder
    python benchmarks/formats.py coco --images 20000

The images are links to one file of 8 x 8 pixels in folders of a thousand. Writing them is not
measured. Annotated sets are divided stratified by class, as an import without splits does.
"""

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from segtune.config.compose import compose
from segtune.config.dataset_schema import SplitsConfig
from segtune.data import formats
from segtune.data.source.splits import divide
from segtune.data.sources import open_source

_MOST_LINKS = 30_000  # to one file; file systems allow 65,000
_FOLDERS = ["dataset.images=images", "dataset.masks=masks", "dataset.splits.val=0.2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("format", choices=["folder", "coco", "yolo"])
    parser.add_argument("--images", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        write_set(root, options.format, options.images)
        start, cpu_start = time.perf_counter(), time.process_time()
        count = count_pairs(root) if options.format == "folder" else divide_areas(root, options)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{options.format}: {count:,} images in {seconds:.1f} s ({cpu:.1f} s CPU), {peak:.2f} GB")


def count_pairs(root: Path) -> int:
    """Pair the images of folders with their masks, and divide them."""
    words = ["dataset=folder", f"dataset.root={root}", "dataset.classes=[a,b,c]", *_FOLDERS]
    source = open_source(compose(words).config.dataset)
    return sum(len(source.pairs(split)) for split in source.splits())


def divide_areas(root: Path, options: argparse.Namespace) -> int:
    """Read the annotations of a format, and divide its images stratified by class."""
    words = ["dataset=coco", f"dataset.root={root}", f"dataset.annotations.format={options.format}"]
    annotations = formats.read(root, compose(words).config.dataset)
    ids = {str(row["name"]): index for index, row in enumerate(annotations.classes)}
    presence = np.zeros((len(annotations.images), len(ids)), bool)
    for row, image in enumerate(annotations.images):
        for area in image.areas:
            presence[row, ids[str(area.concept)]] = True
    names = [image.name for image in annotations.images]
    splits = divide(names, names, SplitsConfig(val=0.2, stratify=True), presence)
    return sum(len(members) for members in splits.values())


def write_set(root: Path, format: str, count: int) -> None:
    """Write a set of linked images, with masks, a JSON file or text files."""
    names = [f"city_{index // 1000:03d}/frame_{index:06d}" for index in range(count)]
    link_all(root / "images", names, ".png", picture(root, 0))
    if format == "folder":
        link_all(root / "masks", names, ".png", picture(root, 1))
    elif format == "yolo":
        labels = root.parent / "labels.txt"
        labels.write_text("1 0.1 0.1 0.9 0.1 0.9 0.9\n")
        link_all(root / "labels", names, ".txt", labels)
        (root / "data.yaml").write_text("names: [a, b, c]\ntrain: images\nval: images\n")
    else:
        rows = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate(names)]
        shape = {"segmentation": [[1, 1, 7, 1, 7, 7]]}
        areas = []
        for index in range(count):
            areas.append({"id": index, "image_id": index, "category_id": index % 3, **shape})
        categories = [{"id": index, "name": name} for index, name in enumerate("abc")]
        content = {"images": rows, "annotations": areas, "categories": categories}
        (root / "annotations.json").write_text(json.dumps(content))


def picture(root: Path, value: int) -> Path:
    """A small file beside the set."""
    path = root.parent / f"{value}.png"
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
    return path


def link_all(folder: Path, names: list[str], suffix: str, file: Path) -> None:
    """Link every name to the file, or to a copy of it."""
    for inside in {name.partition("/")[0] for name in names}:
        (folder / inside).mkdir(parents=True)
    for number, name in enumerate(names):
        if number % _MOST_LINKS == 0:
            file = Path(shutil.copy(file, file.with_name(f"{folder.name}_{number}{suffix}")))
        os.link(file, folder / f"{name}{suffix}")


if __name__ == "__main__":
    main()
