"""The check of a dataset: its names, files, duplicates and classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from segtune.config.dataset_schema import NOTES_FILE
from segtune.data.audit.classes import check_classes
from segtune.data.audit.duplicates import check_duplicates
from segtune.data.audit.examine import PairFacts, examine_all
from segtune.data.audit.files import check_files
from segtune.data.audit.findings import KINDS, Finding, merge
from segtune.data.audit.names import check_names
from segtune.data.audit.suffixes import no_image, passed_over
from segtune.data.source.layout import Source
from segtune.data.source.text import read_lines
from segtune.errors import DataError
from segtune.runtime.log import Log, silent
from segtune.runtime.progress import ProgressReporter

_CONCERN_ALL = ("empty_class", "foreign_path", "list_entry")
"""Kinds of faults that no image can be left out for."""


@dataclass(frozen=True)
class Audit:
    """The result of a check.

    Attributes:
        facts: of every pair.
        findings: errors first.
        image_size: at which small classes were counted.
        notes: on shapes that were left out, or that others hide, when annotations were converted.
    """

    source: Source
    splits: Sequence[str]
    facts: Sequence[PairFacts]
    findings: Sequence[Finding]
    image_size: Sequence[int]
    notes: Sequence[str] = ()

    @property
    def bad(self) -> float:
        """Largest share, over the splits, of images with an error.

        Training counts in the same way: each split must keep to `dataset.tolerance`.
        """
        totals = Counter(pair.split for pair in self.facts)
        bad = Counter(split for split, _ in _bad_images(self.findings, self.facts, self.source))
        return max((bad[split] / total for split, total in totals.items()), default=0.0)

    @property
    def refused(self) -> bool:
        """Whether more is bad than `dataset.tolerance` allows, or a fault concerns all images."""
        return bool(self.concerns_all) or self.bad > self.source.config.tolerance

    @property
    def concerns_all(self) -> list[str]:
        """The descriptions of faults that concern all images."""
        kinds = {f.kind for f in self.findings} & set(_CONCERN_ALL)
        return [KINDS[kind].description for kind in sorted(kinds)]

    def fixes(self) -> dict[str, Any]:
        """The fixes of all findings, merged."""
        merged: dict[str, Any] = {}
        for finding in self.findings:
            merged = merge(merged, finding.fixes)
        return merged

    def counts(self, split: str) -> NDArray[np.int64]:
        """Pixels of each class in a split, (C,)."""
        rows = [p.counts for p in self.facts if p.split == split and p.counts is not None]
        return np.sum(rows, axis=0) if rows else np.zeros(len(self.source.classes), np.int64)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        names = self.source.classes.names
        images = Counter(pair.split for pair in self.facts)
        return {
            "dataset": self.source.name,
            "root": str(self.source.root),
            "image_size": list(self.image_size),
            "images": {split: images[split] for split in self.splits},
            "pixels": {
                split: dict(zip(names, self.counts(split).tolist(), strict=True))
                for split in self.splits
            },
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            "bad": round(self.bad, 4),
            "refused": self.refused,
        }


def audit(source: Source, image_size: Sequence[int], say: Log = silent) -> Audit:
    """Examine all splits.

    Raises:
        DataError: the dataset has no split.
    """
    splits = source.splits()
    if not splits:
        raise DataError(
            f"dataset '{source.name}': '{source.root / source.config.images}' holds no split. "
            "Set dataset.root, dataset.images or dataset.splits."
        )
    pairs, name_findings = check_names(source, splits)
    if not pairs:
        raise no_image(source, splits)
    name_findings += passed_over(source, splits)
    with ProgressReporter(say) as progress:
        borders = examine_all(
            source, pairs, image_size, lambda done, total: progress("pairs examined", done, total)
        )
    findings = check_files(source, pairs, borders) + name_findings
    findings += check_duplicates(source, splits, pairs)
    bad = _bad_images(findings, pairs, source)
    good = [p for p in pairs if p.counts is not None and (p.split, p.name) not in bad]
    if len(good) > len(pairs) / 2:  # else all classes are probably read wrongly
        findings += check_classes(source, splits, good, image_size)
    findings.sort(key=lambda finding: finding.severity != "error")
    path = source.root / NOTES_FILE
    notes = read_lines(path) if path.is_file() else []
    return Audit(source, splits, pairs, findings, image_size, notes)


def write_fixes(audit: Audit, path: Path) -> None:
    """Write the file that `dataset.fixes` takes."""
    head = (
        f"# How to read the dataset '{audit.source.name}' in spite of its faults: "
        f"dataset.fixes={path}\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(audit.fixes(), sort_keys=False, allow_unicode=True)
    path.write_text(head + text, encoding="utf-8")


def _bad_images(
    findings: Sequence[Finding], pairs: Sequence[PairFacts], source: Source
) -> set[tuple[str, str]]:
    """(split, name) of the images with an error; of duplicates, only those to be left out."""
    files: set[str] = set()
    for finding in findings:
        if finding.severity == "error":
            files |= _bad_files(finding)
    bad = set()
    for pair in pairs:
        if source.short(pair.image) in files or (pair.mask and source.short(pair.mask) in files):
            bad.add((pair.split, pair.name))
    return bad


def _bad_files(finding: Finding) -> set[str]:
    if finding.kind == "near_duplicate":
        return set(finding.files[::2])
    if finding.kind != "duplicate":
        return set(finding.files)
    return set().union(*finding.fixes["quarantine"].values())
