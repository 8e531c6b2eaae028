"""The canonical layout: annotations of any format, written once as folders of images and masks.

A folder of this layout holds `images/SPLIT/NAME` (the images' own bytes), `masks/SPLIT/NAME.png`
(8-bit index masks, 255 ignored), `finer/SPLIT/NAME.png` where finer labels exist, and
`classes.yaml`.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import IGNORE_INDEX, ClassTable
from segtune.config.dataset_schema import CLASSES_FILE, DatasetConfig, SplitsConfig
from segtune.data.formats import read
from segtune.data.formats.areas import (
    Annotations,
    ClassRow,
    LabelledImage,
    annotation_options,
    draw_areas,
    paint,
)
from segtune.data.formats.overlaps import Counts, hidden_pixels, no_pixels, overlap_note
from segtune.data.formats.shapes import oriented
from segtune.data.reading.images import read_mask, stored_size
from segtune.data.source.archives import is_archive, unpack
from segtune.data.source.download import build_folder
from segtune.data.source.files import cache_dir, walk
from segtune.data.source.pairs import normal_name
from segtune.data.source.splits import divide
from segtune.errors import DataError
from segtune.runtime.cache_store import CacheStore
from segtune.runtime.log import Log
from segtune.runtime.processors import available_processors
from segtune.runtime.progress import ProgressReporter

_VERSION = 2  # raise it whenever the same annotations give other masks
_KINDS = ("images", "masks", "finer")
_UNDIVIDED = ".all"  # folder of images without a split, until they are divided
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
    for note in annotations.notes:
        say(note)
    counts = write_canonical(annotations, folder, config, say, link and root == source)
    shutil.rmtree(unpacked, ignore_errors=True)
    return counts


def write_canonical(
    annotations: Annotations, folder: Path, config: DatasetConfig, say: Log, link: bool = False
) -> Counter[str]:
    """Write images, masks and `classes.yaml`; return the number of images by split.

    Images without a split are divided as `dataset.splits` says; without it, a fifth becomes val.
    """
    if not annotations.images:
        raise DataError("the annotations name no image.")
    images = _with_unique_names(annotations.images)
    classes = annotations.classes
    keys = ("name", "color", "finer")
    rows = [{k: row[k] for k in keys if k in row} for row in classes]
    table = ClassTable.parse(rows, config.ignore)
    writer = _ImageWriter(folder, _as_annotated(classes), config, link)
    presence = np.zeros((len(images), len(table)), bool)
    hidden = no_pixels(len(table))
    looked_at = set(range(0, len(images), 1 + len(images) // _OVERLAP_SAMPLE))
    with ProgressReporter(say) as progress, ThreadPoolExecutor(available_processors()) as pool:
        jobs = [(image, index in looked_at) for index, image in enumerate(images)]
        for index, (shown, pixels) in enumerate(pool.map(lambda job: writer.write(*job), jobs)):
            presence[index] = shown
            hidden += pixels
            if (index + 1) % _REPORT_EVERY == 0:
                progress("images converted", index + 1, len(images))
    for note in overlap_note(hidden, classes, annotation_options(config).order):
        say(note)
    if classes[0].get("added") and not presence[:, 0].any():
        # every pixel has a class of the annotations: no background is needed
        table = ClassTable.parse(table.to_json()[1:], config.ignore)
        presence = presence[:, 1:]
        _lower_ids(folder / "masks")
    counts = _divide_into_splits(images, presence, folder, config, say)
    facts: dict[str, Any] = {"classes": table.to_json()}
    if writer.has_finer:
        facts["finer"] = "finer/{split}"
    if any(image.group for image in images):
        facts["groups"] = "^[^/]+"
    head = "# Class table of an imported dataset: dataset=folder dataset.root=THIS_FOLDER\n"
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    (folder / CLASSES_FILE).write_text(head + text, encoding="utf-8")
    return counts


def _as_annotated(classes: Sequence[ClassRow]) -> list[ClassRow]:
    """Class rows with the names that the annotations use."""
    return [{**row, "name": row.get("annotated_as", row["name"])} for row in classes]


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
    folder = str(image.group).replace("/", "_")
    return replace(image, name=f"{folder}/{image.name.rpartition('/')[2]}")


@dataclass(frozen=True)
class _ImageWriter:
    """Writes images with their masks into the canonical layout."""

    folder: Path
    classes: Sequence[ClassRow]
    config: DatasetConfig
    link: bool

    @property
    def has_finer(self) -> bool:
        return any(row.get("finer") for row in self.classes)

    def write(self, image: LabelledImage, with_overlaps: bool) -> tuple[NDArray[np.bool_], Counts]:
        """Write one image; return which classes it shows, (C,), and how many pixels are hidden.

        Args:
            with_overlaps: count hidden pixels, which takes time.
        """
        data = image.data() if image.data is not None else None
        mask, finer, hidden = self._masks(image, data, with_overlaps)
        split = image.split or _UNDIVIDED
        suffix = image.image.suffix.lower()
        target = self.folder / "images" / split / f"{image.name}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(data)
        else:
            self._place(image.image, target)
        _save(self.folder / "masks" / split / f"{image.name}.png", mask)
        if finer is not None and self.has_finer:
            _save(self.folder / "finer" / split / f"{image.name}.png", finer)
        return np.bincount(mask.ravel(), minlength=256)[: len(self.classes)] > 0, hidden

    def _masks(
        self, image: LabelledImage, data: bytes | None, with_overlaps: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, Counts]:
        """Class ids and finer ids of the image as it is shown, upright; and hidden pixels."""
        hidden = no_pixels(len(self.classes))
        height, width, orientation = stored_size(
            image.image if data is None else data, str(image.image)
        )
        stored = (height, width)
        upright = stored[::-1] if orientation >= 5 else stored
        if image.mask is not None:
            mask, finer = image.mask(), None
        else:
            size = image.size or upright
            if size not in (upright, stored):
                raise DataError(
                    f"'{image.image}' is {upright[1]} x {upright[0]} pixels, but its annotations "
                    f"are for {size[1]} x {size[0]}. Export the annotations of this very image."
                )
            options = annotation_options(self.config)
            drawn = draw_areas(image.areas, size)
            mask, finer = paint(drawn, size, self.classes, options)
            if with_overlaps:
                hidden = hidden_pixels(drawn, mask, self.classes, options)
            if size != upright:  # drawn on the stored pixels, which EXIF turns
                mask, finer = oriented(mask, orientation), oriented(finer, orientation)
        if mask.shape != upright:
            raise DataError(
                f"the mask of '{image.image}' is {mask.shape[1]} x {mask.shape[0]}, the image "
                f"{upright[1]} x {upright[0]} pixels; both must have one size."
            )
        return mask, finer, hidden

    def _place(self, source: Path, target: Path) -> None:
        """Link the file, or copy it where links are not wanted or not possible."""
        if self.link:
            try:
                os.symlink(source.absolute(), target)
                return
            except OSError:
                pass  # a file system without links
        shutil.copyfile(source, target)


def _save(path: Path, mask: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def _lower_ids(folder: Path) -> None:
    """Lower every class id by one."""
    for path in folder.rglob("*.png"):
        mask = read_mask(path)
        _save(path, np.where(mask == IGNORE_INDEX, mask, mask - 1).astype(np.uint8))


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
        shutil.rmtree(folder / kind / _UNDIVIDED, ignore_errors=True)
    return counts


def _move_into_split(folder: Path, image: LabelledImage, split: str) -> None:
    for kind in _KINDS:
        suffix = image.image.suffix.lower() if kind == "images" else ".png"
        path = folder / kind / _UNDIVIDED / f"{image.name}{suffix}"
        if path.exists() or path.is_symlink():
            target = folder / kind / split / f"{image.name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
