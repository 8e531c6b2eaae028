"""Download a public dataset once; only verified content gets its final place."""

import hashlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from segtune.config.dataset_schema import DownloadConfig
from segtune.data.source.archives import unpack
from segtune.errors import DataError
from segtune.runtime.atomic import atomic_folder
from segtune.runtime.log import Log


def download(name: str, config: DownloadConfig, root: Path, say: Log) -> None:
    """Download the archive, keep the folders named in `paths`, and verify their content.

    Raises:
        DataError: the archive cannot be downloaded, is not safe, or has unexpected content.
    """

    def build(folder: Path) -> None:
        archive, unpacked = folder / "archive.zip", folder / ".unpacked"
        say(f"downloading {config.url}")
        try:
            with urllib.request.urlopen(config.url, timeout=60) as reply, archive.open("wb") as out:
                shutil.copyfileobj(reply, out)
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"dataset '{name}': dataset.root '{root}' does not exist, and {config.url} cannot "
                f"be fetched ({error}). Put the data there by hand, or set dataset.root (or "
                "SEGTUNE_DATA) to where it is."
            ) from None
        unpack(archive, unpacked, config.url, lambda member: _is_wanted(member, config))
        archive.unlink()
        for inside, target in config.paths.items():
            for top in unpacked.rglob(inside):
                _move_files(top, folder / target)
        shutil.rmtree(unpacked)
        _verify(name, config, folder)

    build_folder(root, build)


def _is_wanted(member: str, config: DownloadConfig) -> bool:
    return any(f"/{path}/" in f"/{member}" for path in config.paths)


def _move_files(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            path.rename(target / path.name)


def _verify(name: str, config: DownloadConfig, folder: Path) -> None:
    for split, expected in config.fingerprints.items():
        folders = [folder / path for path in config.paths.values() if Path(path).name == split]
        fingerprint = files_fingerprint(folders)
        if fingerprint != expected:
            raise DataError(
                f"dataset '{name}': split '{split}' of {config.url} has the fingerprint "
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
