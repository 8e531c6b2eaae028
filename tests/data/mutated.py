"""Mutate valid annotation files and read them: `python -m tests.data.mutated START COUNT`.

Prints one JSON object: the samples that were read and refused for each set, the faults, and the
peak of memory. Sample N is the same in every run.
"""

import copy
import json
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats.areas import draw_areas, paint
from segtune.data.formats.faults import LeftOut
from segtune.errors import SegtuneError
from tests.data import annotation_sets as exact
from tests.data.annotation_sets import H, W
from tests.data.polygon_sets import annotations_of
from tests.data.shape_sets import SHAPE_SETS, write_cvat_video

SECONDS_EACH = 5
_TEXT_SUFFIXES = (".json", ".xml", ".txt", ".yaml", ".csv")
NUMBER = re.compile(r"(?<![\w.+/=-])-?\d+(?:\.\d+)?(?![\w.+/=])")
_NUMBERS = (
    *("-1", "0", "1", "2", "3", "7", "8", "47", "48", "63", "64", "65", "100", "0.5", "-0.001"),
    *("1e9", "-1e9", "1e308", "1e999", "NaN", "Infinity", "-Infinity", "99999999999999999999"),
    *("null", "true", '"8"', '"x"', "[]", "{}", "[1, 2]", "", "1 2", "1,2", "١"),
)
_VALUES = (None, True, -1, 0, 2**70, 1e308, float("nan"), float("inf"), "", "x", "é\ud800")
_CONTAINERS = ([], {}, [[]], [None], {"a": 1}, [1, 2], "[1, 2]")
_TEXTS = ("nan", "-1", "1e999", "", "é", "\x00", "9" * 5000, "<", "[", "{", ": &a", ",", "\n")


def write_roboflow(root: Path) -> None:
    for index, path in enumerate(exact.save_photos(root, 2)):
        Image.fromarray(exact.truth(index)).save(root / f"{path.stem}_mask.png")
    table = "Pixel Value, Class\n0, background\n1, car\n2, tree\n"
    (root / "_classes.csv").write_text(table)


def write_instances(root: Path) -> None:
    for index, path in enumerate(exact.save_photos(root / "images", 2)):
        folder = root / "masks" / path.stem
        folder.mkdir(parents=True)
        for value, name in ((1, "car"), (2, "tree")):
            bits = exact.truth(index) == value
            Image.fromarray((bits * 255).astype(np.uint8)).save(folder / f"{name}.png")


MASK_SETS: dict[str, Callable[[Path], None]] = {
    "coco_panoptic": exact.write_coco_panoptic,
    "voc": exact.write_voc,
    "voc_colors": exact.write_voc_colors,
    "manifest": exact.write_manifest,
    "roboflow_masks": write_roboflow,
    "instances": write_instances,
}
SETS = {**SHAPE_SETS, "cvat_video": write_cvat_video, **MASK_SETS}
_FORMATS = {"via_csv": "via", "cvat_video": "cvat", "voc_colors": "voc"}

Labels = dict[str, np.ndarray]
"""Image -> the name of the class of each pixel, (H, W); `` for ignored ones."""


