"""Annotation formats: each reader finds images and their labels; one writer brings them into the canonical layout.

The canonical layout is `images/SPLIT/NAME` (the images' own bytes), `masks/SPLIT/NAME.png` (8-bit index masks, 255
ignored), `finer/SPLIT/NAME.png` where finer labels exist, and `classes.yaml`.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.dataset_schema import AnnotationsConfig, DatasetConfig, SplitsConfig
from segtune.data.formats import coco, folders, tools
from segtune.data.formats.areas import Annotated, Labelled, paint, turned
from segtune.data.reading.images import read_mask, stored_size
from segtune.data.reading.masks import MaskReader
from segtune.data.source.archives import is_archive, unpack
from segtune.data.source.download import build_folder
from segtune.data.source.files import cache_dir
from segtune.data.source.splits import divide
from segtune.errors import ConfigError, DataError, nearest
from segtune.runtime.log import Log
from segtune.runtime.progress import ProgressReporter

_VERSION = 1  # raise it whenever the same annotations give other masks

# the order is that of detection: the more particular first
FORMATS: dict[str, Callable[[Path], Any]] = {
    "coco_panoptic": lambda root: coco.coco_files(root, panoptic=True),
    "coco": coco.coco_files,
    "label_studio": tools.label_studio_files,
    "labelme": tools.labelme_files,
    "cvat": tools.cvat_files,
    "voc": folders.voc_folders,
    "yolo": folders.yolo_table,
    "instances": folders.instance_folders,
    "manifest": folders.manifest_file,
}
"""Format -> what finds its files below a folder; nothing found is falsy."""


def detect(root: Path) -> str | None:
    """The format of the annotations below a folder; None where none of ours is found."""
    return next((name for name, find in FORMATS.items() if find(root)), None)


def read(root: Path, config: DatasetConfig) -> Annotated:
    """Images and labels below a folder.

    Raises:
        ConfigError: an unknown format.
        DataError: annotations that cannot be read, or speak of images that are not there.
    """
    wanted = config.annotations or AnnotationsConfig()
    name = detect(root) if wanted.format == "auto" else wanted.format
    if name is None:
        raise DataError(
            f"'{root}' holds no annotations that are known: {', '.join(FORMATS)}. Log which: format=NAME"
        )
    if name not in FORMATS:
        raise ConfigError(f"annotations.format={name}: {nearest(name, FORMATS)}")
    if not FORMATS[name](root):
        raise DataError(f"'{root}' holds no annotations of the format {name}.")
    if name == "manifest":
        classes = _table_beside(root, config)
        found = folders.read_manifest(root, wanted, MaskReader(config, classes).read)
        return replace(found, classes=classes.to_json())
    readers: dict[str, Callable[[Path, AnnotationsConfig], Annotated]] = {
        "coco_panoptic": coco.read_panoptic, "coco": coco.read_coco, "label_studio": tools.read_label_studio,
        "labelme": tools.read_labelme, "cvat": tools.read_cvat, "voc": folders.read_voc, "yolo": folders.read_yolo,
        "instances": folders.read_instances,
    }  # fmt: skip
    found = readers[name](root, wanted)
    return replace(found, classes=_chosen(found.classes, config))


def _table_beside(root: Path, config: DatasetConfig) -> ClassTable:
    path = (root if root.is_dir() else root.parent) / "classes.yaml"
    rows = config.classes
    if rows is None and path.is_file():
        rows = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("classes")
    if not rows:
        raise ConfigError(
            "a table of pairs names no classes: give them, 'dataset.classes=[road,car]'."
        )
    return ClassTable.parse(rows, config.ignore)


def _chosen(
    found: Sequence[Mapping[str, object]], config: DatasetConfig
) -> list[dict[str, object]]:
    """The format's classes, in the names, order, colours and finer labels that the config gives."""
    rows = [dict(r) for r in found]
    if config.classes is None:
        return rows
    given = ClassTable.parse(config.classes).to_json()
    names = [str(r["name"]) for r in rows]
    if sorted(names) == sorted(str(g["name"]) for g in given):
        own = {str(r["name"]): r for r in rows}
        return [{**own[str(g["name"])], **{k: v for k, v in g.items() if v}} for g in given]
    if names == ["background", "object"] and len(given) == 2:
        return [{**r, **g, "found": r["name"]} for r, g in zip(rows, given, strict=True)]
    raise DataError(
        f"dataset.classes names {', '.join(str(g['name']) for g in given)}, but the annotations name "
        f"{', '.join(names)}. Leave dataset.classes out, or give the same names in any order."
    )


