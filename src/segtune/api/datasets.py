"""Datasets as a user meets them, brought into the canonical layout and examined; and what is compared on them."""

import os
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segtune.config.commands import command, dataset_words, word
from segtune.config.compose import compose
from segtune.config.conf_files import members
from segtune.config.dataset_schema import CLASSES_FILE, DatasetConfig
from segtune.config.schema import RunConfig
from segtune.data.audit import Audit, audit, write_fixes
from segtune.data.formats import FORMATS, convert, detect, write
from segtune.data.formats.areas import Annotated, Labelled
from segtune.data.source.archives import is_archive, unpack
from segtune.data.source.download import build_folder
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.data.sources import advice_on_test, open_source
from segtune.errors import ConfigError, DataError, nearest
from segtune.runtime.log import Log

if TYPE_CHECKING:
    from segtune.evaluation.checked_export import Exported
    from segtune.evaluation.label_issues import Dispute

_LAYOUTS = {
    "cityscapes": ("leftImg8bit", "gtFine"),
    "ade20k": ("images/training", "annotations/training"),
    "folder": ("images", "masks"),
}


@dataclass(frozen=True)
class Imported:
    """What an import came to.

    Attributes:
        format: that was read.
        counts: images by split.
        advice: how to have a test split, where there is none.
    """

    format: str
    output: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": self.format, "output": str(self.output), "images": self.counts, "classes": self.classes,
            "advice": self.advice,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        counts = ", ".join(f"{n} {split}" for split, n in sorted(self.counts.items()))
        use = DatasetConfig(name="folder", source="folder", root=str(self.output))
        return [
            f"{self.format}: {counts} images, classes {', '.join(self.classes)}: {self.output}",
            *([f"! {self.advice}"] if self.advice else []),
            f"next: {command('check', dataset=use)}",
        ]


def import_dataset(
    source: str | Path,
    output: str | Path,
    *overrides: str,
    format: str = "auto",
    overwrite: bool = False,
    say: Log = lambda _: None,
) -> Imported:
    """Brings annotations of any known format into the canonical layout: images, index masks, `classes.yaml`, splits.

    Args:
        source: folder, table of pairs, or archive.
        overrides: `dataset.KEY=VALUE`, as `dataset.annotations.order=file` or `dataset.splits.val=0.1`.
        format: one of `segtune.data.formats.FORMATS`, or a dataset whose folders are laid out likewise (cityscapes,
            ade20k, camvid, folder); `auto` looks at the files.

    Raises:
        ConfigError: an unknown format or key, an output that exists, holds the source, or is no earlier import.
        DataError: what cannot be read; nothing is left behind then.
    """
    root, target = (
        Path(os.path.expanduser(source)).absolute(),
        Path(os.path.expanduser(output)).absolute(),
    )
    if not root.exists():
        raise DataError(
            f"'{root}' does not exist. Give the folder, table or archive that holds the annotations."
        )
    if target.exists() and not overwrite:
        raise ConfigError(
            f"output '{target}' exists; choose another folder, or set overwrite=true."
        )
    if target.resolve() in (root.resolve(), *root.resolve().parents):
        raise ConfigError(
            f"output '{target}' holds the source '{root}', which would be lost; choose another folder."
        )
    if target.exists() and not (target / CLASSES_FILE).is_file():
        raise ConfigError(
            f"output '{target}' is no earlier import (it has no {CLASSES_FILE}); choose another folder."
        )
    with tempfile.TemporaryDirectory(prefix="segtune-import-") as room:
        if is_archive(root):
            unpack(root, Path(room))
            root = Path(room)
        name = _format(root, format)
        temporary = target.with_name(f".{target.name}-import")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            counts = _bring(root, temporary, name, overrides, say)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    done = open_source(compose(["dataset=folder", f"dataset.root={target}"]).config.dataset)
    return Imported(name, target, dict(counts), done.classes.names, advice_on_test(done))


