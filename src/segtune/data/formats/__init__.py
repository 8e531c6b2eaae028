"""Annotation formats: one file for each labelling tool, and the look-up of all of them.

Each file has two functions: `find_files` finds its annotations below a folder, and `read` returns
the images with their labels. `segtune.data.formats.canonical` writes what `read` returns as folders
of images and masks.

To add a format, write such a file and add a line to `segtune.plugins.own`.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segtune.classes import CLASS_LIMIT, MAX_CLASSES
from segtune.config.dataset_schema import DatasetConfig
from segtune.data.formats.areas import (
    Annotations,
    ClassRow,
    LabelledImage,
    annotation_options,
    areas_of,
)
from segtune.data.formats.configured import configured_classes, reordered
from segtune.data.formats.declaration import Declaration, declared
from segtune.data.formats.faults import LeftOut, refuse_bad_shapes
from segtune.data.formats.finding import in_mask_folder, json_files
from segtune.data.formats.merging import merged
from segtune.data.formats.split_lists import split_by_lists
from segtune.data.formats.split_names import settled
from segtune.data.formats.unused_keys import refuse_unused_options
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import json_parsed_once, read_json, walk
from segtune.errors import ConfigError, DataError, nearest
from segtune.plugins.registry import parts


@dataclass(frozen=True)
class AnnotationFormat:
    """How the annotations of one tool are found and read.

    Attributes:
        find_files: folder -> its annotation files; empty or None if there are none.
        read: (folder, config) -> images and labels; called where `find_files` found some.
        declared: what the reader looks for, and which keys it uses.
    """

    find_files: Callable[[Path], object]
    read: Callable[[Path, DatasetConfig], Annotations]
    declared: Declaration


def formats() -> dict[str, AnnotationFormat]:
    """Return name -> format, in the order of detection; those of plugins come last."""
    readers = {name: part.load() for name, part in parts("reader").items()}
    return {
        name: AnnotationFormat(reader.find_files, reader.read, declared(reader))
        for name, reader in readers.items()
    }


_MASKS = (
    "masks of images were not read, but the annotations (format=folder reads images with masks)"
)
_OTHER_TOOLS = (
    "formats besides {} are here and were not read. format=NAME reads one of them instead; to have "
    "all, export each as COCO into one folder, whose files are joined"
)


def declarations() -> dict[str, Declaration]:
    """Name of a format -> what its reader declares."""
    return {name: fmt.declared for name, fmt in formats().items()}


def detect(root: Path) -> str | None:
    """The format of the annotations below a folder; None if there are none of these formats."""
    with json_parsed_once():
        found = (name for name, fmt in formats().items() if fmt.find_files(root))
        return next(found, None)


def read(root: Path, config: DatasetConfig) -> Annotations:
    """Read the images and labels below a folder, as `dataset.annotations.format` says.

    Raises:
        ConfigError: the format is unknown.
        DataError: there are no annotations, they cannot be read, or they name images that do not
            exist.
    """
    left_out = LeftOut()
    with json_parsed_once():
        annotations, name = _read(root, config)
        has_mask_files = formats()[name].declared.has_mask_files
        if not has_mask_files:
            _note_unread(root, name, left_out)
    refuse_bad_shapes(annotations.bad_shapes, annotations.num_shapes, config.tolerance)
    if not annotations.images:
        raise DataError(
            f"'{root}': its annotations of the format {name} label no image. "
            + "; ".join(annotations.notes)
        )
    _refuse_too_many(annotations, root)
    _note_alike(annotations.classes, left_out)
    images, list_notes = split_by_lists(annotations.images, root)
    images = merged(settled(images, left_out), left_out)
    _note_empty(images, root, left_out)
    if not has_mask_files:
        _note_unnamed(images, root, left_out)
    classes, old_ids = configured_classes(annotations.classes, config)
    return replace(
        annotations,
        classes=classes,
        images=reordered(images, old_ids),
        notes=[*annotations.notes, *list_notes, *left_out.notes()],
    )


def _refuse_too_many(annotations: Annotations, root: Path) -> None:
    """Raise DataError where there are more classes than segtune supports."""
    total = len(annotations.classes)
    if total > MAX_CLASSES:
        used = len({area.concept for area in areas_of(annotations.images)})
        shown = f", of which {used} have an area" if used else ""
        raise DataError(
            f"the annotations of '{root}' name {total} classes{shown}; {CLASS_LIMIT}. Merge "
            "classes in the annotations, or remove those that do not matter."
        )


def _read(root: Path, config: DatasetConfig) -> tuple[Annotations, str]:
    """What the reader of the format returns, and the format's name."""
    known = formats()
    name: str | None = annotation_options(config).format
    with json_parsed_once():
        if name == "auto":
            name = detect(root)
        if name is None:
            raise DataError(
                f"'{root}' holds no annotations of a known format: "
                f"{', '.join(known)}. Name the format: format=NAME"
            )
        if name not in known:
            raise ConfigError(f"annotations.format={name}: {nearest(name, known)}")
        if not known[name].find_files(root):
            raise DataError(f"'{root}' holds no annotations of the format {name}.")
        refuse_unused_options(config, name, declarations())
        annotations = known[name].read(root, config)
        _refuse_unknown_finer(annotations, config)
        return annotations, name