def converted(config: DatasetConfig, root: Path, say: Log) -> Path:
    """The canonical layout of a folder or archive of annotations, made once, in the cache folder."""
    plain = config.model_copy(update={"root": str(root)}).model_dump(
        mode="json", exclude={"fixes", "licence", "table"}
    )
    facts = [_VERSION, str(root), _tree_state(root), plain]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    target = cache_dir() / "imported" / f"{config.name}-{key}"
    if not target.is_dir():
        say(f"converting '{root}' once, into {target}")
        convert(config, root, target, say, link=True)
    return target


def _tree_state(root: Path) -> str:
    """Changes with any file's name, size or time of change."""
    total = hashlib.sha256()
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    for path in files:
        facts = path.stat()
        total.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return total.hexdigest()


def convert(
    config: DatasetConfig, source: Path, output: Path, say: Log, link: bool = False
) -> Counter[str]:
    """Reads annotations and writes the canonical layout; returns the number of images by split.

    Args:
        source: folder, manifest or archive (which is unpacked beside the output, and removed).
        link: links images instead of copying them, where the file system can.

    Raises:
        DataError: what cannot be read; nothing is left behind then.
    """
    counts: Counter[str] = Counter()

    def build(folder: Path) -> None:
        root = source
        if is_archive(source):
            root = folder / ".unpacked"
            unpack(source, root)
        found = read(root, config)
        for note in found.notes:
            say(note)
        counts.update(write(found, folder, config, say, link and root == source))
        shutil.rmtree(folder / ".unpacked", ignore_errors=True)

    build_folder(output, build)
    return counts


def write(
    found: Annotated, folder: Path, config: DatasetConfig, say: Log, link: bool = False
) -> Counter[str]:
    """Writes what a reader found; images of no split are divided by `dataset.splits`, a fifth into val without."""
    if not found.items:
        raise DataError("the annotations name no image.")
    items = _named_once(found.items)
    table = ClassTable.parse(
        [{k: c[k] for k in ("name", "color", "finer") if k in c} for c in found.classes],
        config.ignore,
    )
    presence = np.zeros((len(items), len(table)), bool)
    painted = [{**c, "name": c.get("found", c["name"])} for c in found.classes]
    with ProgressReporter(say) as pace, ThreadPoolExecutor() as pool:
        for index, shown in enumerate(
            pool.map(lambda i: _write_one(i, folder, painted, config, link), items)
        ):
            presence[index] = shown
            if index % 20 == 19:
                pace("images converted", index + 1, len(items))
    if (
        found.classes[0].get("added") and not presence[:, 0].any()
    ):  # every pixel has a class of its own
        table, presence = ClassTable.parse(table.to_json()[1:], config.ignore), presence[:, 1:]
        for path in (folder / "masks").rglob("*.png"):
            mask = read_mask(path)
            _save(path, np.where(mask == IGNORE_INDEX, mask, mask - 1).astype(np.uint8))
    counts = _divide(items, presence, folder, config, say)
    facts: dict[str, Any] = {"classes": table.to_json()}
    if any(c.get("finer") for c in found.classes):
        facts["finer"] = "finer/{split}"
    if any(i.group for i in items):
        facts["groups"] = "^[^/]+"
    text = "# Class table of an imported dataset: dataset=folder dataset.root=THIS_FOLDER\n"
    (folder / "classes.yaml").write_text(
        text + yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), "utf-8"
    )
    return counts