@dataclass
class Outcome:
    """What came of the samples."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def labels_of(root: Path, format: str) -> Labels:
    """Read a set as an import does, with half of its shapes to be left out if they are bad."""
    words = ("dataset.tolerance=0.5", f"dataset.annotations.format={format}")
    annotations = annotations_of(root, *words)
    known = [str(row["name"])[:40] for row in annotations.classes]  # NumPy pads texts
    names = np.array([*known, *[""] * 256][:256])
    names[255] = ""
    labels: Labels = {}
    for image in annotations.images:
        if image.mask is not None:
            mask = image.mask()
        elif image.size in (None, (H, W)):
            drawn = draw_areas(image.areas, (H, W), LeftOut())
            mask, _ = paint(drawn, (H, W), annotations.classes, AnnotationsConfig())
        else:
            raise SegtuneError("an import refuses annotations of another size")
        assert mask.dtype == np.uint8
        assert mask.ndim == 2
        assert set(np.unique(mask).tolist()) <= {*range(len(annotations.classes)), 255}
        labels[image.image.name] = names[mask]
    return labels


def changes_one_shape(before: Labels, after: Labels) -> bool:
    """Whether all pixels that differ had one class before, or have one class now.

    One number concerns one shape or class: where it goes, the shapes beneath may have any class.
    An image whose file is no JSON any more may be left out.
    """
    if not after.keys() <= before.keys():
        return False
    different = {name: before[name] != after[name] for name in after}
    was = np.concatenate([before[name][is_other] for name, is_other in different.items()])
    now = np.concatenate([after[name][is_other] for name, is_other in different.items()])
    for old in [*np.unique(was), None]:
        rest = now if old is None else now[was != old]
        if len(np.unique(rest)) <= 1:
            return True
    return False


def mutated_number(text: str, rng: np.random.Generator) -> str:
    """A text with another value for one of its numbers."""
    numbers = list(NUMBER.finditer(text))
    chosen = numbers[rng.integers(len(numbers))]
    value = _NUMBERS[rng.integers(len(_NUMBERS))]
    return text[: chosen.start()] + value + text[chosen.end() :]


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
            values: tuple[Any, ...] = _VALUES if kind < 3 else _CONTAINERS
            container[key] = copy.deepcopy(values[rng.integers(len(values))])
    return json.dumps(content)


def mutated_text(text: str, rng: np.random.Generator) -> str:
    for _ in range(rng.integers(1, 4)):
        start, length = rng.integers(len(text) + 1), rng.integers(0, 6)
        insertion = _TEXTS[rng.integers(len(_TEXTS))]
        text = text[:start] + insertion + text[start + length :]
    return text


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        return data[: rng.integers(len(data))]
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed)


def mutated(original: bytes, kind: str, rng: np.random.Generator) -> bytes:
    if kind == "bytes":
        return mutated_bytes(original, rng)
    change = {"number": mutated_number, "json": mutated_json, "text": mutated_text}[kind]
    return change(original.decode(), rng).encode(errors="surrogatepass")


class MutatedSet:
    """A valid set in a folder, of which one file at a time is mutated."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.format = _FORMATS.get(name, name)
        root.mkdir()
        SETS[name](root)
        photos = {path for path in root.rglob("*.png") if self._is_photo(path)}
        files = [path for path in root.rglob("*") if path.is_file() and path not in photos]
        self.originals = {path: path.read_bytes() for path in sorted(files)}
        self.labels = labels_of(root, self.format)

    def _is_photo(self, path: Path) -> bool:
        is_noise = len(np.unique(np.array(Image.open(path)))) > 100
        return self.name not in MASK_SETS or is_noise

    def try_sample(self, number: int, outcome: Outcome) -> None:
        """Mutate a file as the number says, read the set, and note what came of it."""
        rng = np.random.default_rng(number)
        path = list(self.originals)[rng.integers(len(self.originals))]
        original = self.originals[path]
        kind = self._kind(path, rng)
        format = "auto" if rng.random() < 0.1 else self.format
        path.write_bytes(mutated(original, kind, rng))
        place = f"{self.name} sample {number} ({kind}, {path.name})"
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
        try:
            labels = labels_of(self.root, format)
            if number % 5 == 0 and not _are_equal(labels, labels_of(self.root, format)):
                outcome.faults.append(f"{place}: two readings differ")
            is_one_number = kind == "number" and self.name not in MASK_SETS
            if is_one_number and not changes_one_shape(self.labels, labels):
                outcome.faults.append(f"{place}: more than one shape changed")
            outcome.read[self.name] += 1
        except SegtuneError:
            outcome.refused[self.name] += 1
        except BaseException as error:
            outcome.faults.append(f"{place}: {type(error).__name__}: {error}"[:500])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            path.write_bytes(original)

    def _kind(self, path: Path, rng: np.random.Generator) -> str:
        """A kind of mutation that fits a file."""
        kind = str(rng.choice(["number", "json", "text", "bytes"], p=[0.5, 0.25, 0.15, 0.1]))
        if path.suffix not in _TEXT_SUFFIXES:
            return "bytes"
        has_number = NUMBER.search(self.originals[path].decode()) is not None
        fits = {"number": has_number, "json": path.suffix == ".json"}
        return kind if fits.get(kind, True) else "text"


def _are_equal(first: Labels, second: Labels) -> bool:
    same = [np.array_equal(first[name], second.get(name, [])) for name in first]
    return first.keys() == second.keys() and all(same)


def _hang(*_: object) -> None:
    raise TimeoutError(f"longer than {SECONDS_EACH} s")


def main(start: int, count: int) -> None:
    """Try samples and print what came of them."""
    signal.signal(signal.SIGALRM, _hang)
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        sets = [MutatedSet(name, Path(folder) / name) for name in SETS]
        for number in range(start, start + count):
            sets[number % len(sets)].try_sample(number, outcome)
    # of this program alone: ru_maxrss begins at that of the process which started it
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024
    facts = {"read": outcome.read, "refused": outcome.refused, "faults": outcome.faults}
    print(json.dumps({**facts, "peak_bytes": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
