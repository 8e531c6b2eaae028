"""Unpack untrusted archives: only plain files, and only inside the folder."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from segtune.data.source.splits import is_absolute
from segtune.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
)


def is_archive(path: Path) -> bool:
    """Whether a file has an archive's suffix."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(
    archive: Path,
    folder: Path,
    name: str = "",
    is_wanted: Callable[[str], bool] = lambda member: True,
) -> None:
    """Unpack a zip or tar into an empty folder.

    Args:
        name: the archive's name in messages, if it is not its path.
        is_wanted: which members to unpack; the others are not checked.

    Raises:
        DataError: the file is no archive, or damaged; or a member is absolute, climbs out with
            `..`, or is a link or a device: then nothing is unpacked.
    """
    name = name or str(archive)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, name, is_wanted)
        else:
            _unpack_tar(archive, folder, name, is_wanted)
    except _FAULTS as error:
        raise DataError(f"'{name}' is no archive that can be unpacked whole ({error}).") from None


def _unpack_zip(archive: Path, folder: Path, name: str, is_wanted: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = [m for m in packed.infolist() if is_wanted(m.filename)]
        for member in members:
            _check(name, member.filename, is_special=stat.S_ISLNK(member.external_attr >> 16))
        for member in members:
            if not member.is_dir():
                with packed.open(member) as content:
                    _write(content, folder / member.filename)


def _unpack_tar(archive: Path, folder: Path, name: str, is_wanted: Callable[[str], bool]) -> None:
    with tarfile.open(archive) as packed:
        members = [m for m in packed.getmembers() if is_wanted(m.name)]
        for member in members:
            _check(name, member.name, is_special=not (member.isfile() or member.isdir()))
        for member in members:
            content = packed.extractfile(member) if member.isfile() else None
            if content is not None:
                _write(content, folder / member.name)


def _check(archive: str, member: str, is_special: bool) -> None:
    """Refuse a member that could write outside the folder."""
    parts = PurePosixPath(member.replace("\\", "/")).parts
    if is_special:
        fault = "is a link or a device"
    elif is_absolute(member) or ".." in parts:
        fault = "would leave the folder it is unpacked into"
    else:
        return
    raise DataError(
        f"'{archive}': its member '{member}' {fault}. Plain files inside are allowed; nothing was "
        "unpacked. Pack the data again without it."
    )


def _write(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