def _named_once(items: Sequence[Labelled]) -> list[Labelled]:
    """Items whose names are theirs alone within a split; grouped ones lie in a folder of their group."""
    named = [
        replace(i, name=f"{i.group.replace('/', '_')}/{i.name.rpartition('/')[2]}")
        if i.group
        else i
        for i in items
    ]
    seen = Counter((i.split, i.name) for i in named)
    again: Counter[tuple[str | None, str]] = Counter()
    found = []
    for item in named:
        key = (item.split, item.name)
        if seen[key] > 1:
            again[key] += 1
            item = replace(item, name=f"{item.name}_{again[key]}")
        found.append(item)
    return found


def _write_one(
    item: Labelled,
    folder: Path,
    classes: Sequence[Mapping[str, object]],
    config: DatasetConfig,
    link: bool,
) -> NDArray[np.bool_]:
    """Writes one image with its masks; gives which classes it shows."""
    split = item.split or ".all"
    height, width, orientation = stored_size(
        item.data if item.data is not None else item.image, str(item.image)
    )
    stored = (height, width)
    shown = stored[::-1] if orientation >= 5 else stored
    finer = None
    if item.mask is not None:
        mask = item.mask()
    else:
        size = item.size or shown
        if size not in (shown, stored):
            raise DataError(
                f"'{item.image}' is {shown[1]} x {shown[0]} pixels, its annotations speak of {size[1]} x {size[0]}; "
                "both must agree. Export the annotations of this very image."
            )
        mask, finer = paint(item.areas, size, classes, config.annotations or AnnotationsConfig())
        if size != shown:  # drawn on the stored pixels, which EXIF turns
            mask, finer = turned(mask, orientation), turned(finer, orientation)
    if mask.shape != shown:
        raise DataError(
            f"the mask of '{item.image}' is {mask.shape[1]} x {mask.shape[0]}, the image {shown[1]} x {shown[0]} "
            "pixels; both must have one size."
        )
    target = folder / "images" / split / f"{item.name}{item.image.suffix.lower()}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if item.data is not None:
        target.write_bytes(item.data)
    else:
        _place(item.image, target, link)
    _save(folder / "masks" / split / f"{item.name}.png", mask)
    if finer is not None and any(c.get("finer") for c in classes):
        _save(folder / "finer" / split / f"{item.name}.png", finer)
    return np.bincount(mask.ravel(), minlength=256)[: len(classes)] > 0


def _place(source: Path, target: Path, link: bool) -> None:
    if link:
        try:
            os.symlink(source.absolute(), target)
            return
        except OSError:
            pass  # a file system without links
    shutil.copyfile(source, target)


def _save(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def _divide(
    items: Sequence[Labelled],
    presence: NDArray[np.bool_],
    folder: Path,
    config: DatasetConfig,
    say: Log,
) -> Counter[str]:
    """Moves images of no split into one."""
    counts = Counter(i.split for i in items if i.split)
    loose = [i for i in items if not i.split]
    if not loose:
        return counts
    wanted = config.splits or SplitsConfig(val=0.2, stratify=True)
    rows = [index for index, i in enumerate(items) if not i.split]
    groups = [i.group or i.name for i in loose]
    enough = len(set(groups)) > 1
    places = (
        divide([i.name for i in loose], groups, wanted, presence[rows])
        if enough
        else {"train": [loose[0].name]}
    )
    if not config.splits:
        say(
            "the annotations name no splits: a fifth of the images became val (dataset.splits.val, .test, .seed)"
        )
    where = {name: split for split, names in places.items() for name in names}
    for item in loose:
        for kind, end in (
            ("images", item.image.suffix.lower()),
            ("masks", ".png"),
            ("finer", ".png"),
        ):
            path = folder / kind / ".all" / f"{item.name}{end}"
            if path.exists() or path.is_symlink():
                target = folder / kind / where[item.name] / f"{item.name}{end}"
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        counts[where[item.name]] += 1
    for kind in ("images", "masks", "finer"):
        shutil.rmtree(folder / kind / ".all", ignore_errors=True)
    return counts
