"""How a dataset lies on disk: which images a split holds, and which mask belongs to which."""

import hashlib
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig, FixesConfig, MaskFormat
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.reading.masks import MaskReader
from segtune.data.source.files import cache_dir, digests, read_bytes, walk
from segtune.data.source.splits import divide, group_of, read_list, resolve_names
from segtune.errors import DataError


@dataclass(frozen=True)
class Pair:
    """One image and its mask.

    Attributes:
        name: the image's path below the folder of images, without its suffix.
        upright: whether the image's EXIF orientation is applied.
        form: how the mask is stored, where that differs from the dataset's others.
    """

    name: str
    image: Path
    mask: Path
    upright: bool = True
    form: MaskFormat | None = None


@dataclass(frozen=True)
class Source:
    """A dataset that is on disk: its root, class table, and how its splits are laid out.

    Attributes:
        config: with its fixes read and applied.
    """

    name: str
    root: Path
    classes: ClassTable
    config: DatasetConfig
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def fixes(self) -> FixesConfig:
        """How to read it in spite of its faults."""
        return self.config.fixes if isinstance(self.config.fixes, FixesConfig) else FixesConfig()

    @cached_property
    def masks(self) -> MaskReader:
        """Turns mask files into class ids."""
        return MaskReader(self.config, self.classes)

    def folder(self, pattern: str, split: str) -> Path:
        """A split's folder or file for a pattern of the config."""
        return self.root / pattern.format(split=self.config.folder_names.get(split, split))

    def splits(self) -> list[str]:
        """The splits that are there, train first."""
        if self.config.splits is not None and self.config.splits.lists is None:
            return [*self._divided(), *self._kept_apart()]
        pattern = self.config.splits.lists if self.config.splits is not None else self.config.images
        assert pattern is not None
        back = {v: k for k, v in self.config.folder_names.items()}
        before, _, after = pattern.partition("{split}")
        found = {back.get(n, n) for n in self._fillings(before, after)}
        usual = ["train", "val", "test"]
        return [s for s in usual if s in found] + sorted(found - set(usual))

    def _fillings(self, before: str, after: str) -> list[str]:
        top = (
            (self.root / before).parent
            if not before.endswith("/") and before
            else self.root / before
        )
        start = "" if before.endswith("/") or not before else Path(before).name
        if not top.is_dir():
            return []
        end = after.split("/")[0]
        names = [p.name for p in top.iterdir() if p.name.startswith(start) and p.name.endswith(end)]
        names = [n[len(start) : len(n) - len(end)] for n in names if n[0] != "."]
        return [n for n in names if n and (self.root / f"{before}{n}{after}").exists()]

    def images(self, split: str) -> list[Path]:
        """The split's images, sorted by name.

        Raises:
            DataError: the split's folder is missing or holds no image.
        """
        return [path for _, path in self._images(split)]

    def pairs(self, split: str) -> list[Pair]:
        """The split's image/mask pairs, sorted by name, without those in quarantine.

        Raises:
            DataError: no images, images without a mask, or two images for one mask (named).
        """
        images = self._images(split)
        masks = self.mask_files(split)
        fixed = {self.root / image: self.root / mask for image, mask in self.fixes.pairs.items()}
        lonely = [str(p) for n, p in images if n not in masks and p not in fixed]
        if lonely:
            raise DataError(
                f"dataset '{self.name}': {len(lonely)} of {len(images)} images of split '{split}' have no mask in "
                f"'{self.folder(self.config.masks, split)}', the first is '{lonely[0]}'. A mask has its image's name "
                f"with .png; add the masks, or leave the images out: {self.check_command()}"
            )
        turned = {self.root / image for image in self.fixes.unrotated}
        forms = {self.root / image: form for image, form in self.fixes.formats.items()}
        return [
            Pair(n, p, fixed.get(p) or masks[n], p not in turned, forms.get(p)) for n, p in images
        ]

    def mask_files(self, split: str) -> dict[str, Path]:
        """Every mask of the split's folder, by the name of the image that it belongs to."""
        end, found = self.config.mask_suffix, dict[str, Path]()
        pooled = self._pooled and split not in self._kept_apart()
        for pool in self._pools() if pooled else [split]:
            top = self.folder(self.config.masks, pool)
            for file in walk(top, MASK_SUFFIXES):
                stem = file.rpartition(".")[0]
                if stem.endswith(end):
                    name = stem[: len(stem) - len(end)]
                    found.setdefault(f"{pool}/{name}" if pooled else name, top / file)
        return found

    def finer_file(self, split: str, name: str) -> Path:
        """The finer mask of an image.

        Raises:
            DataError: the dataset has none.
        """
        if self.config.finer is None:
            raise DataError(
                f"dataset '{self.name}' has no finer masks. Set dataset.finer to the folder of a split's under root, "
                "as finer/{split}: one per mask, of its name and size, with the place of the finer label in its class."
            )
        if self._pooled and split not in self._kept_apart():
            split, _, name = name.partition("/")
        return self.folder(self.config.finer, split) / f"{name}{self.config.mask_suffix}.png"

    def fingerprint(self, splits: Sequence[str] = ("train", "val")) -> str:
        """sha256 over names and bytes of the splits' files and the class table, without decoding any."""
        total = self.table_hash()
        for split in splits:
            pairs = self.pairs(split)
            both = digests([f for p in pairs for f in (p.image, p.mask)])
            for index, pair in enumerate(pairs):
                total.update(pair.name.encode() + both[2 * index] + both[2 * index + 1])
        return total.hexdigest()

    def table_hash(self) -> "hashlib._Hash":
        """sha256 over the class table and how stored ids become classes."""
        c = self.config
        facts = [
            self.classes.names,
            self.classes.ignore,
            sorted(c.label_map.items()),
            c.reduce_zero_label,
            c.mask_format,
        ]
        facts += [self.classes.palette, c.ignore_colors] if c.mask_format.startswith("rgb") else []
        return hashlib.sha256(
            repr((facts, sorted(self.fixes.unrotated), sorted(self.fixes.formats.items()))).encode()
        )

    def group(self, name: str) -> str:
        """The group of an image: images of one stand in one split."""
        if self.config.groups is None:
            return name
        return group_of(
            self.config.groups, name.partition("/")[2] if self._pooled and "/" in name else name
        )

    def short(self, path: Path) -> str:
        """A file relative to root with `/`, where it lies below."""
        return (
            path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        )

    def all_images(self, split: str) -> list[tuple[str, Path]]:
        """(name, file) of the split's images, those in quarantine and such as share a name included."""
        if self.config.splits is None:
            if "{split}" not in self.config.images:
                raise DataError(
                    f"dataset '{self.name}': dataset.images '{self.config.images}' names no {{split}}. Log which image "
                    "belongs to which: dataset.splits.val=0.2, or lists: 'dataset.splits.lists=\"{split}.txt\"'."
                )
            return self._listing(self.folder(self.config.images, split), split)
        if split in self._kept_apart():
            return self._plain.all_images(split)
        if self.config.splits.lists is None:
            names = self._divided().get(split)
            if names is None:
                raise self._no_split(split, f"dataset.splits={self.config.splits.model_dump()}")
            files = self.all_by_name()
            return [(n, files[n]) for n in sorted(names)]
        path = self.folder(self.config.splits.lists, split)
        if not path.is_file():
            raise self._no_split(split, str(path))
        files = self.all_by_name()
        if split in self.fixes.lists:
            return [(n, files[n]) for n in self.fixes.lists[split] if n in files]
        known = {n: f"{n}{p.suffix}" for n, p in files.items()}
        return [(n, files[n]) for n in resolve_names(read_list(path), known, path)]

    def left_out(self, *splits: str) -> set[Path]:
        """Images in quarantine, of some splits or of all."""
        quarantine = self.fixes.quarantine
        return {self.root / image for s in splits or quarantine for image in quarantine.get(s, [])}

    def _images(self, split: str) -> list[tuple[str, Path]]:
        left_out = self.left_out(split)
        found = [(n, p) for n, p in self.all_images(split) if p not in left_out]
        if not found:
            raise DataError(
                f"dataset '{self.name}': split '{split}' is empty: no image in "
                f"'{self.folder(self.config.images, split)}' ({', '.join(IMAGE_SUFFIXES)})"
                + (f" is left after {len(left_out)} in quarantine." if left_out else ".")
            )
        _refuse_twins(self, split, found)
        return found

    def _listing(self, folder: Path, split: str) -> list[tuple[str, Path]]:
        if not folder.is_dir():
            raise self._no_split(split, str(folder))
        end = self.config.image_suffix
        stems = ((f.rpartition(".")[0], folder / f) for f in walk(folder, IMAGE_SUFFIXES))
        return [(stem[: len(stem) - len(end)], p) for stem, p in stems if stem.endswith(end)]

    def _no_split(self, split: str, where: str) -> DataError:
        there = (
            [] if self.config.splits is not None and not self.config.splits.lists else self.splits()
        )
        there = there or list(self._kept.get("divided", []))
        return DataError(
            f"dataset '{self.name}': split '{split}' should lie in '{where}', which does not exist; "
            f"splits there: {', '.join(there) or 'none'}. Set dataset.root, dataset.images or dataset.splits."
        )

    @property
    def _pooled(self) -> bool:
        return self.config.splits is not None and "{split}" in self.config.images

    @property
    def _plain(self) -> "Source":
        """The dataset as its folders divide it."""
        return replace(self, config=self.config.model_copy(update={"splits": None}), _kept={})

    def _kept_apart(self) -> list[str]:
        """The test split, where it has a folder of its own and is not divided anew."""
        wants = self.config.splits
        apart = wants is not None and self._pooled and not wants.lists and not wants.test
        return ["test"] if apart and "test" in self._plain.splits() else []

    def _pools(self) -> list[str]:
        """Splits by folder that are poured together and divided anew."""
        apart = self._kept_apart()
        return [s for s in self._plain.splits() if s not in apart]

    def all_by_name(self) -> dict[str, Path]:
        """Every image, where splits are made by list or by share; a folder's split is part of the name.

        Those in quarantine are left out of shares; a list may name what another list must not.
        """
        if "files" not in self._kept:
            pools = self._pools() if self._pooled else [""]
            listings = {s: self._listing(self.folder(self.config.images, s), s) for s in pools}
            away = set() if self.config.splits and self.config.splits.lists else self.left_out()
            named = (
                (f"{s}/{n}" if s else n, p) for s, listing in listings.items() for n, p in listing
            )
            found = [(n, p) for n, p in named if p not in away]
            _refuse_twins(self, "+".join(pools) or "all", found)
            self._kept["files"] = dict(found)
        return dict(self._kept["files"])

    def _divided(self) -> dict[str, list[str]]:
        config = self.config.splits
        assert config is not None
        if "divided" not in self._kept:
            names = sorted(self.all_by_name())
            if not names:
                raise DataError(
                    f"dataset '{self.name}': no image in '{self.root / self.config.images}' to divide."
                )
            presence = self._presence(names) if config.stratify else None
            self._kept["divided"] = divide(names, [self.group(n) for n in names], config, presence)
        return dict(self._kept["divided"])

    def _presence(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Which classes each image shows, (images, C); kept in the cache folder, for masks are read whole."""
        masks = self.mask_files("")
        missing = [n for n in names if n not in masks]
        if missing:
            raise DataError(
                f"dataset '{self.name}': '{missing[0]}' has no mask; stratify needs that of every image."
            )
        total = self.table_hash()
        for name, digest in zip(names, digests([masks[n] for n in names]), strict=True):
            total.update(name.encode() + digest)
        path = cache_dir() / "presence" / f"{total.hexdigest()[:24]}.npy"
        if not path.is_file():
            forms = {self.root / image: form for image, form in self.fixes.formats.items()}
            files = self.all_by_name()

            def shown(name: str) -> NDArray[np.bool_]:
                ids = self.masks.read(
                    read_bytes(masks[name]), str(masks[name]), forms.get(files[name])
                )
                return np.bincount(ids.ravel(), minlength=256)[: len(self.classes)] > 0

            with ThreadPoolExecutor() as pool:
                rows = list(pool.map(shown, names))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.array(rows))
        return np.asarray(np.load(path), bool)

    def check_command(self) -> str:
        """What finds all faults of the dataset, and writes how to read it in spite of them."""
        return command("check", "--fix", dataset=self.config)


def _refuse_twins(source: Source, split: str, images: Sequence[tuple[str, Path]]) -> None:
    seen: dict[str, Path] = {}
    for name, path in images:
        other = seen.setdefault(name, path)
        if other != path:
            raise DataError(
                f"dataset '{source.name}': split '{split}' holds two images for one mask: '{other}' and '{path}'. "
                f"Remove one, give it another name, or leave one out: {source.check_command()}"
            )


def normal_name(name: str) -> str:
    """A name as file systems compare it that know no case and one form of Unicode: NFC, case folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
