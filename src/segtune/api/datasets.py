"""Datasets: check one, rank its labels; and export a segmenter, compared on its dataset."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segtune.config.commands import command, dataset_words, word
from segtune.runtime.log import Log, silent
from segtune.runtime.percent import percent

if TYPE_CHECKING:
    from segtune.config.schema import RunConfig
    from segtune.data.audit import Audit
    from segtune.data.proposal.choice import Ask
    from segtune.evaluation.checked_export import Exported
    from segtune.evaluation.label_issues import LabelIssue


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        audit: all findings.
        page: the HTML page.
        fixes: a file for `dataset.fixes`; None without repairs, or without `fix`.
        advice: how to get a test split, where there is none.
        proposal: how the folder was understood, and why; empty where the config said it.
    """

    audit: "Audit"
    page: Path
    fixes: Path | None
    advice: str = ""
    proposal: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.audit.to_json(),
            "page": str(self.page),
            "fixes": str(self.fixes) if self.fixes else None,
            "advice": self.advice,
            "proposal": list(self.proposal),
        }

    @property
    def next(self) -> str:
        """The command that trains on the dataset, or repairs it; empty where neither works."""
        dataset = self.audit.source.config
        if self.fixes:
            return command("train", *dataset_words(dataset), self._fixes_word)
        if not self.audit.refused:
            return command("train", dataset=dataset)
        return command("check", "--fix", dataset=dataset) if self.audit.fixes() else ""

    @property
    def _fixes_word(self) -> str:
        assert self.fixes is not None
        return word("dataset.fixes", str(self.fixes.absolute()))

    def lines(self) -> list[str]:
        """Return lines for people."""
        source, images = self.audit.source, self.audit.to_json()["images"]
        counts = ", ".join(f"{n} {split}" for split, n in images.items())
        lines = [*self.proposal, f"{source.name}: {counts} images in {source.root}"]
        for finding in self.audit.findings:
            lines += finding.lines()
        lines += [f"note: {note}" for note in self.audit.notes]
        if self.fixes:
            lines.append(f"fixes: add {shlex.quote(self._fixes_word)}")
        lines.append(self._verdict())
        lines += [f"! {self.advice}"] if self.advice else []
        lines.append(f"page: {self.page}")
        return [*lines, f"next: {self.next}"] if self.next else lines

    def _verdict(self) -> str:
        audit = self.audit
        limit = f"dataset.tolerance={audit.source.config.tolerance:g}"
        share = f"{percent(audit.bad)} of a split's images are bad"
        if audit.concerns_all:
            return f"refused: the whole dataset has the fault: {'; '.join(audit.concerns_all)}"
        if audit.refused:
            return f"refused: {share}, more than {limit} allows"
        if audit.bad:
            return f"within tolerance: {share}, and are left out ({limit})"
        return "nothing is wrong"


def check(
    *overrides: str,
    fix: bool = False,
    output: str | Path | None = None,
    say: Log = silent,
    ask: "Ask | None" = None,
) -> Check:
    """Examine a dataset: `check("dataset=folder", "dataset.root=roads").audit.findings`.

    For `dataset=folder` without `classes.yaml`, keys that are not given are taken from the files
    (`segtune.api.proposing`); `Check.proposal` holds them.

    Args:
        fix: write `fixes.yaml`; the files of the dataset stay as they are.
        output: folder of the page; by default `checks/NAME` in the store's root.
        ask: (question, answers) -> place of the chosen answer, for a dataset that can be read in
            several ways; without it, such a dataset is refused.

    Raises:
        SegtuneError: the dataset cannot be opened.
    """
    from segtune.api.proposing import completed
    from segtune.config.compose import compose
    from segtune.data.audit import audit, write_fixes
    from segtune.data.sources import advice_on_test, open_source
    from segtune.report.check_page import write_page

    words, proposal = completed(overrides, say, ask)
    config = compose(words).config
    source = open_source(config.dataset, say)
    findings = audit(source, config.hp["image_size"], say)
    folder = Path(output) if output else _check_folder(config)
    fixes = folder / "fixes.yaml" if fix and findings.fixes() else None
    if fixes:
        write_fixes(findings, fixes)
    lines = tuple(proposal.lines()) if proposal is not None else ()
    return Check(findings, write_page(findings, folder), fixes, advice_on_test(source), lines)


