"""Lists of images, as `train.txt` and `val.txt`, beside annotations that name no split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segtune.data.formats.areas import LabelledImage
from segtune.data.source.files import walk
from segtune.data.source.lists import NameFinder, divide_by_lists, read_list
from segtune.data.source.split_words import SPLIT_OF_WORD, NamedSplit, split_of_name
from segtune.errors import DataError

_MOST_BYTES = 50_000_000
_LISTED_SHARE = 0.1  # of the lines of a list, that must name a labelled image

Lists = Mapping[str, tuple[Path, Sequence[str]]]
"""Word for a split -> its list and the lines."""


def split_by_lists(
    images: Sequence[LabelledImage], root: Path
) -> tuple[list[LabelledImage], list[str]]:
    """Images with the splits of lists below root, and notes, where nothing else surely names one.

    Lists of one folder count where they name train and another split.
    """
    splits = [image.split for image in images]
    if root.is_file() or any(map(_is_sure, splits)):
        return list(images), []
    names = [_name(image, root) for image in images]
    files = {name: f"{name}{image.image.suffix}" for name, image in zip(names, images, strict=True)}
    notes: list[str] = []
    for lists, paths in _lists(root, NameFinder(files)):
        shown = " and ".join(f"'{path.relative_to(root)}'" for path in paths)
        if {"train"} < set(map(NamedSplit, lists)):
            words, faults = divide_by_lists(lists, files)
            found = []
            for image, name in zip(images, names, strict=True):
                split = NamedSplit(words[name]) if name in words else image.split
                found.append(replace(image, split=split))
            return found, [f"splits by the lists {shown}", *faults]
        notes.append(
            f"{shown} names images, but there are no lists of train and of val or test beside each "
            "other: it is not used, and its images are divided as all others"
        )
    return list(images), notes


def _is_sure(split: str | None) -> bool:
    return split.is_sure if isinstance(split, NamedSplit) else bool(split)


def _name(image: LabelledImage, root: Path) -> str:
    """The path of an image below root without its suffix, with `/`."""
    path = image.image.with_suffix("")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _lists(root: Path, finder: NameFinder) -> list[tuple[Lists, list[Path]]]:
    """The lists of each folder, those of most lists first, and their files.

    Several lists of one word are that list together. Of two splits that name one image, the later
    one of train, val and test counts.
    """
    by_folder: dict[Path, dict[str, tuple[Path, Sequence[str]]]] = {}
    paths: dict[Path, list[Path]] = {}
    for file in walk(root, (".txt", ".lst")):
        path = root / file
        split = split_of_name(path.stem)
        if split is None or split.form or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            lines = read_list(path)
        except DataError:
            continue  # a text that is no list
        named = sum(len(finder.find(line)) == 1 for line in lines)
        if named and named >= _LISTED_SHARE * len(lines):
            lists = by_folder.setdefault(path.parent, {})
            first, earlier = lists.get(split.word, (path, []))
            lists[split.word] = (first, [*earlier, *lines])
            paths.setdefault(path.parent, []).append(path)
    words = list(SPLIT_OF_WORD)
    found = []
    for folder, lists in by_folder.items():
        ordered = sorted(lists.items(), key=lambda item: words.index(item[0]))
        found.append((dict(ordered), paths[folder]))
    return sorted(found, key=lambda item: len(item[0]), reverse=True)
