"""The canonical layout: annotations of any format, written once as folders of images and masks.

A folder of this layout holds `images/SPLIT/NAME` (the images' own bytes), `masks/SPLIT/NAME.png`
(8-bit index masks, 255 ignored), `finer/SPLIT/NAME.png` where finer labels exist, and
`classes.yaml`.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.dataset_schema import CLASSES_FILE, NOTES_FILE, DatasetConfig, SplitsConfig
from segtune.data.formats import read
from segtune.data.formats.areas import (
    Annotations,
    ClassRow,
    LabelledImage,
    annotation_options,
)
from segtune.data.formats.faults import bad_shapes_note, refuse_bad_shapes, specks_note
from segtune.data.formats.image_writer import UNDIVIDED, ImageWriter, save_mask
from segtune.data.formats.overlaps import contradiction_note, no_pixels, overlap_note
from segtune.data.formats.stored_masks import interpolation_note
from segtune.data.reading.borders import Borders
from segtune.data.reading.images import read_mask
from segtune.data.reading.masks import thin_ids
from segtune.data.source.archives import is_archive, unpack
from segtune.data.source.download import build_folder
from segtune.data.source.files import cache_dir, walk
from segtune.data.source.names import normal_name
from segtune.data.source.splits import divide
from segtune.errors import DataError
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log
from segtune.runtime.processors import available_processors
from segtune.runtime.progress import ProgressReporter

_VERSION = 5  # raise it whenever the same annotations give other masks
_KINDS = ("images", "masks", "finer")
_REPORT_EVERY = 20  # images
_OVERLAP_SAMPLE = 500  # images whose hidden pixels are counted


def converted(config: DatasetConfig, root: Path, say: Log) -> Path:
    """Write the canonical layout of annotations into the cache folder, once; return its folder."""
    settings = config.model_copy(update={"root": str(root)}).model_dump(
        mode="json", exclude={"fixes", "licence", "table"}
    )
    facts = [_VERSION, str(root), _tree_state(root), settings]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        say(f"converting '{root}' once, into {folder.with_suffix('')}")
        _convert_into(folder, config, root, say, link=True)

    imported = CacheStore(cache_dir() / "imported")
    return imported.open(f"{config.name}-{key}", build, read=lambda folder: folder)


def _tree_state(root: Path) -> str:
    """A hash that changes with the name, size or time of change of any file."""
    state = hashlib.sha256()
    files = [root] if root.is_file() else [root / file for file in walk(root)]
    for path in files:
        facts = path.stat()
        state.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return state.hexdigest()


def convert(
    config: DatasetConfig, source: Path, output: Path, say: Log, link: bool = False
) -> Counter[str]:
    """Read annotations and write the canonical layout; return the number of images by split.

    Args:
        source: folder, manifest or archive, which is unpacked beside the output for a time.
        link: links images instead of copying them, where the file system can.

    Raises:
        DataError: the annotations cannot be read; then no output is left behind.
    """
    counts: Counter[str] = Counter()

    def build(folder: Path) -> None:
        counts.update(_convert_into(folder, config, source, say, link))

    build_folder(output, build)
    return counts


def _convert_into(
    folder: Path, config: DatasetConfig, source: Path, say: Log, link: bool
) -> Counter[str]:
    root, unpacked = source, folder / ".unpacked"
    if is_archive(source):
        root = unpacked
        unpack(source, unpacked)
    annotations = read(root, config)
    counts = write_canonical(annotations, folder, config, say, link and root == source)
    shutil.rmtree(unpacked, ignore_errors=True)
    return counts


def write_canonical(
    annotations: Annotations, folder: Path, config: DatasetConfig, say: Log, link: bool = False
) -> Counter[str]:
    """Write images, masks and `classes.yaml`; return the number of images by split.

    Images without a split are divided as `dataset.splits` says; without it, a fifth becomes val.
    Notes, such as on shapes that are left out, go to `say` and into `NOTES_FILE`.

    Raises:
        DataError: there is no image, or more shapes are bad than `dataset.tolerance` allows.
    """
    if not annotations.images:
        raise DataError("the annotations name no image.")
    images = _with_unique_names(annotations.images)
    classes = annotations.classes
    table = ClassTable.parse([_declared(row) for row in classes], config.ignore)
    thin_ids(config, table)
    writer = ImageWriter(folder, _as_annotated(classes), config, link)
    presence, notes = _write_images(writer, images, annotations, say)
    for note in notes:
        say(note)
    if notes:
        text = "\n".join(" ".join(note.split()) for note in notes)
        (folder / NOTES_FILE).write_text(f"{text}\n", encoding="utf-8")
    if classes[0].get("added") and not presence[:, 0].any():
        # every pixel has a class of the annotations: no background is needed
        ignored = [i if i == IGNORE_INDEX else i - 1 for i in config.ignore if i > 0]
        table = ClassTable.parse(table.to_json()[1:], ignored)
        presence = presence[:, 1:]
        _lower_ids(folder / "masks")
    counts = _divide_into_splits(images, presence, folder, config, say)
    for note in _missing_splits(counts):
        say(note)
    facts: dict[str, Any] = {"classes": table.to_json()}
    if table.ignore != (IGNORE_INDEX,):
        facts["ignore"] = list(table.ignore)
    if writer.has_finer:
        facts["finer"] = "finer/{split}"
    if config.thin_classes:
        facts["thin_classes"] = list(config.thin_classes)
    if any(image.group for image in images):
        facts["groups"] = "^[^/]+"
    head = "# Class table of an imported dataset: dataset=folder dataset.root=THIS_FOLDER\n"
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    (folder / CLASSES_FILE).write_text(head + text, encoding="utf-8")
    return counts


def _write_images(
    writer: ImageWriter, images: Sequence[LabelledImage], annotations: Annotations, say: Log
) -> tuple[NDArray[np.bool_], list[str]]:
    """Write all images; return which classes each shows, (N, C), and the notes for the user."""
    total, tolerance = annotations.num_shapes, writer.config.tolerance
    presence = np.zeros((len(images), len(writer.classes)), bool)
    hidden = no_pixels(len(writer.classes))
    bad_shapes, specks = list(annotations.bad_shapes), list[str]()
    num_of_one_class, borders = 0, Borders()
    looked_at = set(range(0, len(images), 1 + len(images) // _OVERLAP_SAMPLE))
    jobs = [(image, index in looked_at) for index, image in enumerate(images)]
    with ProgressReporter(say) as progress, ThreadPoolExecutor(available_processors()) as pool:
        for index, image in enumerate(pool.map(lambda job: writer.write(*job), jobs)):
            presence[index] = image.shown
            hidden += image.hidden
            bad_shapes += image.bad_shapes
            specks += image.specks
            num_of_one_class += image.is_one_class
            borders.add(image.borders or Borders())
            refuse_bad_shapes(bad_shapes, total, tolerance)
            if (index + 1) % _REPORT_EVERY == 0:
                progress("images converted", index + 1, len(images))
    if num_of_one_class and not presence[:, 1:].any():
        raise DataError(
            f"the masks hold 0 and 255 alone: all would be '{writer.classes[0]['name']}' or "
            "ignored. If 255 is the object: dataset.mask_format=binary with two classes, "
            "'dataset.classes=[background,NAME]'."
        )
    order = annotation_options(writer.config).order
    notes = [*annotations.notes, *bad_shapes_note(bad_shapes, total, tolerance)]
    notes += specks_note(specks, total)
    table = ClassTable.parse([_declared(row) for row in annotations.classes], writer.config.ignore)
    notes += interpolation_note(borders, table, writer.config.thin_classes)
    if annotations.one_class_each:
        return presence, [*notes, *contradiction_note(hidden, annotations.classes, order)]
    return presence, [*notes, *overlap_note(hidden, annotations.classes, order)]


def _as_annotated(classes: Sequence[ClassRow]) -> list[ClassRow]:
    """Class rows with the names that the annotations use."""
    return [{**row, "name": row.get("annotated_as", row["name"])} for row in classes]


def _declared(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a class's row that `classes.yaml` declares."""
    return {key: row[key] for key in ("name", "color", "finer") if key in row}


