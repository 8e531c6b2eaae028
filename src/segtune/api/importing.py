"""Import: convert annotations of any known format into the canonical layout."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.config.commands import command, word
from segtune.errors import ConfigError, DataError, SegtuneError, nearest
from segtune.runtime.atomic import atomic_folder
from segtune.runtime.log import Log, silent

if TYPE_CHECKING:
    from segtune.data.source.layout import Source

_LAYOUTS = {
    "cityscapes": ("leftImg8bit", "gtFine"),
    "ade20k": ("images/training", "annotations/training"),
    "folder": ("images", "masks"),
}
"""Dataset -> folders by which its layout is recognised."""


_TEXTS = (".txt", ".md", ".rst", ".html", ".pdf", "")


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Attributes:
        format: format of the annotations.
        output: folder of the new dataset.
        counts: images by split.
        classes: names of the classes.
        advice: how to get a test split, where there is none.
    """

    format: str
    output: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": self.format,
            "output": str(self.output),
            "images": self.counts,
            "classes": self.classes,
            "advice": self.advice,
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        from segtune.config.dataset_schema import DatasetConfig

        counts = ", ".join(f"{n} {split}" for split, n in sorted(self.counts.items()))
        dataset = DatasetConfig(name="folder", source="folder", root=str(self.output))
        return [
            f"{self.format}: {counts} images, classes {', '.join(self.classes)}: {self.output}",
            *([f"! {self.advice}"] if self.advice else []),
            f"next: {command('check', dataset=dataset)}",
        ]


def import_dataset(
    source: str | Path,
    output: str | Path,
    *overrides: str,
    format: str = "auto",
    overwrite: bool = False,
    say: Log = silent,
) -> Imported:
    """Convert annotations of any known format into images, index masks, `classes.yaml` and splits.

    Args:
        source: folder, table of pairs, or archive.
        output: folder to write.
        overrides: `dataset.KEY=VALUE`, as `dataset.annotations.order=file` or
            `dataset.splits.val=0.1`.
        format: one of `segtune.data.formats.formats`, or a dataset with the same folders
            (cityscapes, ade20k, camvid, folder); `auto` looks at the files.
        overwrite: replace an earlier import.

    Raises:
        ConfigError: an unknown format or key; or an output that exists, that contains the source,
            or that is no earlier import.
        DataError: files that cannot be read; the import then leaves nothing behind.
    """
    root = Path(os.path.expanduser(source)).absolute()
    target = Path(os.path.expanduser(output)).absolute()
    _check_folders(root, target, overwrite)
    from segtune.config.compose import compose
    from segtune.data.source.archives import is_archive, refuse_unread_archive, unpack
    from segtune.data.sources import advice_on_test, open_source

    refuse_unread_archive(root)

    with (
        tempfile.TemporaryDirectory(prefix="segtune-import-") as unpacked,
        _named_in_messages(root, unpacked, say) as say,
    ):
        if is_archive(root):
            unpack(root, Path(unpacked))
            root = Path(unpacked)
        root, name = _find_format(root, format)
        with atomic_folder(target, overwrite=True) as unfinished:
            counts = _convert(root, unfinished, name, overrides, say)
    dataset = compose(["dataset=folder", word("dataset.root", str(target))]).config.dataset
    imported = open_source(dataset)
    return Imported(name, target, dict(counts), imported.classes.names, advice_on_test(imported))


def _check_folders(root: Path, target: Path, overwrite: bool) -> None:
    from segtune.config.dataset_schema import CLASSES_FILE

    if not root.exists():
        raise DataError(
            f"'{root}' does not exist. Give the folder, table or archive with the annotations."
        )
    if target.exists() and not overwrite:
        raise ConfigError(
            f"output '{target}' exists; choose another folder, or set overwrite=true."
        )
    if target.resolve() in (root.resolve(), *root.resolve().parents):
        raise ConfigError(
            f"output '{target}' contains the source '{root}', which would be deleted; choose "
            "another folder."
        )
    if target.exists() and not (target / CLASSES_FILE).is_file():
        raise ConfigError(
            f"output '{target}' is no earlier import (it has no {CLASSES_FILE}); choose another "
            "folder."
        )


@contextmanager
def _named_in_messages(archive: Path, unpacked: str, say: Log) -> Iterator[Log]:
    """Name the archive, in all that is said, where a file was unpacked into a temporary folder."""

    def named(text: str) -> str:
        return text.replace(unpacked, str(archive))

    try:
        yield lambda text: say(named(text))
    except SegtuneError as error:
        if unpacked not in str(error):
            raise
        raise type(error)(named(str(error))) from None


