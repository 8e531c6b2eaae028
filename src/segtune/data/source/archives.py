"""Unpacks archives that nobody vouches for: nothing lands outside, and nothing that is no plain file."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from segtune.data.source.splits import is_foreign
from segtune.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(path: Path) -> bool:
    """Whether a file's name is an archive's."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(
    archive: Path, folder: Path, name: str = "", wanted: Callable[[str], bool] = lambda member: True
) -> None:
    """Unpacks a zip or tar into an empty folder.

    Args:
        name: what messages call it.
        wanted: which members; the others are passed over, whatever they are.

    Raises:
        DataError: no archive or a damaged one; or a member that is absolute, climbs out with `..`, or is a link or a
            device: then nothing is unpacked at all.
    """
    name = name or str(archive)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                entries = [m for m in packed.infolist() if wanted(m.filename)]
                for member in entries:
                    _check(name, member.filename, stat.S_ISLNK(member.external_attr >> 16))
                for member in entries:
                    if not member.is_dir():
                        with packed.open(member) as data:
                            _write(data, folder / member.filename)
            return
        with tarfile.open(archive) as tar:
            members = [m for m in tar.getmembers() if wanted(m.name)]
            for item in members:
                _check(name, item.name, not (item.isfile() or item.isdir()))
            for item in members:
                content = tar.extractfile(item) if item.isfile() else None
                if content is not None:
                    _write(content, folder / item.name)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"'{name}' is no archive that can be unpacked whole ({error}).") from None


def _check(archive: str, member: str, special: bool) -> None:
    parts = PurePosixPath(member.replace("\\", "/")).parts
    if special:
        what = "is a link or a device"
    elif is_foreign(member) or ".." in parts:
        what = "would leave the folder it is unpacked into"
    else:
        return
    raise DataError(
        f"'{archive}': its member '{member}' {what}. Plain files inside are allowed; nothing was unpacked. "
        "Pack the data again without it."
    )


def _write(data: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(data, file)
