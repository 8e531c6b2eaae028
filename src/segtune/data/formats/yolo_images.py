"""The images of a YOLO dataset, and their splits, as the table `data.yaml` names them."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from segtune.data.formats.finding import folder_split
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.source.files import walk
from segtune.data.source.lists import divide_by_lists, read_list
from segtune.data.source.names import in_any_form
from segtune.data.source.split_words import SPLIT_OF_WORD, NamedSplit
from segtune.data.source.splits import is_absolute
from segtune.data.source.text import read_text
from segtune.errors import DataError

_LABEL_LINE = re.compile(r"\d+(\.0)?(\s+-?\d*\.?\d+([eE][-+]?\d+)?){4,}\s*")
_LABELS_TRIED = 200  # text files of which one must hold a line of labels


@dataclass(frozen=True)
class YoloImages:
    """The images of a dataset.

    Attributes:
        top: folder that all of them are below.
        splits: image, relative to the top with `/` -> split; None for one that is to be divided.
        notes: for the user, on what the table says and what was read instead.
    """

    top: Path
    splits: Mapping[str, str | None]
    notes: Sequence[str]


def find_images(table: Path, content: Mapping[str, Any]) -> YoloImages:
    """Find the images that a table's train, val and test name: folders, or lists of images.

    Where the table names a place that is not here, the images beside it are read, with the splits
    that their folders name.

    Raises:
        DataError: a list that is named cannot be read.
    """
    top = _top(table, content)
    files = [file for file in walk(top, IMAGE_SUFFIXES) if "/labels/" not in f"/{file}"]
    lists: dict[str, tuple[Path, list[str]]] = {}  # word of the table -> place and its images
    missing = []
    for key in SPLIT_OF_WORD:
        for entry in _entries(content.get(key)):
            place = _place(entry, table, content)
            if place is None:
                missing.append(f"{key}: {entry}")
                continue
            lines = _lines(place, top, files)
            old = lists.get(key, (place, []))[1]
            lists[key] = (place, [*old, *lines])
    if not any(lines for _, lines in lists.values()):
        return _by_folders(top, files, missing, table)
    sets = [set(lines) for _, lines in lists.values()]
    if len(sets) > 1 and all(lines == sets[0] for lines in sets):
        note = f"'{table}': {', '.join(lists)} name the same images, which are divided anew"
        chosen, _ = divide_by_lists({"all": next(iter(lists.values()))}, _names(files))
        return YoloImages(top, dict.fromkeys(chosen), [note])
    words, notes = divide_by_lists(lists, _names(files))
    splits = {file: NamedSplit(word) for file, word in words.items()}
    notes = [note for note in notes if not note.endswith("in no list")]
    unnamed = {file: _unnamed_split(file, lists) for file in files if file not in splits}
    left_out = [file for file, split in unnamed.items() if split is None]
    if left_out:
        notes.append(
            f"'{table}': {len(left_out)} images that it does not name were left out, "
            f"e.g. '{left_out[0]}'"
        )
    kept = {file: split for file, split in unnamed.items() if split is not None}
    return YoloImages(top, {**splits, **kept}, [*notes, *_missing_note(table, missing)])


def has_labels(folder: Path) -> bool:
    """Whether label files lie below a folder: text files that begin with a class and numbers."""
    for file in list(walk(folder, (".txt",)))[:_LABELS_TRIED]:
        try:
            lines = read_text(folder / file).split("\n")
        except DataError:
            continue
        first = next((line for line in lines if line.strip()), "")
        if _LABEL_LINE.fullmatch(first):
            return True
    return False


def _unnamed_split(file: str, lists: Mapping[str, object]) -> str | None:
    """The split of an image that no place names: its folder's, if the table has none of it."""
    split = folder_split(file)
    return None if split in set(map(NamedSplit, lists)) else split


def label_file(top: Path, file: str) -> Path | None:
    """The labels of an image: mirrored in `labels`, flat in it, or beside the image."""
    places = (in_any_form(top, place) for place in _label_places(file))
    return next((place for place in places if place is not None), None)


