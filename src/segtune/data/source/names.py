"""The names of images and masks, as their files give them."""

from pathlib import Path

NamedImage = tuple[str, Path]
"""An image's name (its path below the folder of images, without suffix) and its file."""


def is_preview(file: Path) -> bool:
    """Whether a mask beside another of its name is a picture of it, with changed values."""
    return file.suffix.lower() in (".jpg", ".jpeg")
