"""Import: convert annotations of any known format into the canonical layout."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.api.import_job import ImportJob
from segtune.api.proposing import given_keys
from segtune.config.commands import command, word
from segtune.errors import ConfigError, DataError, SegtuneError, nearest
from segtune.runtime.atomic import atomic_folder
from segtune.runtime.log import Log, silent
from segtune.runtime.temporary import temporary_folder

if TYPE_CHECKING:
    from segtune.data.proposal.choice import Ask
    from segtune.data.proposal.proposal import Proposal

_LAYOUTS = {
    "cityscapes": ("leftImg8bit", "gtFine"),
    "ade20k": ("images/training", "annotations/training"),
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
        proposal: words of the command line that say how folders of images and masks were read;
            empty for a known format.
        picture: three samples as they were read, beside the output; None for a known format.
        is_dry: nothing was written but the picture.
        left_out: images of the source that have no mask.
    """

    format: str
    output: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    advice: str = ""
    proposal: tuple[str, ...] = ()
    picture: Path | None = None
    is_dry: bool = False
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "format": self.format,
            "output": str(self.output),
            "images": self.counts,
            "classes": self.classes,
            "advice": self.advice,
            "proposal": list(self.proposal),
            "picture": str(self.picture) if self.picture else None,
            "dry_run": self.is_dry,
            "left_out": list(self.left_out),
        }

    def lines(self) -> list[str]:
        """Return lines for people."""
        from segtune.config.dataset_schema import DatasetConfig

        counts = ", ".join(f"{n} {split}" for split, n in sorted(self.counts.items()))
        images = f"{self.format}: {counts} images, classes {', '.join(self.classes)}"
        shown = [f"samples: {self.picture}"] if self.picture else []
        if self.left_out:
            total = sum(self.counts.values()) + len(self.left_out)
            shown.append(
                f"! {len(self.left_out)} of {total} images have no mask and are left out, as "
                f"'{self.left_out[0]}'"
            )
        if self.is_dry:
            return [images, *shown, f"nothing was written to {self.output} (dry_run)"]
        dataset = DatasetConfig(name="folder", source="folder", root=str(self.output))
        return [
            f"{images}: {self.output}",
            *shown,
            *([f"! {self.advice}"] if self.advice else []),
            f"next: {command('check', dataset=dataset)}",
        ]


def import_dataset(
    source: str | Path,
    output: str | Path,
    *overrides: str,
    format: str = "auto",
    overwrite: bool = False,
    dry_run: bool = False,
    say: Log = silent,
    ask: "Ask | None" = None,
) -> Imported:
    """Convert annotations of any known format into images, index masks, `classes.yaml` and splits.

    Folders of images and masks in any layout are read too: what was understood of them is said, as
    the `dataset.*` words that mean the same.

    Args:
        source: folder, table of pairs, or archive.
        output: folder to write.
        overrides: `dataset.KEY=VALUE`, as `dataset.annotations.order=file` or
            `dataset.splits.val=0.1`.
        format: one of `segtune.data.formats.formats`, or a dataset with the same folders
            (cityscapes, ade20k, camvid, folder); `auto` looks at the files.
        overwrite: replace an earlier import.
        dry_run: only say what would be imported, and draw the picture of samples.
        ask: (question, answers) -> place of the chosen answer, for folders that can be read in
            several ways; without it, these are refused.

    Raises:
        ConfigError: an unknown format or key; an output that exists, that contains the source, or
            that is no earlier import; or a folder that can be read in several ways.
        DataError: files that cannot be read; the import then leaves nothing behind.
    """
    root = Path(os.path.expanduser(source)).absolute()
    target = Path(os.path.expanduser(output)).absolute()
    _check_folders(root, target, overwrite)
    from segtune.data.source.archives import is_archive, refuse_unread_archive, unpack

    refuse_unread_archive(root)
    with (
        temporary_folder() as unpacked,
        _named_in_messages(root, str(unpacked), say) as say,
    ):
        if is_archive(root):
            unpack(root, unpacked)
            root = unpacked
        job = _find_job(root, format, overrides, say, ask)
        picture = job.write_picture(target)
        if dry_run:
            counts, names = job.plan()
            planned = Imported(job.format, target, counts, names, "", job.proposed, picture, True)
            return replace(planned, left_out=job.left_out)
        return replace(_imported(job, target, picture, say), left_out=job.left_out)


