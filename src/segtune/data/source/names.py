"""The names of images and masks, as their files give them."""

from collections.abc import Sequence
from pathlib import Path

from segtune.errors import DataError

NamedImage = tuple[str, Path]
"""An image's name (its path below the folder of images, without suffix) and its file."""


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