def _find_format(root: Path, format: str) -> tuple[Path, str]:
    """Return the folder of the data, and the name of its format or of a dataset of its layout.

    The folder is the one given, or the only one in it, as many archives have it.
    """
    from segtune.config.conf_files import members
    from segtune.data.formats import formats
    from segtune.data.formats.contents import contents
    from segtune.data.source.archives import archives_in

    layouts = [m for m in members("dataset") if m not in formats() and m != "street"]
    if format != "auto" and format not in formats() and format not in layouts:
        raise ConfigError(f"format={format}: {nearest(format, [*formats(), *layouts, 'auto'])}")
    for folder in _only_folders(root):
        name = _format_in(folder, format)
        if name is not None:
            return folder, name
    if format != "auto":
        return root, format
    inner = archives_in(root) if root.is_dir() else []
    if inner:
        raise DataError(
            f"'{root}' holds no annotations of its own, but the archives {', '.join(inner[:5])}. "
            "Unpack them, and give the folder of all."
        )
    raise DataError(
        f"'{root}' holds no annotations of a known format: {', '.join(formats())}, and no folders "
        f"like those of {', '.join(layouts)}. It holds {contents(root)}. Name the format with "
        "format=NAME, or give the folder that holds both images and labels."
    )


def _only_folders(root: Path) -> list[Path]:
    """A folder, and those inside it that are alone in their folder, but for texts to read."""
    folders = [root]
    while folders[-1].is_dir():
        inside = [path for path in folders[-1].iterdir() if path.name[0] not in "._"]
        data = [p for p in inside if p.is_dir() or p.suffix.lower() not in _TEXTS]
        if len(data) != 1 or not data[0].is_dir():
            break
        folders.append(data[0])
    return folders


def _format_in(root: Path, format: str) -> str | None:
    """Return the format that the files in a folder have, if a user named it or none; else None."""
    from segtune.data.formats import detect, formats

    if format in formats():
        return format if formats()[format].find_files(root) else None
    detected = detect(root) if format == "auto" else None
    if detected:
        return detected
    for name, folders in _LAYOUTS.items():
        if format in ("auto", name) and all((root / folder).is_dir() for folder in folders):
            return name
    return None


def _convert(
    root: Path, target: Path, name: str, overrides: Sequence[str], say: Log
) -> Counter[str]:
    """Write the dataset in the canonical layout; return the number of images by split."""
    from segtune.config.compose import compose
    from segtune.data.formats import formats
    from segtune.data.formats.canonical import convert
    from segtune.data.formats.contents import contents
    from segtune.data.source.download import build_folder
    from segtune.data.sources import open_source

    root_word = word("dataset.root", str(root))
    if name in formats():
        words = ["dataset=coco", root_word, f"dataset.annotations.format={name}"]
        return convert(compose([*words, *overrides]).config.dataset, root, target, say)
    words = [f"dataset={name}", root_word, *overrides]
    dataset = compose(words).config.dataset
    if name == "folder" and dataset.splits is None and _lies_flat(root, dataset.images):
        flat = ["dataset.images=images", "dataset.masks=masks", "dataset.splits.val=0.2"]
        say(f"images and masks lie in no folders of splits: a fifth become val ({' '.join(flat)})")
        dataset = compose([*words, *flat]).config.dataset
    source = open_source(dataset, say)
    if not source.splits():
        raise DataError(
            f"'{root}' holds {contents(root)}, but no split in '{dataset.images}'. Name the "
            "folders: 'dataset.images=\"images/{split}\"' 'dataset.masks=\"masks/{split}\"', or, "
            "for folders without splits, dataset.images=images dataset.masks=masks "
            "dataset.splits.val=0.2"
        )
    counts: Counter[str] = Counter()
    build_folder(target, lambda folder: counts.update(_rewrite(source, folder, say)))
    return counts


def _lies_flat(root: Path, images: str) -> bool:
    """Whether the usual folder of images holds these itself, and no folders of splits."""
    from segtune.data.reading.images import IMAGE_SUFFIXES
    from segtune.data.source.files import walk

    files = list(walk(root / "images", IMAGE_SUFFIXES))
    return images == "images/{split}" and bool(files) and all("/" not in file for file in files)


def _rewrite(source: "Source", folder: Path, say: Log) -> Counter[str]:
    """Write a dataset that has folders of images and masks in the canonical layout."""
    from segtune.data.formats.areas import Annotations, LabelledImage
    from segtune.data.formats.canonical import write_canonical
    from segtune.data.source.files import read_bytes

    items = []
    for split in source.splits():
        for pair in source.pairs(split):

            def mask(pair: Any = pair) -> Any:
                return source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form)

            items.append(LabelledImage(pair.name, pair.image, split, mask=mask))
    counts = write_canonical(
        Annotations(source.classes.to_json(), items), folder, source.config, say
    )
    if source.config.finer:
        for item in items:
            assert item.split is not None
            stored = source.finer_file(item.split, item.name)
            target = folder / "finer" / item.split / f"{item.name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, target)
    return counts
