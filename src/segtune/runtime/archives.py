"""Zip archives from others, which may claim to hold more than a machine has."""

from zipfile import ZipFile


def check_size(archive: ZipFile, limit: int) -> None:
    """Refuse an archive whose files are larger than `limit` bytes together.

    Raises:
        ValueError: they are.
    """
    size = sum(info.file_size for info in archive.infolist())
    if size > limit:
        raise ValueError(f"it claims to hold {size} bytes, allowed are {limit}")