def _imported(job: ImportJob, target: Path, picture: Path | None, say: Log) -> Imported:
    """Write the dataset; after an error neither it nor the picture is left."""
    from segtune.config.compose import compose
    from segtune.data.sources import advice_on_test, open_source

    try:
        with atomic_folder(target, overwrite=True) as unfinished:
            counts = job.convert(unfinished, say)
    except BaseException:
        if picture is not None:
            picture.unlink(missing_ok=True)
        raise
    dataset = compose(["dataset=folder", word("dataset.root", str(target))]).config.dataset
    source = open_source(dataset)
    advice = advice_on_test(source)
    return Imported(
        job.format, target, dict(counts), source.classes.names, advice, job.proposed, picture
    )


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


def _find_job(
    root: Path, format: str, overrides: Sequence[str], say: Log, ask: "Ask | None"
) -> ImportJob:
    """What is to be read, and how: a known format, a known layout, or what the finder proposes.

    Raises:
        ConfigError: an unknown format, or a folder that can be read in several ways.
        DataError: no format and no pairs of images and masks are found.
    """
    from segtune.config.conf_files import members
    from segtune.data.formats import formats

    layouts = [m for m in members("dataset") if m not in formats() and m != "street"]
    if format != "auto" and format not in formats() and format not in layouts:
        raise ConfigError(f"format={format}: {nearest(format, [*formats(), *layouts, 'auto'])}")
    for folder in _only_folders(root):
        name = _format_in(folder, format)
        if name is not None:
            return ImportJob(folder, name, tuple(overrides))
    if format not in ("auto", "folder"):
        return ImportJob(root, format, tuple(overrides))
    proposal = _proposal(root, overrides, say, ask) if root.is_dir() else None
    if proposal is not None:
        return ImportJob(root, "folder", (*overrides, *proposal.words()), proposal)
    if format == "folder" or any(text.startswith("dataset.fixes=") for text in overrides):
        return ImportJob(root, "folder", tuple(overrides))
    raise _unknown(root, layouts)


def _proposal(
    root: Path, overrides: Sequence[str], say: Log, ask: "Ask | None"
) -> "Proposal | None":
    """How the finder reads folders of images and masks, said to the user."""
    from segtune.config.compose import compose
    from segtune.data.proposal.proposal import propose

    words = ["dataset=folder", word("dataset.root", str(root)), *overrides]
    config = compose(words).config.dataset
    if config.fixes is not None:
        return None  # a check has read the folder with the given keys
    proposal = propose(config, given_keys(config), say, ask)
    for line in proposal.lines() if proposal is not None else ():
        say(line)
    return proposal


def _unknown(root: Path, layouts: Sequence[str]) -> DataError:
    """The error for a source that nothing reads: what it holds, and why each reader said no."""
    from segtune.data.formats import formats
    from segtune.data.formats.contents import contents
    from segtune.data.source.archives import archives_in

    if root.is_file():
        return DataError(
            f"'{root}' is a file, and {contents(root)}. Give the folder that holds annotations and "
            f"images, as '{root.parent}', or an archive of it (zip, tar)."
        )
    inner = archives_in(root)
    if inner:
        return DataError(
            f"'{root}' holds no annotations of its own, but the archives {', '.join(inner[:5])}. "
            "Unpack them, and give the folder of all."
        )
    reasons = [f"  {name}: no {fmt.declared.sought}" for name, fmt in formats().items()]
    reasons.append(
        "  folder: no two groups of files of the same names, one of which looks like masks"
    )
    return DataError(
        f"'{root}' holds no annotations of a known format: {', '.join(formats())}, and no "
        f"folders like those of {', '.join(layouts)}. It holds {contents(root)}. Name the format "
        "with format=NAME, or give the folder that holds both images and labels.\n"
        + "\n".join(["Not found:", *reasons])
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
    if format in ("auto", "folder") and _is_imported(root):
        return "folder"
    for name, folders in _LAYOUTS.items():
        if format in ("auto", name) and all((root / folder).is_dir() for folder in folders):
            return name
    return None


def _is_imported(root: Path) -> bool:
    """Whether a folder has the layout that an import writes, which states all by itself."""
    from segtune.config.dataset_schema import CLASSES_FILE

    has_folders = (root / "images").is_dir() and (root / "masks").is_dir()
    return has_folders and (root / CLASSES_FILE).is_file()
