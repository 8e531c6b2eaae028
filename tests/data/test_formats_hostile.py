"""Mutated annotation files are read or refused with one message; none crashes or hangs."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtune.data.formats.areas import draw_areas
from segtune.errors import SegtuneError
from tests.data.annotation_sets import (
    EXACT,
    H,
    W,
    save_photos,
    write_coco_crowds,
    write_voc_colors,
)
from tests.data.polygon_sets import POLYGON_SETS, annotations_of

COUNT = 500
SECONDS_EACH = 5.0
VALUES = [None, True, -1, 0, 2**70, 1e308, float("nan"), float("inf"), "", "x", "é\ud800"]
LIKE = [[], {}, [[]], [None], {"a": 1}, [1, 2], "[1, 2]"]
TEXTS = ["nan", "-1", "1e999", "", "é", "\x00", "9" * 5000, "<", "[", "{", ": &a", ",", "\n"]


def write_yolo(root: Path) -> None:
    path = save_photos(root / "images" / "train", 1)[0]
    (root / "labels" / "train").mkdir(parents=True)
    text = root / "labels" / "train" / f"{path.stem}.txt"
    text.write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.5 0.5 0.9 0.5 0.9 0.9\n")
    (root / "data.yaml").write_text("train: images/train\nnames:\n  0: car\n  1: tree\n")


def write_cvat_video(root: Path) -> None:
    save_photos(root, 1)[0].rename(root / "frame_000001.png")
    box = '<box frame="{}" xtl="1" ytl="1" xbr="{}" ybr="9" rotation="5" outside="0"/>'
    polygon = '<polygon frame="{}" points="1,1;9,1;9,{}" outside="0"/>'
    tracks = ""
    for shape in (box, polygon):
        tracks += f'<track id="1" label="car">{shape.format(0, 9)}{shape.format(2, 12)}</track>'
    (root / "a.xml").write_text(f"<annotations>{tracks}</annotations>")


def write_label_studio_min(root: Path) -> None:
    save_photos(root, 1)
    shape = {"x": 1, "y": 1, "width": 9, "height": 9, "original_width": W, "original_height": H}
    values = [{**shape, "rectanglelabels": ["car"]}, {**shape, "choices": ["van"]}]
    record = {"image": "photo_0.png", "id": 1, "tag": values, "annotation_id": 2}
    (root / "min.json").write_text(json.dumps([record]))


def with_polygon(write: Callable[[Path, list[Any]], None]) -> Callable[[Path], None]:
    def write_set(root: Path) -> None:
        save_photos(root, 1)
        write(root, [1, 1, 40, 3, 20, 40])

    return write_set


SETS: dict[str, Callable[[Path], None]] = {
    **EXACT,
    **{f"{name}_polygons": with_polygon(write) for name, write in POLYGON_SETS.items()},
    "coco_crowds": write_coco_crowds,
    "voc_colors": write_voc_colors,
    "cvat_video": write_cvat_video,
    "label_studio_min": write_label_studio_min,
    "yolo": write_yolo,
}


def places_in(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of JSON content."""
    keys = range(len(content)) if isinstance(content, list) else list(content)
    places: list[tuple[Any, Any]] = []
    for key in keys:
        places.append((content, key))
        if isinstance(content[key], list | dict):
            places += places_in(content[key])
    return places


def mutated_json(text: str, rng: np.random.Generator) -> str:
    content = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        places = places_in(content)
        if not places:
            break
        container, key = places[rng.integers(len(places))]
        kind = rng.integers(4)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.append(container[key])
        else:
            values = VALUES if kind < 3 else LIKE
            container[key] = values[rng.integers(len(values))]
    return json.dumps(content)


def mutated_text(text: str, rng: np.random.Generator) -> str:
    for _ in range(rng.integers(1, 4)):
        start, length = rng.integers(len(text) + 1), rng.integers(0, 6)
        insertion = TEXTS[rng.integers(len(TEXTS))]
        text = text[:start] + insertion + text[start + length :]
    return text


@pytest.mark.parametrize("name", SETS)
def test_mutated_annotations_are_read_or_refused(tmp_path, name):
    root = tmp_path / "set"
    root.mkdir()
    SETS[name](root)
    suffixes = (".json", ".xml", ".txt", ".yaml", ".csv")
    files = sorted(path for path in root.rglob("*") if path.suffix in suffixes)
    originals = {path: path.read_text() for path in files}
    rng = np.random.default_rng(0)
    for _ in range(COUNT // len(SETS)):
        path = files[rng.integers(len(files))]
        is_json = path.suffix == ".json" and rng.random() < 0.8
        mutate = mutated_json if is_json else mutated_text
        path.write_text(mutate(originals[path], rng), errors="surrogatepass")
        start = time.monotonic()
        with suppress(SegtuneError):
            read_and_draw(root)
        assert time.monotonic() - start < SECONDS_EACH
        path.write_text(originals[path])


def read_and_draw(root: Path) -> None:
    """Read annotations and draw each image, as an import does after it has checked the sizes."""
    for image in annotations_of(root).images:
        if image.mask is not None:
            assert image.mask().dtype == np.uint8
        elif image.size in (None, (H, W)):
            for _, bits in draw_areas(image.areas, (H, W)):
                assert bits.shape == (H, W)
                assert bits.dtype == bool
