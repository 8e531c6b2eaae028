"""Make a dataset usable: repairs of faulty files, and a val split where there is none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segtune.automatic.decisions import Decision
from segtune.automatic.facts import examine_dataset, refuse_too_few
from segtune.config.commands import word
from segtune.config.compose import compose
from segtune.data.audit import Audit, write_fixes
from segtune.data.audit.findings import KINDS, Finding
from segtune.data.source.layout import Source
from segtune.data.sources import open_source
from segtune.errors import DataError
from segtune.runtime.log import Log

_VAL_SHARE = 0.2
_BORNE = ("duplicate", "near_duplicate", "empty_class")
"""Kinds of errors with which a training starts all the same."""


@dataclass(frozen=True)
class UsableDataset:
    """A dataset on which a training can start.

    Attributes:
        words: overrides, with those that repair and divide the dataset.
        audit: its check.
    """

    words: list[str]
    decisions: list[Decision]
    audit: Audit


def usable(words: Sequence[str], folder: Path, say: Log) -> UsableDataset:
    """Check a dataset, and add the words without which no training can start on it.

    Args:
        folder: for a file with repairs.

    Raises:
        DataError: the dataset has faults that no repair removes.
    """
    composed = compose(words)
    image_size = composed.config.hp["image_size"]
    source = open_source(composed.config.dataset, say)
    refuse_too_few(source)
    decisions = _division(source)
    found = examine_dataset(_divided(source, words, decisions), image_size, say)
    for finding in found.findings:
        say(finding.lines(shown=1)[0])
    if found.refused and _blocking(found):
        decisions.append(_repair(replace(found, findings=_blocking(found)), folder))
        found = examine_dataset(_divided(source, words, decisions), image_size, say)
    added = [text for decision in decisions for text in decision.words]
    return UsableDataset([*words, *added], decisions, found)


def _divided(source: Source, words: Sequence[str], decisions: Sequence[Decision]) -> Source:
    """The dataset with the decisions applied."""
    added = [text for decision in decisions for text in decision.words]
    return open_source(compose([*words, *added]).config.dataset) if added else source


def _blocking(found: Audit) -> list[Finding]:
    return [f for f in found.findings if f.severity == "error" and f.kind not in _BORNE]


def _repair(found: Audit, folder: Path) -> Decision:
    """Write the repairs of all findings.

    Raises:
        DataError: there are none, or there were repairs already.
    """
    path, kinds = folder / "fixes.yaml", _described(found.findings)
    if found.source.config.fixes is not None or not found.fixes():
        raise DataError(
            f"dataset '{found.source.name}' cannot be trained on: {kinds}. See which files, and "
            f"the repairs: {found.source.check_command()}"
        )
    write_fixes(found, path)
    repair = word("dataset.fixes", str(path.absolute()))
    return Decision("repairs", str(path), f"the check found {kinds}", (repair,))


def _described(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{KINDS[f.kind].description} ({len(f.files)})" for f in findings)


def _division(source: Source) -> list[Decision]:
    """The division into train and val, for a dataset that does not have both."""
    splits = source.splits()
    if "train" in splits and "val" in splits:
        return []
    if not splits:
        return []  # the check names what is missing
    share = word("dataset.splits.val", _VAL_SHARE)
    groups = "whole groups" if source.config.groups is not None else "single images"
    reason = f"there is no val split: the images are divided by {groups}, with seed 0"
    return [Decision("val", f"{100 * _VAL_SHARE:.0f} % of the images", reason, (share,))]
