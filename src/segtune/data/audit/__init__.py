"""The check of a dataset: every file is read once, then names, splits, duplicates and classes are looked at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.data.audit import rules
from segtune.data.audit.examine import PairFacts, examine_all
from segtune.data.audit.findings import Finding, merge
from segtune.data.audit.names import look_at_names
from segtune.data.source.layout import Source
from segtune.errors import DataError
from segtune.runtime.log import Log
from segtune.runtime.progress import ProgressReporter

NEAR = 56
"""Bits of 256 in which the hashes of near duplicates differ at most; see `perceptual_hash`."""

_FEW_IMAGES, _FEW_PIXELS = 3, 16


@dataclass(frozen=True)
class Audit:
    """What a check came to.

    Attributes:
        facts: of every pair.
        findings: errors first.
        image_size: at which the pixels were counted.
    """

    source: Source
    splits: Sequence[str]
    facts: Sequence[PairFacts]
    findings: Sequence[Finding]
    image_size: Sequence[int]

    @property
    def bad(self) -> float:
        """Share of a split's images that an error concerns, of the split where it is largest.

        Training counts in the same way: each split has to keep to `dataset.tolerance`.
        """
        errors = [f for f in self.findings if f.severity == "error"]
        bad = {image for f in errors for image in _concerned(f, self.facts, self.source)}
        total = Counter(fact.split for fact in self.facts)
        found = Counter(split for split, _ in bad)
        return max((found[split] / total[split] for split in total), default=0.0)

    @property
    def refused(self) -> bool:
        """Whether more is bad than `dataset.tolerance` lets pass, or a fault concerns the whole dataset."""
        whole = any(f.kind in ("empty_class", "foreign_path", "list_entry") for f in self.findings)
        return whole or self.bad > self.source.config.tolerance

    def fixes(self) -> dict[str, Any]:
        """All fixes in one; what is left out needs no other fix."""
        merged: dict[str, Any] = {}
        for finding in self.findings:
            merged = merge(merged, finding.fixes)
        return merged

    def counts(self, split: str) -> NDArray[np.int64]:
        """Pixels of each class in a split, (C,)."""
        rows = [f.counts for f in self.facts if f.split == split and f.counts is not None]
        return np.sum(rows, axis=0) if rows else np.zeros(len(self.source.classes), np.int64)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        names = self.source.classes.names
        shares = {s: dict(zip(names, self.counts(s).tolist(), strict=True)) for s in self.splits}
        return {
            "dataset": self.source.name, "root": str(self.source.root), "image_size": list(self.image_size),
            "images": {s: sum(f.split == s for f in self.facts) for s in self.splits}, "pixels": shares,
            "findings": [f.to_json() for f in self.findings], "bad": round(self.bad, 4), "refused": self.refused,
        }  # fmt: skip


def audit(source: Source, image_size: Sequence[int], say: Log = lambda _: None) -> Audit:
    """Examines all splits.

    Raises:
        DataError: no split at all.
    """
    splits = source.splits()
    if not splits:
        raise DataError(
            f"dataset '{source.name}': '{source.root / source.config.images}' holds no split. "
            "Set dataset.root, dataset.images or dataset.splits."
        )
    wanted, found = look_at_names(source, splits)
    with ProgressReporter(say) as pace:
        facts = examine_all(source, wanted, image_size, lambda i, n: pace("pairs examined", i, n))
    found = [*rules.of_files(source, facts), *found, *_duplicates(source, splits, facts)]
    bad = {pair for f in found if f.severity == "error" for pair in _concerned(f, facts, source)}
    good = [f for f in facts if f.counts is not None and (f.split, f.name) not in bad]
    if len(good) > len(facts) / 2:  # else the classes are read wrongly altogether
        found += _classes(source, splits, good, image_size)
    return Audit(
        source, splits, facts, sorted(found, key=lambda f: f.severity != "error"), image_size
    )


def write_fixes(audit: Audit, path: Path) -> None:
    """Writes the file that `dataset.fixes` takes."""
    head = f"# How to read the dataset '{audit.source.name}' in spite of its faults: dataset.fixes={path}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(audit.fixes(), sort_keys=False, allow_unicode=True)
    path.write_text(head + text, encoding="utf-8")


def _concerned(
    finding: Finding, facts: Sequence[PairFacts], source: Source
) -> Iterator[tuple[str, str]]:
    if finding.kind.endswith("duplicate"):  # the one that is left out; the other is as good as any
        files = {image for images in finding.fixes["quarantine"].values() for image in images}
    else:
        files = set(finding.files)
    for row in facts:
        if files & {source.short(p) for p in (row.image, row.mask) if p is not None}:
            yield row.split, row.name


def _duplicates(source: Source, splits: Sequence[str], facts: Sequence[PairFacts]) -> list[Finding]:
    """Images that stand in two splits; the earlier split (train, then val) gives them up."""
    kinds: dict[str, list[tuple[PairFacts, PairFacts]]] = {"duplicate": [], "near_duplicate": []}
    rows = [f for f in facts if f.look is not None]
    taken: set[tuple[str, str]] = set()
    for place, later in enumerate(splits):
        held = [f for f in rows if f.split == later]
        earlier = [f for f in rows if f.split in splits[:place]]
        if not held or not earlier:
            continue
        by_digest = {f.digest: f for f in held}
        for row in earlier:
            if row.digest in by_digest and (row.split, row.name) not in taken:
                taken.add((row.split, row.name))
                if by_digest[row.digest].image == row.image:
                    continue  # told as lists that overlap
                kinds["duplicate"].append((row, by_digest[row.digest]))
        for row, other in _near(earlier, held):
            if (row.split, row.name) not in taken:
                taken.add((row.split, row.name))
                kinds["near_duplicate"].append((row, other))
    found = []
    for kind, pairs in kinds.items():
        if pairs:
            out: dict[str, list[str]] = {}
            for row, _ in pairs:
                out.setdefault(row.split, []).append(source.short(row.image))
            names = [(source.short(a.image), source.short(b.image)) for a, b in pairs]
            repair = "--fix leaves them out of " + " and ".join(out)
            files, words = (
                [n for pair in names for n in pair],
                [f"'{a}' and '{b}'" for a, b in names],
            )
            found.append(Finding(kind, files, words, repair, {"quarantine": out}))
    return found


def _near(
    earlier: Sequence[PairFacts], held: Sequence[PairFacts]
) -> Iterator[tuple[PairFacts, PairFacts]]:
    """Pairs whose hashes, or that of the one and of the mirrored other, nearly agree."""
    theirs = np.stack([f.look[0] for f in held if f.look is not None])
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    for side in (0, 1):
        mine = np.stack([f.look[side] for f in earlier if f.look is not None])
        for (match,) in matcher.knnMatch(mine, theirs, k=1):
            if match.distance <= NEAR:
                yield earlier[match.queryIdx], held[match.trainIdx]


def _classes(
    source: Source, splits: Sequence[str], facts: Sequence[PairFacts], image_size: Sequence[int]
) -> Iterator[Finding]:
    names = source.classes.names
    table = {s: [f for f in facts if f.split == s] for s in splits}
    train = np.array([f.counts for f in table.get("train", [])]).reshape(-1, len(names))
    if not len(train):
        return
    shown = {
        s: np.array([f.counts for f in rows]).reshape(-1, len(names)) > 0
        for s, rows in table.items()
    }
    everywhere = np.any([s.any(0) for s in shown.values() if len(s)], axis=0)
    divide = _resplit(source, splits, table)
    empty = [i for i in range(len(names)) if not train[:, i].any()]
    for group, repair, fixes in (
        ([i for i in empty if everywhere[i]], divide[0], divide[1]),
        (
            [i for i in empty if not everywhere[i]],
            "--fix takes them out of the class table",
            _dropped(source, empty),
        ),
    ):
        if group:
            words = [f"class {i} '{names[i]}'" for i in group]
            yield Finding("empty_class", [names[i] for i in group], words, repair, fixes)
    share = train.sum(0) / max(1, train.sum())
    images = (train > 0).sum(0)
    rare = [i for i in range(len(names)) if 0 < images[i] < _FEW_IMAGES <= len(train) // 4]
    if rare:
        words = [
            f"class {i} '{names[i]}': {images[i]} of {len(train)} train images, {share[i]:.3%} of the pixels"
            for i in rare
        ]
        yield Finding(
            "rare_class",
            [names[i] for i in rare],
            words,
            "sampling=rare_crops loss.class_weights=effective",
        )
    val = shown.get("val", np.zeros((0, len(names)), bool))
    absent = [i for i in range(len(names)) if len(val) and not val[:, i].any() and i not in empty]
    if absent:
        words = [
            f"class {i} '{names[i]}': in {images[i]} train images, in no val image" for i in absent
        ]
        yield Finding("absent_from_val", [names[i] for i in absent], words, divide[0], divide[1])
    small = np.array([f.small for f in table["train"]]).reshape(-1, len(names))
    words, files, needed = [], [], 0.0
    for i in range(len(names)):
        held = train[:, i] > 0
        median = float(np.median(small[held, i])) if held.any() else np.inf
        if median < _FEW_PIXELS and float(np.median(train[held, i])) > median:
            files.append(names[i])
            words.append(
                f"class {i} '{names[i]}': {median:.0f} px in the median image with it, at {list(image_size)}"
            )
            needed = max(needed, (_FEW_PIXELS / max(median, 0.25)) ** 0.5)
    if files:
        larger = [int(np.ceil(s * needed / 32) * 32) for s in image_size]
        yield Finding("too_small", files, words, f"'hp.image_size={larger}'")


def _resplit(
    source: Source, splits: Sequence[str], table: Mapping[str, Sequence[Any]]
) -> tuple[str, dict[str, Any]]:
    """Divides train and val anew, by classes."""
    both = len(table.get("train", [])) + len(table.get("val", []))
    val = round(len(table.get("val", [])) / max(1, both), 3) or 0.2
    return f"dataset.splits.val={val} dataset.splits.stratify=true", {
        "splits": {"val": val, "stratify": True}
    }


def _dropped(source: Source, empty: Sequence[int]) -> dict[str, Any]:
    """The class table without classes that no mask shows, the ids of the others moved up."""
    kept = [i for i in range(len(source.classes)) if i not in empty]
    table = source.classes.to_json()
    moved = {old: new for new, old in enumerate(kept) if old != new}
    plain = (
        not source.config.label_map
        and not source.config.reduce_zero_label
        and source.config.mask_format == "index"
    )
    return {"classes": [table[i] for i in kept], "label_map": moved} if plain and kept else {}


def brief(
    source: Source,
    names: Sequence[str],
    counts: Mapping[str, NDArray[np.int64]],
    duplicates: Sequence[str],
) -> Iterator[str]:
    """What a training should be told of its data, from what is known without reading a file again.

    Args:
        counts: pixels (N, C) by split.
        duplicates: val images whose bytes lie in train too.
    """
    see = f"see: {command('check', dataset=source.config)}"
    for split, effect in (("train", "cannot be learned"), ("val", "is not measured")):
        gone = [
            n for n, total in zip(names, counts[split].sum(0).tolist(), strict=True) if not total
        ]
        if gone:
            yield f"{', '.join(gone)}: in no {split} mask, so {effect}; {see}"
    if duplicates:
        yield f"{len(duplicates)} val images lie in train too (the first: {duplicates[0]}); {see}"
