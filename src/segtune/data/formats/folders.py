"""Labels as files beside the images: YOLO-seg's text, VOC's palette masks, one mask per object, and tables of pairs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.config.dataset_schema import AnnotationsConfig
from segtune.data.formats.areas import (
    Annotated,
    Area,
    Labelled,
    class_rows,
    from_file,
    polygons,
)
from segtune.data.formats.finding import Finder, name_of, split_in
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES, read_colors, read_mask
from segtune.data.source.files import walk
from segtune.data.source.splits import is_foreign, read_list
from segtune.errors import DataError

_VOC = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
).split()


def yolo_table(root: Path) -> Path | None:
    """YOLO's table of names below root: a YAML with `names` and, as a rule, `train` and `val`."""
    for file in [*walk(root, (".yaml", ".yml"))][:20]:
        try:
            data = yaml.safe_load((root / file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        if isinstance(data, dict) and "names" in data and ("train" in data or "nc" in data):
            return root / file
    return None


def read_yolo(root: Path, config: AnnotationsConfig) -> Annotated:
    """Polygons by line, `class x y x y …` in shares of width and height; a missing or empty file is all background.

    The table's own `path` is not needed: it is another machine's more often than not.
    """
    table = yolo_table(root)
    if table is None:
        raise DataError(
            f"'{root}' holds no data.yaml with names; YOLO's table of classes is needed."
        )
    data = yaml.safe_load(table.read_text(encoding="utf-8"))
    listed = data["names"]
    names = [str(n) for n in (listed.values() if isinstance(listed, dict) else listed)]
    items, everything = [], []
    top = table.parent
    for file in (
        f for f in walk(top, IMAGE_SUFFIXES) if f"/{f}".count("/images/") and "labels/" not in f
    ):
        image = top / file
        before, _, after = f"/{file}".rpartition("/images/")
        text = top / f"{before}/labels/{after}".lstrip("/")
        own = _yolo_areas(text.with_suffix(".txt"), names, config.polygons)
        everything += own
        items.append(Labelled(name_of(image, top), image, split_in(file.rpartition("/")[0]), own))
    notes = []
    where = str(data.get("path") or "")
    if where and is_foreign(where) and not Path(where).exists():
        notes.append(
            f"'{table}' path is '{where}', which is not here; the folders beside it were read"
        )
    return Annotated(class_rows(names, everything, config), items, notes)


def _yolo_areas(path: Path, names: list[str], rule: str) -> list[Area]:
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"'{path}' line {number}"
        try:
            index, values = int(words[0]), np.array([float(w) for w in words[1:]])
        except ValueError:
            raise DataError(
                f"{where} is '{line[:40]}'; a class number and coordinates are expected."
            ) from None
        if not 0 <= index < len(names):
            raise DataError(f"{where} is of class {index}; data.yaml names 0..{len(names) - 1}.")
        if len(values) < 6 or len(values) % 2:
            kind = "a box, not a polygon" if len(values) == 4 else f"{len(values)} numbers"
            raise DataError(
                f"{where} holds {kind}; at least three points x y are expected (YOLO-seg). Export polygons."
            )
        if not np.isfinite(values).all() or values.min() < -0.01 or values.max() > 1.01:
            raise DataError(
                f"{where} holds {values.min():.4g}..{values.max():.4g}; shares of width and height (0..1) are read."
            )
        points = values.reshape(-1, 2)

        def draw(height: int, width: int, points: NDArray[np.float64] = points) -> Any:
            return polygons([(points * [width, height]).ravel().tolist()], rule)(height, width)

        found.append(Area(names[index], draw))
    return found


def voc_folders(root: Path) -> tuple[Path, Path] | None:
    """Folders of images and of class masks."""
    for top in (root, *sorted(p for p in root.glob("*") if p.is_dir()), *sorted(root.glob("*/*"))):
        if (top / "SegmentationClass").is_dir() and (top / "JPEGImages").is_dir():
            return top / "JPEGImages", top / "SegmentationClass"
    return None


def read_voc(root: Path, config: AnnotationsConfig) -> Annotated:
    """Palette masks, 255 ignored; names from class_names.txt, labels.txt or labelmap.txt (with colours), else VOC's."""
    folders = voc_folders(root)
    if folders is None:
        raise DataError(
            f"'{root}' holds no JPEGImages beside SegmentationClass, as Pascal VOC has them."
        )
    images, masks = folders
    top, splits = images.parent, dict[str, str]()
    for path in sorted((top / "ImageSets" / "Segmentation").glob("*.txt")):
        if path.stem in ("train", "val", "test"):
            splits |= dict.fromkeys(read_list(path), path.stem)
    names, colors = _voc_names(top)
    finder, items = Finder(images, config.relocate), []
    for file in walk(masks, MASK_SUFFIXES):
        stem = file.rpartition(".")[0]
        image = next(
            (images / f"{stem}{s}" for s in IMAGE_SUFFIXES if (images / f"{stem}{s}").is_file()),
            None,
        )
        image = image or finder.find(f"{stem}.jpg", f"the image of '{masks / file}'")
        reader = _Colored(masks / file, colors) if colors else _Indexed(masks / file, len(names))
        items.append(Labelled(stem, image, splits.get(stem), mask=reader))
    rows: list[dict[str, Any]] = [
        {"name": n} | ({"color": list(colors[n])} if n in colors else {}) for n in names
    ]
    return Annotated(rows, items)


class _Indexed:
    """Class ids of an index or palette mask."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.number = path, number

    def __call__(self) -> NDArray[np.uint8]:
        ids = read_mask(self.path)
        off = (ids >= self.number) & (ids != IGNORE_INDEX)
        if off.any():
            raise DataError(
                f"mask '{self.path}' holds label {int(ids[off][0])} ({int(off.sum()):,} px), but 0..{self.number - 1} "
                "are named. Add the class to class_names.txt."
            )
        return ids


class _Colored:
    """Class ids of a mask whose colours stand in a table; colours that do not are ignored."""

    def __init__(self, path: Path, colors: dict[str, tuple[int, ...]]) -> None:
        self.path, self.colors = path, colors

    def __call__(self) -> NDArray[np.uint8]:
        pixels = read_colors(self.path)
        ids = np.full(pixels.shape[:2], IGNORE_INDEX, np.uint8)
        for index, color in enumerate(self.colors.values()):
            ids[(pixels == color).all(2)] = index
        return ids


def _voc_names(top: Path) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    table = top / "labelmap.txt"
    if table.is_file():
        rows = [line.split(":") for line in read_list(table)]
        colors = {r[0]: tuple(int(v) for v in r[1].split(",")) for r in rows if len(r) > 1 and r[1]}
        return list(colors), colors
    for path in (top / "class_names.txt", top / "labels.txt", top.parent / "labels.txt"):
        if path.is_file():
            return [n for n in read_list(path) if n != "__ignore__"], {}
    return _VOC, {}


def instance_folders(root: Path) -> list[tuple[Path, Path]]:
    """(image, folder of its objects' masks) below root, in either of the two layouts in use."""
    found = []
    for masks in sorted(p for p in [*root.glob("*/masks"), *root.glob("*/*/masks")] if p.is_dir()):
        images = [
            p
            for p in sorted((masks.parent / "images").glob("*"))
            if p.suffix.lower() in IMAGE_SUFFIXES
        ]
        if len(images) == 1:
            found.append((images[0], masks))
    if found or not (root / "images").is_dir():
        return found
    for file in walk(root / "images", IMAGE_SUFFIXES):
        folder = root / "masks" / file.rpartition(".")[0]
        if folder.is_dir():
            found.append((root / "images" / file, folder))
    return found


def read_instances(root: Path, config: AnnotationsConfig) -> Annotated:
    """All objects of an image become one class, `object`."""
    items = []
    for image, folder in instance_folders(root):
        files = [folder / f for f in walk(folder, MASK_SUFFIXES)]
        own = [
            Area("object", from_file(f, lambda data, name: read_colors(data, name))) for f in files
        ]
        inside = str(image.parent.relative_to(root))
        items.append(Labelled(image.stem, image, split_in(inside), own))
    return Annotated(class_rows(["object"], [], config), items)


def manifest_file(root: Path) -> Path | None:
    """The table: root itself, or the only CSV or JSONL in it that names images and masks."""
    files = (
        [root]
        if root.is_file()
        else [root / f for f in walk(root, (".csv", ".jsonl")) if "/" not in f]
    )
    for path in files:
        if path.suffix.lower() in (".csv", ".jsonl") and {"image", "mask"} <= set(
            _manifest_rows(path, 1)[0] or {}
        ):
            return path
    return None


def _manifest_rows(path: Path, limit: int | None = None) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                rows = [
                    dict(row)
                    for row, _ in zip(csv.DictReader(file), range(limit or 10**9), strict=False)
                ]
            else:
                rows = [
                    json.loads(line)
                    for line, _ in zip(file, range(limit or 10**9), strict=False)
                    if line.strip()
                ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"'{path}' cannot be read as a table: {' '.join(str(error).split())[:200]}"
        ) from None
    return [r if isinstance(r, dict) else {} for r in rows] or [{}]


def read_manifest(root: Path, config: AnnotationsConfig, read: Any) -> Annotated:
    """Pairs by row; a `group` keeps its images in one split.

    Args:
        read: (bytes, name) -> class ids, as the dataset's masks are stored.
    """
    path = manifest_file(root)
    if path is None:
        raise DataError(
            f"'{root}' holds no CSV or JSONL with columns image and mask (and, if you like, split and group)."
        )
    top, items = path.parent, []
    finders = Finder(top, config.relocate), Finder(top, config.relocate, MASK_SUFFIXES)
    for number, row in enumerate(_manifest_rows(path), 1):
        where = f"'{path}' row {number}"
        missing = [k for k in ("image", "mask") if not row.get(k)]
        if missing:
            raise DataError(
                f"{where} lacks {', '.join(missing)}; found: {', '.join(row) or 'nothing'}."
            )
        image, mask = (
            f.find(str(row[k]), f"{where}, {k},")
            for f, k in zip(finders, ("image", "mask"), strict=True)
        )
        split, group = (str(row[k]) if row.get(k) else None for k in ("split", "group"))
        name = name_of(image, top)
        items.append(Labelled(name, image, split, mask=_Stored(mask, read), group=group))
    return Annotated([], items)


class _Stored:
    """Class ids of a mask file, as the dataset stores them."""

    def __init__(self, path: Path, read: Any) -> None:
        self.path, self.read = path, read

    def __call__(self) -> NDArray[np.uint8]:
        return np.asarray(self.read(self.path.read_bytes(), str(self.path)), np.uint8)