def _refuse_unknown_finer(annotations: Annotations, config: DatasetConfig) -> None:
    """Raise ConfigError where no area has the attribute that `annotations.finer` names."""
    finer = annotation_options(config).finer
    if finer != "auto" and all(area.finer is None for area in areas_of(annotations.images)):
        raise ConfigError(
            f"annotations.finer={finer}: no area has an attribute of this name with a text. Leave "
            "it out, or name the attribute that holds the finer label."
        )


def _note_alike(classes: Sequence[ClassRow], left_out: LeftOut) -> None:
    """Note the names of classes that differ by upper case, spaces or separators alone."""
    alike: dict[str, list[str]] = {}
    for row in classes:
        name = str(row["name"])
        alike.setdefault(re.sub(r"[\W_]+", "", name.casefold()) or name, []).append(name)
    for names in alike.values():
        if len(names) > 1:
            left_out.add(
                "groups of class names differ by case or spaces alone, and stay separate classes",
                " and ".join(f"'{name}'" for name in names),
            )


def _note_unnamed(images: Sequence[LabelledImage], root: Path, left_out: LeftOut) -> None:
    """Note the image files that no annotation names."""
    named = {os.path.normpath(image.image) for image in images}
    files = list(walk(root, IMAGE_SUFFIXES))
    stems = {Path(file).stem for file in files if not in_mask_folder(file)}
    for file in files:
        if os.path.normpath(root / file) in named:
            continue
        if in_mask_folder(file) and Path(file).stem in stems:
            left_out.add(_MASKS, f"'{file}'")
        else:
            left_out.add("image files have no annotation and were left out", f"'{file}'")


def _note_unread(root: Path, name: str, left_out: LeftOut) -> None:
    """Note JSON files that are damaged, and annotations of other tools' formats."""
    for path in json_files(root, lambda content: content is None):
        try:
            read_json(path)
        except DataError as error:
            fault = str(error).removeprefix(f"'{path}' ")
            place = path.relative_to(root).as_posix()
            left_out.add("JSON files were passed over", f"'{place}' {fault}")
    for other, fmt in formats().items():
        if other != name and fmt.declared.is_export and fmt.find_files(root):
            left_out.add(_OTHER_TOOLS.format(name), other)


def _note_empty(images: Sequence[LabelledImage], root: Path, left_out: LeftOut) -> None:
    """Note the images without any area.

    Raises:
        DataError: no image has one.
    """
    empty = [image for image in images if image.mask is None and not image.areas]
    if empty and len(empty) == len(images):
        raise DataError(
            f"'{root}': none of its {len(images)} annotated images has a labelled area. Check that "
            "the labels were exported with the images, as polygons or masks."
        )
    for image in empty:
        left_out.add("images have no area: all their pixels are unlabelled", f"'{image.name}'")
