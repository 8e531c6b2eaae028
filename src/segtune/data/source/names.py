"""The names of images and masks, as their files give them; and when two names are one."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from segtune.errors import DataError

NamedImage = tuple[str, Path]
"""An image's name (its path below the folder of images, without suffix) and its file."""


_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def composed(name: str) -> str:
    """A name with composed characters (NFC); macOS and some archives split é into two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def normal_name(name: str) -> str:
    """A name in NFC and case folded: equal names clash on some file systems."""
    return name.lower() if name.isascii() else composed(composed(name).casefold())


def in_any_form(folder: Path, name: str) -> Path | None:
    """A file or folder below a folder by its name in any Unicode form; None if there is none."""
    names = [name] if name.isascii() else [name, *(unicodedata.normalize(f, name) for f in _FORMS)]
    return next((folder / n for n in names if os.path.exists(folder / n)), None)


def spelled_as(
    files: dict[str, list[Path]], others: Callable[[], Iterable[str]]
) -> dict[str, list[Path]]:
    """Files by name, where a name in another Unicode form than one of the others becomes it.

    No two names become one: a name that the others have as it is stays.

    Args:
        others: returns the other names; called where a name is not ASCII.

    >>> list(spelled_as({"e\u0301": [], "a": []}, lambda: ["\u00e9"])) == ["\u00e9", "a"]
    True
    """
    if all(map(str.isascii, files)):
        return files
    known = set(others())
    by_form = {composed(other): other for other in known if other not in files}
    spelled = {}
    for name, paths in files.items():
        key = name if name in known else by_form.pop(composed(name), name)
        spelled[key] = paths
    return spelled


def is_preview(file: Path) -> bool:
    """Whether a mask beside another of its name is a picture of it, with changed values."""
    return file.suffix.lower() in (".jpg", ".jpeg")


def refuse_twins(
    images: Sequence[NamedImage], dataset: str, split: str, check_command: str
) -> None:
    """Refuse two images of one name, which would share a mask.

    Raises:
        DataError: there are two.
    """
    first: dict[str, Path] = {}
    for name, path in images:
        other = first.setdefault(name, path)
        if other != path:
            raise DataError(
                f"dataset '{dataset}': split '{split}' holds two images for one mask: "
                f"'{other}' and '{path}'. Remove one, give it another name, or leave one out: "
                f"{check_command}"
            )