def _format(root: Path, wanted: str) -> str:
    layouts = [m for m in members("dataset") if m not in FORMATS and m != "street"]
    if wanted != "auto":
        if wanted not in FORMATS and wanted not in layouts:
            raise ConfigError(f"format={wanted}: {nearest(wanted, [*FORMATS, *layouts, 'auto'])}")
        return wanted
    found = detect(root)
    if found:
        return found
    for name, folders in _LAYOUTS.items():
        if all((root / f).is_dir() for f in folders):
            return name
    raise DataError(
        f"'{root}' holds no annotations that are known: {', '.join(FORMATS)}, or folders like those of "
        f"{', '.join(layouts)}. Log which with format=NAME, or give the folder that holds both images and labels."
    )


def _bring(root: Path, target: Path, name: str, overrides: Sequence[str], say: Log) -> Counter[str]:
    place = f"dataset.root={root}"
    if name in FORMATS:
        config = compose(
            ["dataset=coco", place, f"dataset.annotations.format={name}", *overrides]
        ).config.dataset
        return convert(config, root, target, say)
    opened = open_source(compose([f"dataset={name}", place, *overrides]).config.dataset, say)
    counts: Counter[str] = Counter()
    build_folder(target, lambda folder: counts.update(_rewrite(opened, folder, say)))
    return counts


def _rewrite(source: Source, folder: Path, say: Log) -> Counter[str]:
    """The canonical layout of a dataset that is folders of images and masks already."""
    items = []
    for split in source.splits():
        for pair in source.pairs(split):

            def mask(pair: Any = pair) -> Any:
                return source.masks.read(read_bytes(pair.mask), str(pair.mask), pair.form)

            items.append(Labelled(pair.name, pair.image, split, mask=mask))
    counts = write(Annotated(source.classes.to_json(), items), folder, source.config, say)
    if source.config.finer:
        for item in items:
            assert item.split is not None
            stored = source.finer_file(item.split, item.name)
            target = folder / "finer" / item.split / f"{item.name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, target)
    return counts


@dataclass(frozen=True)
class Check:
    """What a check came to.

    Attributes:
        page: the HTML page.
        fixes: the file that `dataset.fixes` takes, where it was asked for and there is something to fix.
        advice: how to have a test split, where there is none.
    """

    audit: Audit
    page: Path
    fixes: Path | None
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        own = {
            "page": str(self.page),
            "fixes": str(self.fixes) if self.fixes else None,
            "advice": self.advice,
        }
        return {**self.audit.to_json(), **own}

    @property
    def next(self) -> str:
        """The command that trains on it, or repairs it; empty where neither is possible."""
        config = self.audit.source.config
        if self.fixes:
            words = [*dataset_words(config), word("dataset.fixes", str(self.fixes.absolute()))]
            return command("train", *words)
        if not self.audit.refused:
            return command("train", dataset=config)
        return command("check", "--fix", dataset=config) if self.audit.fixes() else ""

    def lines(self) -> list[str]:
        """For people."""
        audit, counts = self.audit, self.audit.to_json()["images"]
        lines = [
            f"{audit.source.name}: {', '.join(f'{n} {s}' for s, n in counts.items())} images in {audit.source.root}"
        ]
        lines += [line for f in audit.findings for line in f.lines()]
        if self.fixes:
            lines.append(
                f"fixes: add {shlex.quote(word('dataset.fixes', str(self.fixes.absolute())))}"
            )
        limit = f"dataset.tolerance is {audit.source.config.tolerance:.0%}"
        verdict = (
            "refused"
            if audit.refused
            else "within tolerance: what cannot be read is left out"
            if audit.bad
            else ""
        )
        lines.append(
            f"{audit.bad:.1%} of a split's images are bad, {verdict} ({limit})"
            if verdict
            else "nothing is wrong"
        )
        lines += [f"! {self.advice}"] if self.advice else []
        return [*lines, f"page: {self.page}", *([f"next: {self.next}"] if self.next else [])]


