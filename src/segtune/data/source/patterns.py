"""Patterns of paths, as `images/{split}` or `{split}/{folder}/{name}_sat.jpg`: which files fit.

`{split}` stands for the name of a split, `{folder}` for one folder of any name, and `{name}` for
the name of an image, which may contain folders. A pattern without `{name}` is a folder: all files
below it fit.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from segtune.data.source.files import walk
from segtune.data.source.names import composed

SPLIT, FOLDER, NAME = "{split}", "{folder}", "{name}"
_HOLES = re.compile(r"\{(?:folder|name)\}")


def of_split(pattern: str, split: str) -> str:
    """A pattern with the name of a split in place of `{split}`.

    >>> of_split("{split}/{name}_sat.jpg", "train")
    'train/{name}_sat.jpg'
    """
    return pattern.replace(SPLIT, split)


def top_folder(pattern: str) -> str:
    """The part of a pattern that is the same for all files: a folder.

    >>> top_folder("train/{folder}/images"), top_folder("images/train"), top_folder("{name}.jpg")
    ('train', 'images/train', '')
    """
    parts = PurePosixPath(pattern).parts
    fixed = 0
    while fixed < len(parts) and not _HOLES.search(parts[fixed]):
        fixed += 1
    return "/".join(parts[:fixed])


def fitting_files(
    root: Path, pattern: str, suffixes: Sequence[str], end: str = ""
) -> list[tuple[str, Path]]:
    """Name and path of the files that fit a pattern without `{split}`, sorted by path.

    The name is what stands for each `{folder}` and for `{name}`, joined with `/`. Pattern and file
    may differ in their Unicode form.

    Args:
        suffixes: of the files; a pattern that ends in a suffix fits only files with it.
        end: of every file's stem, which is no part of the name.
    """
    top = top_folder(pattern)
    below = pattern[len(top) :].lstrip("/")
    fits, fits_composed = _expression(below, end), _expression(composed(below), composed(end))
    files = []
    for file in walk(root / top, suffixes):
        match = fits.fullmatch(file) or fits_composed.fullmatch(composed(file))
        if match:
            files.append(("/".join(match.groups()), root / top / file))
    return files


def is_narrower(pattern: str, other: str) -> bool:
    """Whether a file that fits both patterns belongs to the first, which states more of its name.

    >>> is_narrower("{split}/{name}_mask.png", "{split}/{name}.png")
    True
    """
    return NAME in pattern and len(pattern) > len(other)


def splits_in(root: Path, pattern: str, of_files: bool = False) -> list[str]:
    """The names of splits for which a pattern is a folder (or file) below root."""
    first = PurePosixPath(pattern).parts
    at_split = next((i for i, part in enumerate(first) if SPLIT in part), None)
    if at_split is None:
        return []
    if _HOLES.search("/".join(first[:at_split])):
        return _splits_below_folders(root, first[: at_split + 1])
    before, _, after = first[at_split].partition(SPLIT)
    folder = root / "/".join(first[:at_split])
    names = []
    for path in folder.iterdir() if folder.is_dir() else ():
        middle = path.name[len(before) : len(path.name) - len(after)]
        if path.name == before + middle + after and path.name[0] != ".":
            names.append(middle)
    paths = {name: root / top_folder(of_split(pattern, name)) for name in names if name}
    return [name for name, p in paths.items() if (p.is_file() if of_files else p.is_dir())]


def splits_of_images(names: Sequence[str], images: str, others: Sequence[str]) -> list[str]:
    """The names of splits whose folder of images is no folder of masks of another split.

    Args:
        images, others: patterns of images, and of masks.

    >>> splits_of_images(["train", "train_labels"], "{split}", ["{split}_labels"])
    ['train']
    """
    other_folders: set[str] = set()
    for pattern in others:
        if pattern != images and SPLIT in pattern:
            other_folders.update(of_split(pattern, name) for name in names)
    return [name for name in names if of_split(images, name) not in other_folders]


def _splits_below_folders(root: Path, parts: Sequence[str]) -> list[str]:
    """The splits of a pattern in which `{folder}` comes before `{split}`."""
    before, _, after = parts[-1].partition(SPLIT)
    shape = "/".join(["*" if _HOLES.search(part) else part for part in parts[:-1]])
    names: dict[str, None] = {}
    for path in sorted(root.glob(f"{shape}/{before}*{after}")):
        if path.is_dir():
            names[path.name[len(before) : len(path.name) - len(after)]] = None
    return list(names)


def _expression(pattern: str, end: str) -> re.Pattern[str]:
    """The expression that a path below the top folder fits; its groups make the name."""
    if NAME not in pattern:
        pattern = f"{pattern}/{NAME}".lstrip("/")
    parts, has_name = [], False
    for part in re.split(r"(\{folder\}|\{name\})", pattern):
        if part == FOLDER:
            parts.append("([^/]+)")
        elif part == NAME:
            parts.append(r"(?P=name)" if has_name else r"(?P<name>.+)")
            has_name = True
        else:
            parts.append(re.escape(part))
    states_suffix = "." in pattern.rpartition("/")[2].replace(NAME, "")
    suffix = "" if states_suffix else re.escape(end) + r"\.[^./]+"
    return re.compile("".join(parts) + suffix, re.IGNORECASE if states_suffix else 0)