def refuse_unlabelled(top: Path, unlabelled: Sequence[str], num_images: int) -> None:
    """Refuse images of which none has a label file.

    Raises:
        DataError: all are unlabelled.
    """
    if unlabelled and len(unlabelled) == num_images:
        example = unlabelled[0]
        raise DataError(
            f"'{top}': none of its {num_images} images has a label file; for '{example}' it would "
            f"be {' or '.join(_label_places(example))}. Put the labels there."
        )


def _label_places(file: str) -> list[str]:
    before, folder, after = f"/{file}".rpartition("/images/")
    beside = f"{file.rpartition('.')[0]}.txt"
    if not folder:
        return [beside]
    stem = after.rpartition(".")[0]
    places = [f"{before}/labels/{stem}.txt", f"{before}/labels/{stem.rpartition('/')[2]}.txt"]
    return [*(place.lstrip("/") for place in places), beside]


def _top(table: Path, content: Mapping[str, Any]) -> Path:
    """The table's folder; the one above where the table lies beside the images' folders."""
    for key in SPLIT_OF_WORD:
        for entry in _entries(content.get(key)):
            place = _place(entry, table, content)
            if place is not None and not place.is_relative_to(table.parent):
                above = table.parent.parent
                return above if place.is_relative_to(above) else place.parent
    return table.parent


def _entries(value: object) -> list[str]:
    """The places that a key names: one or a list."""
    values = value if isinstance(value, list) else [value]
    return [str(v) for v in values if v and not isinstance(v, bool)]


def _place(entry: str, table: Path, content: Mapping[str, Any]) -> Path | None:
    """The folder or list that an entry of the table means; None if it is not here.

    Tools write it relative to `path`, to the table, or as of another machine; `../` at its
    beginning often leads one folder too far.
    """
    text = entry.replace("\\", "/")
    base = str(content.get("path") or "").replace("\\", "/")
    starts = [table.parent / base] if not is_absolute(base) or os.path.isdir(base) else []
    starts += [table.parent]
    exact = [Path(text)] if is_absolute(text) else [start / text for start in starts]
    inside = []
    parts = [part for part in PurePosixPath(text).parts if part not in ("..", ".", "/")]
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end.endswith(".txt") or folder_split(f"{end}/image"):  # `images` alone may be all
            inside.append(table.parent / end)
    candidates = [*inside, *exact] if text.startswith("..") else [*exact, *inside]
    for path in candidates:
        if os.path.isdir(path) or os.path.isfile(path):
            return Path(os.path.normpath(path.absolute()))
    return None


def _lines(place: Path, top: Path, files: Sequence[str]) -> list[str]:
    """The images of a folder or a list, relative to the top."""
    if place.is_file():
        return read_list(place)
    if not place.is_relative_to(top):
        raise DataError(
            f"'{place}', which the table names, is outside '{top}'. Give the folder of both."
        )
    inside = place.relative_to(top).as_posix()
    return [file for file in files if inside == "." or file.startswith(f"{inside}/")]


def _names(files: Sequence[str]) -> dict[str, str]:
    return {file: file for file in files}


def _by_folders(top: Path, files: Sequence[str], missing: Sequence[str], table: Path) -> YoloImages:
    inside = [file for file in files if "/images/" in f"/{file}"]
    beside = [file for file in files if label_file(top, file) is not None]
    splits = {file: folder_split(file) for file in inside or beside}
    if not splits:
        raise DataError(
            f"'{table}' names {'; '.join(missing) or 'no train or val'}, which is not below "
            f"'{top}', and there is neither a folder images nor a label file beside an image. Put "
            "the images there, or correct the table."
        )
    return YoloImages(top, splits, _missing_note(table, missing))


def _missing_note(table: Path, missing: Sequence[str]) -> list[str]:
    if not missing:
        return []
    return [
        f"'{table}' names {'; '.join(missing)}, which is not here; splits are read from folders"
    ]
