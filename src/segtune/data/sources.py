"""Where a dataset's pairs come from: image/mask folders, a verified download, or the built-in street scenes."""

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from segtune.classes import ClassTable
from segtune.data.images import IMAGE_SUFFIXES
from segtune.errors import DataError
from segtune.settings import DatasetConfig, DownloadConfig

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """One image and its mask."""

    image: Path
    mask: Path


@dataclass(frozen=True)
class Source:
    """A dataset that is on disk: its root, class table, and how its splits are laid out."""

    name: str
    root: Path
    classes: ClassTable
    config: DatasetConfig

    def images(self, split: str) -> list[Path]:
        """The split's images, sorted by name.

        Raises:
            DataError: the split's folder is missing or holds no image.
        """
        folder = self.root / self.config.images.format(split=split)
        if not folder.is_dir():
            there = sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) if folder.parent.is_dir() else []
            raise DataError(
                f"dataset '{self.name}': split '{split}' should lie in '{folder}', which does not exist; "
                f"splits there: {', '.join(there) or 'none'}. Set dataset.root or dataset.images."
            )
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise DataError(
                f"dataset '{self.name}': split '{split}' is empty: no image in '{folder}' "
                f"({', '.join(IMAGE_SUFFIXES)})."
            )
        return found

    def pairs(self, split: str) -> list[Pair]:
        """The split's image/mask pairs, sorted by name.

        Raises:
            DataError: no images, or images without a mask (named).
        """
        images = self.images(split)
        image_dir = self.root / self.config.images.format(split=split)
        mask_dir = self.root / self.config.masks.format(split=split)
        masks = {
            p.relative_to(mask_dir).with_suffix(""): p
            for p in mask_dir.rglob("*")
            if p.suffix.lower() in (".png", ".bmp", ".tif", ".tiff", ".gif")
        }
        stems = [(i, i.relative_to(image_dir).with_suffix("")) for i in images]
        lonely = [str(i) for i, stem in stems if stem not in masks]
        if lonely:
            raise DataError(
                f"dataset '{self.name}': {len(lonely)} of {len(images)} images of split '{split}' have no mask in "
                f"'{mask_dir}', the first is '{lonely[0]}'. A mask has its image's name with .png; "
                "add the masks, remove the images, or set dataset.masks."
            )
        return [Pair(i, masks[stem]) for i, stem in stems]


def open_source(config: DatasetConfig, say: Say = lambda _: None) -> Source:
    """The dataset on disk: found, drawn (street) or downloaded.

    Args:
        say: is told what takes time.

    Raises:
        DataError: the root is missing and nothing can be downloaded, or a download does not hold what it should.
    """
    classes = ClassTable.parse(config.classes, config.ignore)
    if config.source == "street":
        return Source(config.name, _street_root(config, say), classes, config)
    if not config.root:
        raise DataError(
            f"dataset '{config.name}': dataset.root is not set; give the folder that holds images/ and masks/."
        )
    root = Path(config.root).expanduser().absolute()
    if not root.is_dir():
        if config.download is None:
            raise DataError(
                f"dataset '{config.name}': dataset.root '{root}' does not exist. "
                "Give the folder that holds its images and masks."
            )
        _download(config.name, config.download, root, say)
    return Source(config.name, root, classes, config)


def files_fingerprint(folders: list[Path]) -> str:
    """sha256 over the names and bytes of all files in the folders: equal content, equal fingerprint."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            total.update(path.relative_to(folder).as_posix().encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def cache_dir() -> Path:
    """Folder for what can be made again: `$SEGTUNE_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("SEGTUNE_CACHE") or platformdirs.user_cache_dir("segtune"))


def _street_root(config: DatasetConfig, say: Say) -> Path:
    """Draws the scenes once per setting; a second process waits for the first by finding its finished folder."""
    from segtune.data import street_files

    settings = config.street
    if settings is None:
        raise DataError(
            f"dataset '{config.name}': source 'street' needs dataset.street (width, height, train, val, …)."
        )
    key = hashlib.sha256(json.dumps([street_files.VERSION, settings.model_dump()]).encode()).hexdigest()[:12]
    root = Path(config.root).expanduser().absolute() if config.root else cache_dir() / f"street-{key}"
    if not root.is_dir():
        _build_folder(root, lambda folder: street_files.write_dataset(folder, settings, say))
    return root


def _download(name: str, download: DownloadConfig, root: Path, say: Say) -> None:
    """Fetches the archive and keeps the folders named in `paths`, after their content was checked."""

    def build(folder: Path) -> None:
        archive = folder / "archive.zip"
        say(f"downloading {download.url}")
        try:
            with urllib.request.urlopen(download.url, timeout=60) as reply, archive.open("wb") as out:
                shutil.copyfileobj(reply, out)
        except (urllib.error.URLError, OSError) as error:
            raise DataError(
                f"dataset '{name}': dataset.root '{root}' does not exist, and {download.url} cannot be fetched "
                f"({error}). Put the data there by hand, or set dataset.root (or SEGTUNE_DATA) to where it is."
            ) from None
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.infolist():
                    _extract(packed, member, download.paths, folder)
        except zipfile.BadZipFile as error:
            raise DataError(f"dataset '{name}': {download.url} gave no zip archive ({error}).") from None
        archive.unlink()
        for split, expected in download.fingerprints.items():
            folders = [folder / t for t in download.paths.values() if Path(t).name == split]
            found = files_fingerprint(folders)
            if found != expected:
                raise DataError(
                    f"dataset '{name}': split '{split}' of {download.url} has the fingerprint {found[:16]}…, expected "
                    f"{expected[:16]}…: the source has changed or the transfer was damaged. Nothing was kept."
                )

    _build_folder(root, build)


def _extract(packed: zipfile.ZipFile, member: zipfile.ZipInfo, paths: dict[str, str], folder: Path) -> None:
    for inside, target in paths.items():
        marker = f"/{inside}/"
        if not member.is_dir() and marker in f"/{member.filename}":
            out = folder / target / Path(member.filename).name  # the bare name: no member leaves the folder
            out.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as data, out.open("wb") as file:
                shutil.copyfileobj(data, file)


def _build_folder(root: Path, build: Callable[[Path], None]) -> None:
    """Builds beside, then renames: a folder that exists is whole."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    except OSError as error:
        raise DataError(
            f"'{root}' cannot be written: {error}. Set dataset.root or SEGTUNE_CACHE to a folder that can."
        ) from None
    try:
        build(temporary)
        try:
            temporary.rename(root)
        except OSError:
            if not root.is_dir():  # another process was first: its folder is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
