"""The layout of a dataset on disk: the images of each split, and the mask of each image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import splitext
from pathlib import Path

from segtune.classes import ClassTable
from segtune.config.commands import command
from segtune.config.dataset_schema import DatasetConfig, FixesConfig, MaskFormat
from segtune.data.reading.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from segtune.data.reading.masks import MaskReader
from segtune.data.reading.values import Reading
from segtune.data.source import patterns
from segtune.data.source.files import digests
from segtune.data.source.groups import group_of, groups_of_images, joined
from segtune.data.source.lists import read_list, resolve_names
from segtune.data.source.names import (
    NamedImage,
    in_any_form,
    is_preview,
    refuse_twins,
    spelled_as,
)
from segtune.data.source.pairs import Pair, class_presence
from segtune.data.source.patterns import SPLIT, fitting_files, is_narrower
from segtune.data.source.split_words import SPLITS
from segtune.data.source.splits import divide
from segtune.errors import DataError


@dataclass(frozen=True)
class Source:
    """A dataset on disk: its root, its class table, and the layout of its splits.

    Splits are folders, or lists of names, or a new division of the images. Listings are read once
    and then kept.

    Attributes:
        config: with its fixes applied.
    """

    name: str
    root: Path
    classes: ClassTable
    config: DatasetConfig

    @cached_property
    def fixes(self) -> FixesConfig:
        """How to read the dataset in spite of its faults."""
        return self.config.fixes if isinstance(self.config.fixes, FixesConfig) else FixesConfig()

    @cached_property
    def masks(self) -> MaskReader:
        """Turns mask files into class ids."""
        return MaskReader(self.config, self.classes)

    @cached_property
    def reading(self) -> Reading:
        """How image files are read that do not say it themselves."""
        return Reading.of(self.config.model_dump(include={"value_range", "bands", "page"}))

    def folder(self, pattern: str, split: str) -> Path:
        """A split's folder or file for a pattern of the config, as `images/{split}`."""
        return self.root / patterns.top_folder(self._of_split(pattern, split))

    def _of_split(self, pattern: str, split: str) -> str:
        return patterns.of_split(pattern, self.config.folder_names.get(split, split))

    def short(self, path: Path) -> str:
        """A file's path relative to root with `/`; the whole path of a file outside."""
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return str(path)

    def mask_format(self, image: Path) -> MaskFormat | None:
        """How the mask of an image is stored, where that differs from the dataset's other masks."""
        forms = self.fixes.formats
        return forms.get(self.short(image)) if forms else None

    def check_command(self) -> str:
        """The command that finds all faults of the dataset, and writes fixes for them."""
        return command("check", "--fix", dataset=self.config)

    def splits(self) -> list[str]:
        """The splits that exist, train first."""
        if self.config.splits is not None and self.config.splits.lists is None:
            return [*self._division, *self._kept_splits]
        return list(self._named_splits)

    @cached_property
    def _named_splits(self) -> list[str]:
        """The splits that folders or lists name, train first."""
        lists = self.config.splits.lists if self.config.splits is not None else None
        split_of = {folder: split for split, folder in self.config.folder_names.items()}
        names = patterns.splits_in(self.root, lists or self.config.images, of_files=bool(lists))
        if lists and self.config.folder_names:
            names = [name for name in names if name in split_of]  # others are other lists
        else:
            others = [p for p in (self.config.masks, self.config.finer) if p]
            names = patterns.splits_of_images(names, self.config.images, others)
        splits = {split_of.get(name, name) for name in names}
        if not lists:
            splits -= {s for s in splits - {"train", "val"} if not self._is_labelled(s)}
        usual = [split for split in SPLITS if split in splits]
        return usual + sorted(splits.difference(usual))

    def _is_labelled(self, split: str) -> bool:
        """Whether an image of a split's folder has a mask: public sets keep those of test."""
        return not self.all_masks(split).keys().isdisjoint(dict(self._listing(split)))

    def images(self, split: str) -> list[Path]:
        """The split's images, sorted by name.

        Raises:
            DataError: the split does not exist or has no image.
        """
        return [path for _, path in self._usable_images(split)]

    def pairs(self, split: str) -> list[Pair]:
        """The split's image/mask pairs, sorted by name, without those in quarantine.

        Raises:
            DataError: there are no images, images without a mask, or two images for one mask.
        """
        images = self._usable_images(split)
        masks = self.mask_files(split)
        fixed = {self.root / image: self.root / mask for image, mask in self.fixes.pairs.items()}
        lonely = [str(path) for name, path in images if name not in masks and path not in fixed]
        if lonely:
            raise DataError(
                f"dataset '{self.name}': {len(lonely)} of {len(images)} images of split '{split}' "
                f"have no mask in '{self.folder(self.config.masks, split)}', the first is "
                f"'{lonely[0]}'. A mask has its image's name with .png; add the masks, or leave "
                f"the images out: {self.check_command()}"
            )
        self._refuse_twin_masks([name for name, path in images if path not in fixed], split)
        unrotated = {self.root / image for image in self.fixes.unrotated}
        return [
            Pair(
                name,
                path,
                fixed.get(path) or masks[name],
                upright=path not in unrotated,
                form=self.mask_format(path),
            )
            for name, path in images
        ]

    def mask_files(self, split: str) -> dict[str, Path]:
        """Image name -> mask, for every mask in the split's folder."""
        return {name: files[0] for name, files in self.all_masks(split).items()}

    def all_masks(self, split: str) -> dict[str, list[Path]]:
        """Image name -> its masks; more than one where files differ only in their suffix.

        Lossless files come first: a JPEG beside one is taken for a preview.
        """
        config, masks = self.config, dict[str, list[Path]]()
        is_pooled = self._pools_folders and split not in self._kept_splits
        for folder_split in self._pooled_splits if is_pooled else [split]:
            pattern = self._of_split(config.masks, folder_split)
            is_mixed = is_narrower(config.images, config.masks)
            images = {path for _, path in self._listing(folder_split)} if is_mixed else set()
            for name, file in fitting_files(self.root, pattern, MASK_SUFFIXES, config.mask_suffix):
                if file not in images:
                    key = f"{folder_split}/{name}" if is_pooled else name
                    masks.setdefault(key, []).append(file)
        for files in masks.values():
            files.sort(key=is_preview)
        return spelled_as(
            masks, lambda: self.images_by_name if is_pooled else dict(self._listing(split))
        )

    def _refuse_twin_masks(self, names: Sequence[str], split: str) -> None:
        masks = self.all_masks(split)
        for name in names:
            twins = [file for file in masks.get(name, []) if not is_preview(file)]
            if len(twins) > 1:
                raise DataError(
                    f"dataset '{self.name}': '{name}' has two masks, '{self.short(twins[0])}' and "
                    f"'{self.short(twins[1])}'. Remove one, or choose one for each image with "
                    f"dataset.fixes: {self.check_command()}"
                )

    def finer_file(self, split: str, name: str) -> Path:
        """The finer mask of an image.

        Raises:
            DataError: the dataset has none.
        """
        if self.config.finer is None:
            raise DataError(
                f"dataset '{self.name}' has no finer masks. Set dataset.finer to their folder "
                "below root, as finer/{split}. A finer mask has the name and size of its mask; a "
                "pixel holds the index of its finer label within its class."
            )
        if self._pools_folders and split not in self._kept_splits:
            split, _, name = name.partition("/")
        folder, file = self.folder(self.config.finer, split), f"{name}{self.config.mask_suffix}.png"
        return in_any_form(folder, file) or folder / file

    def fingerprint(self, splits: Sequence[str] = ("train", "val")) -> str:
        """sha256 over the splits' names and bytes and the class table; no file is decoded."""
        total = self.table_hash()
        for split in splits:
            pairs = self.pairs(split)
            image_hashes = digests([pair.image for pair in pairs])
            mask_hashes = digests([pair.mask for pair in pairs])
            for pair, image, mask in zip(pairs, image_hashes, mask_hashes, strict=True):
                total.update(pair.name.encode() + image + mask)
        return total.hexdigest()

    def table_hash(self) -> "hashlib._Hash":
        """sha256 over the class table and how stored ids become classes."""
        config = self.config
        facts: list[object] = [
            self.classes.names,
            self.classes.ignore,
            sorted(config.label_map.items()),
            config.reduce_zero_label,
            config.mask_format,
        ]
        if self.reading != Reading():
            facts.append(self.reading.to_json())
        if config.mask_variable is not None:
            facts.append(config.mask_variable)
        if config.mask_format.startswith("rgb"):
            facts += [self.classes.palette, config.ignore_colors]
        fixes = (sorted(self.fixes.unrotated), sorted(self.fixes.formats.items()))
        return hashlib.sha256(repr((facts, *fixes)).encode())

    def group(self, name: str) -> str:
        """The group of an image; images of one group stay in one split."""
        group = self._own_group(name)
        return self._joined_groups.get(group, group)

    def _own_group(self, name: str) -> str:
        if self.config.groups is None:
            return name
        if self._pools_folders and "/" in name:
            name = name.partition("/")[2]
        return group_of(self.config.groups, name)

    @cached_property
    def _joined_groups(self) -> dict[str, str]:
        """Group -> the one that it belongs to, as the fixes join groups."""
        if not self.fixes.groups:
            return {}
        images = [*self.images_by_name.items()] if self.config.splits else []
        for split in [] if self.config.splits else self.splits():
            images += self.all_images(split)
        groups = {path: self._own_group(name) for name, path in images}
        return joined(groups_of_images(self.fixes.groups, self.root, groups))

    def quarantine(self, *splits: str) -> set[Path]:
        """Images that the fixes leave out of some splits, or of any."""
        images: set[Path] = set()
        for split in splits or self.fixes.quarantine:
            images.update(self.root / image for image in self.fixes.quarantine.get(split, []))
        return images

    def all_images(self, split: str) -> list[NamedImage]:
        """The split's images, with those in quarantine and those that share a name."""
        config = self.config.splits
        if config is None:
            return self._folder_images(split)
        if split in self._kept_splits:
            return self._undivided.all_images(split)
        if config.lists is None:
            if split not in self._division:
                where = f"dataset.splits={config.model_dump()}"
                raise self._no_split(split, where, list(self._division))
            return [(name, self.images_by_name[name]) for name in sorted(self._division[split])]
        path = self.folder(config.lists, split)
        if not path.is_file():
            raise self._no_split(split, str(path))
        files = self.images_by_name
        if split in self.fixes.lists:
            return [(name, files[name]) for name in self.fixes.lists[split] if name in files]
        names = resolve_names(read_list(path), self.relative_files(), path)
        return [(name, files[name]) for name in names]

    @cached_property
    def images_by_name(self) -> dict[str, Path]:
        """Every image that a list or a division may name; a folder's split is part of the name.

        A division leaves out the images in quarantine; a list may name what another list must not.
        """
        splits = self._pooled_splits if self._pools_folders else [""]
        is_divided = self.config.splits is None or not self.config.splits.lists
        left_out = self.quarantine() if is_divided else set()
        images = []
        for split in splits:
            for name, path in self._listing(split):
                if path not in left_out:
                    images.append((f"{split}/{name}" if split else name, path))
        refuse_twins(images, self.name, "+".join(splits) or "all", self.check_command())
        return dict(images)

    def relative_files(self) -> dict[str, str]:
        """Image name -> its file below the folder of images, with `/`."""
        suffixes = {name: splitext(path)[1] for name, path in self.images_by_name.items()}
        return {name: f"{name}{suffix}" for name, suffix in suffixes.items()}

    def _usable_images(self, split: str) -> list[NamedImage]:
        """The split's images without those in quarantine."""
        left_out = self.quarantine(split)
        images = [(name, path) for name, path in self.all_images(split) if path not in left_out]
        if not images:
            end = f" is left after {len(left_out)} in quarantine." if left_out else "."
            raise DataError(
                f"dataset '{self.name}': split '{split}' is empty: no image in "
                f"'{self.folder(self.config.images, split)}' ({', '.join(IMAGE_SUFFIXES)}){end}"
            )
        refuse_twins(images, self.name, split, self.check_command())
        return images

    def _folder_images(self, split: str) -> list[NamedImage]:
        if SPLIT not in self.config.images:
            raise DataError(
                f"dataset '{self.name}': dataset.images '{self.config.images}' names no {{split}}. "
                "Say which image belongs to which split: dataset.splits.val=0.2, or lists: "
                "'dataset.splits.lists=\"{split}.txt\"'."
            )
        return self._listing(split)

    def _listing(self, split: str) -> list[NamedImage]:
        config = self.config
        if not self.folder(config.images, split).is_dir():
            raise self._no_split(split, str(self.folder(config.images, split)))
        pattern = self._of_split(config.images, split)
        images = fitting_files(self.root, pattern, IMAGE_SUFFIXES, config.image_suffix)
        if not is_narrower(config.masks, config.images):
            return images
        pattern = self._of_split(config.masks, split)
        masks = {path for _, path in fitting_files(self.root, pattern, MASK_SUFFIXES)}
        return [(name, path) for name, path in images if path not in masks]

    def _no_split(self, split: str, where: str, existing: Sequence[str] = ()) -> DataError:
        config = self.config.splits
        if config is None or config.lists:
            existing = self.splits()
        return DataError(
            f"dataset '{self.name}': split '{split}' should lie in '{where}', which does not "
            f"exist; splits there: {', '.join(existing) or 'none'}. "
            "Set dataset.root, dataset.images or dataset.splits."
        )

    @property
    def _pools_folders(self) -> bool:
        """Whether the images of several splits' folders are divided anew."""
        return self.config.splits is not None and SPLIT in self.config.images

    @cached_property
    def _undivided(self) -> "Source":
        """The dataset as its folders divide it."""
        return replace(self, config=self.config.model_copy(update={"splits": None}))

    @cached_property
    def _kept_splits(self) -> list[str]:
        """The test split, if it has its own folder and `dataset.splits` does not divide it anew."""
        config = self.config.splits
        if config is None or config.lists or config.test or not self._pools_folders:
            return []
        return ["test"] if "test" in self._undivided.splits() else []

    @cached_property
    def _pooled_splits(self) -> list[str]:
        """The splits whose folders are divided anew, together."""
        return [split for split in self._undivided.splits() if split not in self._kept_splits]

    @cached_property
    def _division(self) -> dict[str, list[str]]:
        """Split -> names, as `dataset.splits` divides the images."""
        config = self.config.splits
        assert config is not None
        names = sorted(self.images_by_name)
        if not names:
            folder = self.root / self.config.images
            raise DataError(f"dataset '{self.name}': no image in '{folder}' to divide.")
        groups = [self.group(name) for name in names]
        if not config.stratify:
            return divide(names, groups, config)
        masks = self.mask_files("")
        missing = [name for name in names if name not in masks]
        if missing:
            raise DataError(
                f"dataset '{self.name}': '{missing[0]}' has no mask; "
                "stratify needs that of every image."
            )
        files = self.images_by_name
        pairs = [
            Pair(name, files[name], masks[name], form=self.mask_format(files[name]))
            for name in names
        ]
        presence = class_presence(pairs, self.masks, self.table_hash())
        return divide(names, groups, config, presence)