def _with_unique_names(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Images whose names are unique within a split; those of a group get a folder of its name.

    An image without a split may come into any: its name differs from all others. So do names that
    clash on file systems without upper case.
    """
    named = [image if not image.group else _in_group_folder(image) for image in images]
    is_undivided = any(image.split is None for image in named)
    totals = Counter(_clash_key(image, is_undivided) for image in named)
    taken = set(totals)
    numbers: Counter[tuple[str | None, str]] = Counter()
    unique = []
    for image in named:
        key = _clash_key(image, is_undivided)
        if totals[key] > 1:
            numbered = image
            while True:
                numbers[key] += 1
                numbered = replace(image, name=f"{image.name}_{numbers[key]}")
                if _clash_key(numbered, is_undivided) not in taken:
                    break
            image = numbered
            taken.add(_clash_key(image, is_undivided))
        unique.append(image)
    return unique


def _clash_key(image: LabelledImage, is_undivided: bool) -> tuple[str | None, str]:
    return (None if is_undivided else image.split), normal_name(image.name)


def _in_group_folder(image: LabelledImage) -> LabelledImage:
    folder = re.sub(r'[/\\:*?"<>|]', "_", str(image.group))
    folder = folder if folder.strip(".") else "_"
    return replace(image, name=f"{folder}/{image.name.rpartition('/')[2]}")


def _lower_ids(folder: Path) -> None:
    """Lower every class id by one."""
    for path in folder.rglob("*.png"):
        mask = read_mask(path)
        save_mask(path, np.where(mask == IGNORE_INDEX, mask, mask - 1).astype(np.uint8))


def _divide_into_splits(
    images: Sequence[LabelledImage],
    presence: NDArray[np.bool_],
    folder: Path,
    config: DatasetConfig,
    say: Log,
) -> Counter[str]:
    """Move the images without a split into one; return the number of images by split."""
    counts = Counter(image.split for image in images if image.split)
    rows = [index for index, image in enumerate(images) if not image.split]
    undivided = [images[index] for index in rows]
    if not undivided:
        return counts
    names = [image.name for image in undivided]
    groups = [image.group or image.name for image in undivided]
    splits = {"train": names}  # one image, or one group, cannot be divided
    if len(set(groups)) > 1:
        options = config.splits or SplitsConfig(val=0.2, stratify=True)
        splits = divide(names, groups, options, presence[rows])
    if not config.splits:
        made = ", ".join(f"{len(members)} became {split}" for split, members in splits.items())
        say(
            f"{len(undivided)} of {len(images)} images are in no split that annotations or folders "
            f"name, e.g. '{names[0]}': {made} (dataset.splits.val, .test, .seed)"
        )
    split_of: dict[str, str] = {}
    for split, members in splits.items():
        split_of |= dict.fromkeys(members, split)
        counts[split] += len(members)
    for image in undivided:
        _move_into_split(folder, image, split_of[image.name])
    for kind in _KINDS:
        shutil.rmtree(folder / kind / UNDIVIDED, ignore_errors=True)
    return counts


def _missing_splits(counts: Mapping[str, int]) -> list[str]:
    """The note that no image is in train or in val; empty where both have some."""
    missing = [split for split in ("train", "val") if not counts.get(split)]
    if not missing:
        return []
    there = ", ".join(f"{count} {split}" for split, count in sorted(counts.items()))
    return [
        f"no image is in {' or '.join(missing)}, which training needs; there are {there}. Name the "
        "splits train, val and test, or divide all images anew: train with dataset.splits.val=0.2"
    ]


def _move_into_split(folder: Path, image: LabelledImage, split: str) -> None:
    for kind in _KINDS:
        suffix = image.image.suffix.lower() if kind == "images" else ".png"
        path = folder / kind / UNDIVIDED / f"{image.name}{suffix}"
        if path.exists() or path.is_symlink():
            target = folder / kind / split / f"{image.name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
