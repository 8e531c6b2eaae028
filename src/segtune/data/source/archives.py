"""Unpack untrusted archives: only plain files, and only inside the folder."""

import math
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from segtune.data.source.files import walk
from segtune.data.source.splits import is_absolute
from segtune.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_OTHER_ARCHIVES = (".rar", ".7z", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".cab", ".iso", ".dmg")
_UTF_8_NAMES = 0x800  # flag of a zip's member
_ENCRYPTED = 0x1
_MAX_RATIO, _ALWAYS_ALLOWED = 100, 200_000_000  # size of the files by that of the archive; bytes
_MAX_MEMBERS = 5_000_000
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


def refuse_unread_archive(path: Path) -> None:
    """Refuse an archive of a kind that is not unpacked.

    Raises:
        DataError: the file has such an archive's suffix.
    """
    if path.is_file() and path.name.lower().endswith(_OTHER_ARCHIVES) and not is_archive(path):
        raise DataError(
            f"'{path}' is an archive of a kind that is not read; zip and tar (.gz, .bz2, .xz) are. "
            "Unpack it, and give the folder."
        )


def archives_in(folder: Path) -> list[str]:
    """The archives below a folder, relative with `/`."""
    suffixes = (*ARCHIVE_SUFFIXES, *_OTHER_ARCHIVES)
    return [file for file in walk(folder) if file.lower().endswith(suffixes)]


def unpack(
    archive: Path,
    folder: Path,
    name: str = "",
    is_wanted: Callable[[str], bool] = lambda member: True,
    max_bytes: float = math.inf,
) -> None:
    """Unpack a zip or tar into an empty folder.

    Args:
        name: the archive's name in messages, if it is not its path.
        is_wanted: which members to unpack; the others are not checked.
        max_bytes: size of all unpacked files together.

    Raises:
        DataError: the file is no archive, or damaged; or a member is absolute, climbs out with
            `..`, or is a link or a device; or its files are larger than `max_bytes`, than the free
            space, or 100 times the archive: then nothing is unpacked.
    """
    name = name or str(archive)
    check_size = partial(_check_size, archive, folder, name, max_bytes)
    try:
        # a tar whose last member is a zip ends like one
        if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
            _unpack_zip(archive, folder, name, is_wanted, check_size)
        else:
            _unpack_tar(archive, folder, name, is_wanted, check_size)
    except UnicodeDecodeError:
        raise DataError(
            f"'{name}' names its files in an encoding that it does not state. Unpack it, and give "
            "the folder, or pack it again with names in UTF-8."
        ) from None
    except _FAULTS as error:
        fault = str(error).strip().splitlines()[0].rstrip(":") if str(error).strip() else "damaged"
        raise DataError(f"'{name}' is no archive that can be unpacked whole ({fault}).") from None


def _check_size(
    archive: Path, folder: Path, name: str, max_bytes: float, sizes: Sequence[int]
) -> None:
    """Refuse files that would fill the disk; a small archive can hold gigabytes of zeros."""
    total, packed = sum(sizes), archive.stat().st_size
    free = shutil.disk_usage(folder.parent).free
    fault = ""
    if total > max_bytes:
        fault = f"the limit is {max_bytes / 1e6:,.0f} MB"
    elif total > free:
        fault = f"only {free / 1e6:,.0f} MB are free"
    elif total > _ALWAYS_ALLOWED and total > _MAX_RATIO * packed:
        fault = f"that is more than {_MAX_RATIO} times its own {packed / 1e6:,.1f} MB"
    elif len(sizes) > _MAX_MEMBERS:
        fault = f"and {len(sizes):,} files; at most {_MAX_MEMBERS:,} are read"
    if fault:
        raise DataError(
            f"'{name}' unpacks to {total / 1e6:,.0f} MB: {fault}. Nothing was unpacked. If you "
            "trust it, unpack it yourself, and give the folder."
        )


def _unpack_zip(
    archive: Path,
    folder: Path,
    name: str,
    is_wanted: Callable[[str], bool],
    check_size: Callable[[Sequence[int]], None],
) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = [(m, _zip_name(m)) for m in packed.infolist()]
        members = [(member, path) for member, path in members if is_wanted(path)]
        if any(member.flag_bits & _ENCRYPTED for member, _ in members):
            raise DataError(f"'{name}' needs a password. Unpack it, and give the folder.")
        for member, path in members:
            _check(name, path, is_special=stat.S_ISLNK(member.external_attr >> 16))
        check_size([member.file_size for member, _ in members])
        for member, path in members:
            if not path.endswith("/"):
                with packed.open(member) as content:
                    _write(content, folder / path)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A member's path with `/`, which some writers replace by a backslash.

    Names in UTF-8 are often stored without the flag that says so.
    """
    path = member.filename
    if not member.flag_bits & _UTF_8_NAMES:
        with suppress(UnicodeError):  # the names are in another encoding
            path = path.encode("cp437").decode("utf-8")
    return path.replace("\\", "/")


def _unpack_tar(
    archive: Path,
    folder: Path,
    name: str,
    is_wanted: Callable[[str], bool],
    check_size: Callable[[Sequence[int]], None],
) -> None:
    with tarfile.open(archive) as packed:
        members = []
        for member in packed:  # one by one: the list itself may be the bomb
            if is_wanted(member.name):
                members.append(member)
            if len(members) > _MAX_MEMBERS:
                break
        check_size([member.size for member in members])
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
