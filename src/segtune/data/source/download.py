"""Download a public dataset once; only verified content gets its final place."""

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from segtune.config.dataset_schema import DownloadConfig
from segtune.data.reading.images import MASK_SUFFIXES
from segtune.data.source.archives import unpack
from segtune.errors import DataError
from segtune.runtime.addresses import without_password
from segtune.runtime.atomic import atomic_folder
from segtune.runtime.log import Log

_DATA_SUFFIXES = (*MASK_SUFFIXES, ".json", ".xml", ".txt", ".csv", ".yaml", ".parquet")


def download(name: str, config: DownloadConfig, root: Path, say: Log) -> None:
    """Download the archive, keep the folders named in `paths`, and verify their content.

    The config may come from somebody else: it can only write new files inside the root, and only
    images, masks and texts.

    Raises:
        DataError: the config or the archive is not safe, the archive cannot be downloaded, or has
            unexpected content.
    """
    _check(name, config)
    limit, address = int(config.max_gb * 1e9), without_password(config.url)

    def build(folder: Path) -> None:
        archive, unpacked = folder / "archive.zip", folder / ".unpacked"
        say(f"downloading {address}")
        try:
            digest = _fetch(config.url, archive, limit)
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"dataset '{name}': dataset.root '{root}' does not exist, and {address} cannot "
                f"be fetched ({error}). Put the data there by hand, or set dataset.root (or "
                "SEGTUNE_DATA) to where it is."
            ) from None
        if config.sha256 is not None and digest != config.sha256:
            raise DataError(
                f"dataset '{name}': {address} has the sha256 {digest}, expected "
                f"{config.sha256}: the source has changed. Nothing was kept."
            )
        unpack(archive, unpacked, address, lambda member: _is_wanted(member, config), limit)
        archive.unlink()
        for inside, target in config.paths.items():
            for top in unpacked.rglob(inside):
                _move_files(top, folder / target)
        shutil.rmtree(unpacked)
        _verify(name, config, folder)

    build_folder(root, build)


def _check(name: str, config: DownloadConfig) -> None:
    """Refuse a config that could read or write anything outside the dataset's root.

    Raises:
        DataError: names the key and the value.
    """
    fault = ""
    parts, address = urlsplit(config.url), without_password(config.url)
    if "@" in parts.netloc:
        fault = f"url='{address}' holds a name or a password, which runs would record; none is"
    if parts.scheme not in ("http", "https"):
        fault = f"url='{address}' is no address of a web server; http:// and https:// are"
    for inside, target in config.paths.items():
        for path in (inside, target):
            if not _is_inside(path):
                fault = f"paths names '{path}'; only relative folders without `..` are"
    if not config.fingerprints and config.sha256 is None:
        fault = "neither sha256 nor fingerprints say which content is expected; one of them is"
    if fault:
        raise DataError(
            f"dataset '{name}': dataset.download.{fault} allowed. Nothing was downloaded. Correct "
            "the dataset's file, or put the data into dataset.root by hand."
        )


def _is_inside(path: str) -> bool:
    """Whether a path names a folder below another one; the characters of patterns are refused."""
    parts = PurePosixPath(path).parts
    is_plain = not set("\\*?[]:") & set(path)
    return is_plain and bool(parts) and not path.startswith("/") and ".." not in parts


def _fetch(url: str, target: Path, limit: int) -> str:
    """Write a file of a web server; return its sha256.

    Raises:
        OSError: it cannot be fetched, or is larger than `limit` bytes.
    """
    opener = urllib.request.OpenerDirector()  # knows neither file:// nor ftp://, also after a move
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    total, digest = 0, hashlib.sha256()
    with opener.open(url, timeout=60) as reply, target.open("wb") as file:
        while block := reply.read(1 << 20):
            total += len(block)
            if total > limit:
                raise OSError(f"it has more than {limit / 1e9:g} GB, see dataset.download.max_gb")
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _is_wanted(member: str, config: DownloadConfig) -> bool:
    """Whether a member is data of a wanted folder; a program could start where the root lies."""
    path = PurePosixPath(member)
    is_data = path.suffix.lower() in _DATA_SUFFIXES and not path.name.startswith(".")
    return is_data and any(f"/{folder}/" in f"/{member}" for folder in config.paths)


def _move_files(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            path.rename(target / path.name)


def _verify(name: str, config: DownloadConfig, folder: Path) -> None:
    address = without_password(config.url)
    for split, expected in config.fingerprints.items():
        folders = [folder / path for path in config.paths.values() if Path(path).name == split]
        fingerprint = files_fingerprint(folders)
        if fingerprint != expected:
            raise DataError(
                f"dataset '{name}': split '{split}' of {address} has the fingerprint "
                f"{fingerprint[:16]}…, expected {expected[:16]}…: the source has changed or the "
                "transfer was damaged. Nothing was kept."
            )


def build_folder(root: Path, build: Callable[[Path], None]) -> None:
    """Build a folder beside its place, then rename it: a folder at that place is always complete.

    Args:
        build: writes the content into the folder that it gets.

    Raises:
        DataError: the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            unfinished = stack.enter_context(atomic_folder(root, overwrite=False))
        except OSError as error:
            raise DataError(
                f"'{root}' cannot be written: {error}. "
                "Set dataset.root or SEGTUNE_CACHE to a folder that can."
            ) from None
        build(unfinished)


def files_fingerprint(folders: list[Path]) -> str:
    """sha256 over the names and bytes of all files in the folders."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
