"""Split lists: files with the name of an image in each line."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from segtune.data.source.names import normal_name
from segtune.data.source.splits import is_absolute
from segtune.data.source.text import read_lines
from segtune.errors import DataError

_COLUMN = re.compile(r"[\s,;]+")  # between the columns of a list
_SUFFIX = re.compile(r"\.\w{2,5}$")


def read_list(path: Path) -> list[str]:
    """The lines of a split list, stripped, without blank lines and comments.

    Raises:
        DataError: it cannot be read.
    """
    return [line for line in read_lines(path) if not line.startswith("#")]


def resolve_names(lines: Sequence[str], files: Mapping[str, str], path: Path) -> list[str]:
    """The names of the images that a split list means.

    Args:
        lines: see `NameFinder.find`.
        files: image name -> its file, relative with `/`.
        path: the list, for messages.

    Raises:
        DataError: a line matches no image or several, or is an absolute path of another machine.
    """
    finder = NameFinder(files)
    names = []
    for line in lines:
        matches = finder.find(line)
        names.append(matches[0] if len(matches) == 1 else _refuse(line, matches, len(files), path))
    return names


def divide_by_lists(
    lists: Mapping[str, tuple[Path, Sequence[str]]], files: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Divide images by lists that may name others as well; an image of two lists goes to the later.

    Args:
        lists: split -> its list and the lines.
        files: image name -> its file, relative with `/`.

    Returns:
        Image name -> split; and notes on lines and images that fit no other.
    """
    finder = NameFinder(files)
    splits: dict[str, str] = {}
    notes, doubles = [], []
    for split, (path, lines) in lists.items():
        unknown = []
        for line in lines:
            matches = finder.find(line)
            if len(matches) != 1:
                unknown.append(line)
                continue
            if matches[0] in splits and splits[matches[0]] != split:
                doubles.append(matches[0])
            splits[matches[0]] = split
        if unknown:
            notes.append(f"'{path}': {_first(unknown, len(lines))} lines name no labelled image")
    if doubles:
        notes.append(
            f"{_first(doubles, len(splits))} images are in two lists, and go to the later split"
        )
    unlisted = [name for name in files if name not in splits]
    if unlisted:
        notes.append(f"{_first(unlisted, len(files))} labelled images are in no list")
    return splits, notes


def _first(names: Sequence[str], total: int) -> str:
    examples = ", ".join(f"'{name}'" for name in names[:3])
    return f"{len(names)} of {total} ({examples}{', …' if len(names) > 3 else ''})"


class NameFinder:
    """Finds the images that the lines of a list mean, by the end of their path.

    Args:
        files: image name -> its file, relative with `/`.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._by_end: dict[str, list[str]] = {}
        for name, file in files.items():
            for end in {name, file, file.rpartition("/")[2], name.rpartition("/")[2]}:
                self._by_end.setdefault(end, []).append(name)
        for name, file in files.items():  # a whole path comes before the end of a longer one
            self._by_end[name] = self._by_end[file] = [name]

    @cached_property
    def _by_normal_end(self) -> dict[str, list[str]]:
        """The same by normal names; made for the first line that needs it, since it takes time."""
        ends: dict[str, dict[str, None]] = {}
        for end, names in self._by_end.items():
            ends.setdefault(normal_name(end), {}).update(dict.fromkeys(names))
        return {end: list(names) for end, names in ends.items()}

    def find(self, line: str) -> list[str]:
        """The images that a line means: one, none or several.

        A line is a name, a file name, or a path that ends in one. More columns may follow it, as
        the mask's path. Upper and lower case, Unicode form and suffix may differ from the file's.

        >>> finder = NameFinder({"a": "a.jpg", "b c": "b c.jpg"})
        >>> finder.find("images/a.JPG masks/a.png"), finder.find("b c.jpg"), finder.find("d")
        (['a'], ['b c'], [])
        """
        text = _plain(line)
        if text in self._by_end:
            return self._by_end[text]
        first, *others = _COLUMN.split(text, maxsplit=1)
        if not others:
            return self._find_end(_ends(text))
        # spaces may also be part of a path, as in `my photos/a b.jpg`
        whole = self._find_end([end for end in _ends(text) if _COLUMN.search(end)])
        of_first = self._find_end(_ends(first))
        if "/" not in others[0]:
            return whole or of_first
        if whole or of_first or _SUFFIX.search(first):
            return list(dict.fromkeys([*whole, *of_first]))
        return self._find_end(_ends(text))

    def _find_end(self, ends: Sequence[str]) -> list[str]:
        """The images that the first known one of several ends means."""
        for end in ends:
            if end in self._by_end:
                return self._by_end[end]
        for end in ends:
            for key in (normal_name(end), normal_name(end).rpartition(".")[0]):
                if key in self._by_normal_end:
                    return self._by_normal_end[key]
        return []


def _ends(text: str) -> list[str]:
    """The path and its ends, the longest first; none of an absolute path of another machine."""
    if is_absolute(text) and not os.path.exists(text):
        return []
    parts = [part for part in text.split("/") if part]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _plain(line: str) -> str:
    return line.strip("\"'").replace("\\", "/").removeprefix("./")


def _refuse(line: str, matches: Sequence[str], num_images: int, path: Path) -> NoReturn:
    parts = [part for part in _plain(line).split("/") if part]
    if is_absolute(line) and not os.path.exists(line):
        raise DataError(
            f"'{path}' names '{line}', an absolute path that does not exist here. Lists name "
            "images relative to dataset.images. Write what follows the folder of images, "
            f"e.g. '{parts[-1] if parts else line}'."
        )
    fault = f"more than one image: {', '.join(matches[:3])}" if matches else "no image"
    raise DataError(
        f"'{path}' names '{line}', which is {fault} of {num_images} in dataset.images. "
        "Give the name relative to that folder, with or without its suffix."
    )