@dataclass(frozen=True)
class Ranking:
    """Images by how much a model contradicts their masks.

    Attributes:
        rows: the most contradicted image first.
        page: an HTML page of the first images.
    """

    rows: "Sequence[LabelIssue]"
    page: Path

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        keys = ("name", "split", "margin", "worst", "out_of_fold", "run")
        images = []
        for row in self.rows:
            images.append({key: getattr(row, key) for key in keys})
        return {"images": images, "page": str(self.page)}

    def lines(self, shown: int = 12) -> list[str]:
        """Return lines for people, one for each of the first images."""
        lines = [f"{'margin':>7}  image (true class, seen as)"]
        for row in self.rows[:shown]:
            seen = f" ({row.worst[0]}, seen as {row.worst[1]})" if row.worst else ""
            trained = "" if row.out_of_fold else " (the model was trained on it)"
            lines.append(f"{row.margin:7.3f}  {row.split}/{row.name}{seen}{trained}")
        return [*lines, f"page: {self.page}"]


def rank_labels(
    runs: Sequence[str],
    *overrides: str,
    output: str | Path | None = None,
    say: Log = silent,
) -> Ranking:
    """Rank images by how much a trained model contradicts their masks.

    `rank_labels(["runs:/ID"]).rows[0]` is the most contradicted image. The dataset is the one that
    the first run recorded, or the one that the overrides name: `"dataset=street"`.

    Args:
        runs: one run, or several, such as one for each fold: then each image is judged by a run
            that was not trained on it.
        output: folder of the page; by default `checks/NAME` in the store's root.

    Raises:
        ConfigError: no such run, or a run with other classes.
    """
    from segtune.config.compose import compose
    from segtune.data.sources import open_source
    from segtune.evaluation.label_issues import rank_label_issues
    from segtune.report.check_page import write_ranking
    from segtune.tracking.recorded import dataset_of
    from segtune.tracking.registry import locate
    from segtune.tracking.store import open_store

    composed = compose(overrides)
    store = open_store(composed.config.tracking)
    dataset = dataset_of(composed, store, locate(runs[0], store).run_id, runs[0])
    config = composed.config.model_copy(update={"dataset": dataset})
    rows = rank_label_issues(config, runs, say)
    folder = Path(output) if output else _check_folder(config)
    return Ranking(rows, write_ranking(rows, open_source(config.dataset), folder))


def _check_folder(config: "RunConfig") -> Path:
    """Return the folder of a dataset's pages, named after the dataset, or after its root."""
    from segtune.data.formats import formats

    name = config.dataset.name
    if name in ("folder", *formats()) and config.dataset.root:
        name = Path(config.dataset.root).name
    return Path(config.tracking.root) / "checks" / name


def export(  # 8 parameters: keyword arguments of the public API
    model: str,
    *overrides: str,
    format: Literal["onnx", "openvino", "int8"] = "onnx",
    output: str | Path | None = None,
    images: int = 50,
    min_agreement: float | None = None,
    overwrite: bool = False,
    say: Log = silent,
) -> "Exported":
    """Write a segmenter as a graph for another runtime: `export("models:/street@champion")`.

    The graph is compared with the segmenter on the dataset that its run recorded, or on the one
    that the overrides name: `"dataset=street"`.

    Args:
        format: `int8` is ONNX in 8 bits, calibrated on train images.
        output: folder; by default `exports/FORMAT` in the working folder.
        images: largest number of val images to compare on, and of train images to calibrate on.
        min_agreement: smallest share of pixels that must get the same class; by default 0.999, for
            int8 0.95.
        overwrite: replace an earlier export.

    Raises:
        SegtuneError: see `segtune.evaluation.checked_export.export_model`.
    """
    from segtune.config.compose import compose
    from segtune.evaluation.checked_export import ExportRequest, export_model

    target = Path(output) if output else Path("exports") / format
    request = ExportRequest(model, format, target, images, min_agreement, overwrite)
    return export_model(compose(overrides), request, say)