def check(
    *overrides: str, fix: bool = False, output: str | Path | None = None, say: Log = lambda _: None
) -> Check:
    """Examines a dataset: `check("dataset=folder", "dataset.root=roads").audit.findings`.

    Args:
        fix: writes `fixes.yaml`; no file of the dataset is changed.
        output: folder of the page; by default `checks/NAME` in the store's root.

    Raises:
        SegtuneError: a dataset that cannot be opened at all.
    """
    config = compose(overrides).config
    source = open_source(config.dataset, say)
    done = audit(source, config.hp["image_size"], say)
    folder = Path(output) if output else _check_folder(config)
    fixes = folder / "fixes.yaml" if fix and done.fixes() else None
    if fixes:
        write_fixes(done, fixes)
    from segtune.report.check_page import write_page

    return Check(done, write_page(done, folder), fixes, advice_on_test(source))


@dataclass(frozen=True)
class Ranking:
    """Images by how much a model disputes their truth.

    Attributes:
        rows: the most disputed first.
        page: HTML with the first of them.
    """

    rows: "Sequence[Dispute]"
    page: Path

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        keys = ("name", "split", "margin", "worst", "out_of_fold", "run")
        return {
            "images": [{k: getattr(r, k) for k in keys} for r in self.rows],
            "page": str(self.page),
        }

    def lines(self, shown: int = 12) -> list[str]:
        """For people."""
        lines = [f"{'margin':>7}  image (true class, seen as)"]
        for row in self.rows[:shown]:
            seen = f" ({row.worst[0]}, seen as {row.worst[1]})" if row.worst else ""
            lines.append(
                f"{row.margin:7.3f}  {row.split}/{row.name}{seen}{'' if row.out_of_fold else ' (was trained on it)'}"
            )
        return [*lines, f"page: {self.page}"]


def rank_labels(
    runs: Sequence[str],
    *overrides: str,
    output: str | Path | None = None,
    say: Log = lambda _: None,
) -> Ranking:
    """The images whose truth a trained model disputes most: `rank_labels(["runs:/ID"]).rows[0]`.

    Of the dataset that the first run recorded, unless the overrides name another: `"dataset=street"`.

    Args:
        runs: of several, as one for each fold, each image is judged by one that was trained without it.
        output: folder of the page; by default `checks/NAME` in the store's root.

    Raises:
        ConfigError: no such run, or one of other classes.
    """
    from segtune.evaluation.label_issues import rank_disputes
    from segtune.report.check_page import write_ranking
    from segtune.tracking.recorded import dataset_of
    from segtune.tracking.registry import locate
    from segtune.tracking.store import open_store

    composed = compose(overrides)
    store = open_store(composed.config.tracking)
    dataset = dataset_of(composed, store, locate(runs[0], store).run_id, runs[0])
    config = composed.config.model_copy(update={"dataset": dataset})
    rows = rank_disputes(config, runs, say)
    folder = Path(output) if output else _check_folder(config)
    return Ranking(rows, write_ranking(rows, open_source(config.dataset), folder))


def export(
    model: str,
    *overrides: str,
    format: str = "onnx",
    output: str | Path | None = None,
    images: int = 50,
    min_agreement: float | None = None,
    overwrite: bool = False,
    say: Log = lambda _: None,
) -> "Exported":
    """Writes a segmenter as a graph for another runtime: `export("models:/street@champion")`.

    Compared on the dataset that its run recorded, unless the overrides name another: `"dataset=street"`.

    Args:
        format: onnx, openvino or int8 (ONNX, calibrated on train images).
        output: folder; by default `exports/FORMAT` under the current one.
        images: of val, how many to compare on, and of train, to calibrate on; at most.
        min_agreement: least share of pixels of the same class; by default 0.999, of int8 0.95.

    Raises:
        SegtuneError: see `segtune.evaluation.checked_export.export_model`.
    """
    from segtune.evaluation.checked_export import export_model

    target = Path(output) if output else Path("exports") / format
    return export_model(
        compose(overrides), model, format, target, images, min_agreement, overwrite, say
    )


def _check_folder(config: RunConfig) -> Path:
    """Where a dataset's pages lie: by its name, or that of its folder where it has none of its own."""
    name = config.dataset.name
    if name in ("folder", *FORMATS) and config.dataset.root:
        name = Path(config.dataset.root).name
    return Path(config.tracking.root) / "checks" / name
