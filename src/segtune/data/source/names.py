"""The names of splits and images, as folders and files give them."""

from collections.abc import Sequence
from pathlib import Path

from segtune.data.source.files import walk

NamedImage = tuple[str, Path]
"""An image's name (its path below the folder of images, without suffix) and its file."""


def split_names(root: Path, pattern: str, of_files: bool) -> list[str]:
    """The splits for which a pattern, as `images/{split}`, is a folder (or file) below root."""
    before, _, after = pattern.partition("{split}")
    parent, slash, start = before.rpartition("/")
    folder = root / (parent + slash)
    if not folder.is_dir():
        return []
    end = after.split("/")[0]
    names = []
    for path in folder.iterdir():
        if path.name.startswith(start) and path.name.endswith(end) and path.name[0] != ".":
            names.append(path.name[len(start) : len(path.name) - len(end)])
    paths = {name: root / f"{before}{name}{after}" for name in names if name}
    return [name for name, p in paths.items() if (p.is_file() if of_files else p.is_dir())]


def named_files(folder: Path, suffixes: Sequence[str], end: str) -> list[NamedImage]:
    """The files below a folder with one of the suffixes, whose stem ends in `end`; sorted.

    Args:
        end: part of every file's stem that is not part of the name, as `_labels`.
    """
    files = []
    for file in walk(folder, suffixes):
        stem = file.rpartition(".")[0]
        if stem.endswith(end):
            files.append((stem.removesuffix(end), folder / file))
    return files


def is_preview(file: Path) -> bool:
    """Whether a mask beside another of its name is a picture of it, with changed values."""
    return file.suffix.lower() in (".jpg", ".jpeg")
