"""A public dataset is fetched once, checked by content, and only then put in its place."""

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
    """Fetches the archive and keeps the folders named in `paths`, after their content was checked.

    Raises:
        DataError: it cannot be fetched, is no safe archive, or holds other content than expected.
    """

    def build(folder: Path) -> None:
        archive = folder / "archive.zip"
        say(f"downloading {config.url}")
        try:
            with urllib.request.urlopen(config.url, timeout=60) as reply, archive.open("wb") as out:
                shutil.copyfileobj(reply, out)
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"dataset '{name}': dataset.root '{root}' does not exist, and {config.url} cannot be fetched "
                f"({error}). Put the data there by hand, or set dataset.root (or SEGTUNE_DATA) to where it is."
            ) from None
        unpack(
            archive,
            folder / ".unpacked",
            config.url,
            lambda m: any(f"/{i}/" in f"/{m}" for i in config.paths),
        )
        archive.unlink()
        for inside, target in config.paths.items():
            for top in (folder / ".unpacked").rglob(inside):
                for path in (p for p in top.rglob("*") if p.is_file()):
                    (folder / target).mkdir(parents=True, exist_ok=True)
                    path.rename(folder / target / path.name)
        shutil.rmtree(folder / ".unpacked")
        for split, expected in config.fingerprints.items():
            folders = [folder / t for t in config.paths.values() if Path(t).name == split]
            found = files_fingerprint(folders)
            if found != expected:
                raise DataError(
                    f"dataset '{name}': split '{split}' of {config.url} has the fingerprint {found[:16]}…, expected "
                    f"{expected[:16]}…: the source has changed or the transfer was damaged. Nothing was kept."
                )

    build_folder(root, build)


def build_folder(root: Path, build: Callable[[Path], None]) -> None:
    """Builds a folder beside its place, then renames it: one that exists is whole.

    Raises:
        DataError: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            unfinished = stack.enter_context(atomic_folder(root, overwrite=False))
        except OSError as error:
            raise DataError(
                f"'{root}' cannot be written: {error}. Set dataset.root or SEGTUNE_CACHE to a folder that can."
            ) from None
        build(unfinished)


def files_fingerprint(folders: list[Path]) -> str:
    """sha256 over the names and bytes of all files in the folders: equal content, equal fingerprint."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
