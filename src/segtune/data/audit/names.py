"""Faults in file names and split lists, found before any file is read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding, merge
from segtune.data.audit.suffixes import suffix_hint
from segtune.data.source.layout import Source
from segtune.data.source.lists import NameFinder, read_list
from segtune.data.source.names import NamedImage, composed, is_preview, normal_name
from segtune.data.source.splits import is_absolute


def check_names(source: Source, splits: Sequence[str]) -> tuple[list[PairFacts], list[Finding]]:
    """Pair images with masks by name; return the pairs to examine, and the faults of the names."""
    pairs: list[PairFacts] = []
    lists, findings = _read_lists(source, splits)
    for split in splits:
        listed = lists[split] if split in lists else source.all_images(split)
        quarantine = source.quarantine(split)
        images = [(name, path) for name, path in listed if path not in quarantine]
        masks = _masks(source, split, images, listed)
        findings += _check_split(source, split, images, masks)
        findings += _twin_masks(source, split, images)
        first_by_name: dict[str, Path] = {}
        for name, path in images:
            first_by_name.setdefault(name, path)
        for name, path in first_by_name.items():
            pairs.append(PairFacts(name, split, path, masks.get(name)))
    findings += _overlaps(source, lists)
    return pairs, _one_per_kind(findings)


def _masks(
    source: Source, split: str, images: Sequence[NamedImage], listed: Sequence[NamedImage]
) -> dict[str, Path]:
    """Image name -> mask, with the pairs of the fixes; without those of images in quarantine."""
    quarantined = {name for name, _ in listed} - {name for name, _ in images}
    fixed: dict[str, Path] = {}
    if source.fixes.pairs:
        for name, path in images:
            mask = source.fixes.pairs.get(source.short(path))
            if mask:
                fixed[name] = source.root / mask
    fixed_masks = set(fixed.values())
    masks = {
        name: path
        for name, path in source.mask_files(split).items()
        if name not in quarantined and path not in fixed_masks
    }
    return masks | fixed


def _check_split(
    source: Source, split: str, images: Sequence[NamedImage], masks: Mapping[str, Path]
) -> list[Finding]:
    """Names that clash, and images and masks that stand alone."""
    findings = _clashes(source, split, images)
    names = {name for name, _ in images}
    lonely_masks = {normal_name(name): name for name in masks if name not in names}
    repair, is_last = "add the masks; --fix leaves these images out", False
    if names and names.isdisjoint(masks):  # without them, nothing would be left
        repair, is_last = f"add the masks{suffix_hint(names, masks)}", True
    for name, path in images:
        if name in masks:
            continue
        image = source.short(path)
        mask_name = lonely_masks.pop(normal_name(name), None)
        if mask_name is None:
            fixes = {} if is_last else {"quarantine": {split: [image]}}
            findings.append(Finding("missing_mask", [image], [f"'{image}'"], repair, fixes))
            continue
        mask = source.short(masks[mask_name])
        findings.append(
            Finding(
                _clash_kind(name, mask_name),
                [image, mask],
                [f"'{image}' and its mask '{mask}'"],
                "rename one; --fix pairs them as they are",
                {"pairs": {image: mask}},
            )
        )
    # without {split} in the pattern, masks of all splits lie in one folder
    has_own_folder = source.config.splits is None and "{split}" in source.config.masks
    if has_own_folder and lonely_masks:
        files = [source.short(masks[name]) for name in lonely_masks.values()]
        details = [f"'{file}'" for file in files]
        repair = f"add the images, or remove the masks{suffix_hint(names, masks)}"
        findings.append(Finding("missing_image", files, details, repair))
    return findings


def _twin_masks(source: Source, split: str, images: Sequence[NamedImage]) -> list[Finding]:
    """Images with several masks, whose files differ only in their suffix."""
    masks, findings = source.all_masks(split), []
    for name, path in images:
        files = masks.get(name, [])
        if len(files) < 2 or source.short(path) in source.fixes.pairs:
            continue
        short = [source.short(file) for file in files]
        detail = f"{' and '.join(repr(file) for file in short)}: the first is read"
        has_one = is_preview(files[1])
        kind = "mask_preview" if has_one else "two_masks"
        repair = "remove one" if has_one else "remove one; --fix takes the first"
        fixes = {} if has_one else {"pairs": {source.short(path): short[0]}}
        findings.append(Finding(kind, short, [detail], repair, fixes))
    return findings


def _clashes(source: Source, split: str, images: Sequence[NamedImage]) -> list[Finding]:
    """Images of one name, or of names that some file systems take for one."""
    by_name: dict[str, list[NamedImage]] = {}
    for name, path in images:
        by_name.setdefault(normal_name(name), []).append((name, path))
    findings = []
    for group in by_name.values():
        if len(group) == 1:
            continue
        names, files = [name for name, _ in group], [source.short(path) for _, path in group]
        kind, repair = _clash_kind(names[0], names[1]), "rename one"
        if len(set(names)) < len(names):
            kind, repair = "two_images", "remove one"
        findings.append(
            Finding(
                kind,
                files,
                [" and ".join(f"'{file}'" for file in files)],
                f"{repair}; --fix leaves out all but the first",
                {"quarantine": {split: files[1:]}},
            )
        )
    return findings


def _clash_kind(name: str, other: str) -> str:
    return "unicode_clash" if composed(name) == composed(other) else "case_clash"


def _read_lists(
    source: Source, splits: Sequence[str]
) -> tuple[dict[str, list[NamedImage]], list[Finding]]:
    """The images of each split list that exist, and the lines that do not fit."""
    config = source.config.splits
    if config is None or config.lists is None:
        return {}, []
    files, finder = source.images_by_name, NameFinder(source.relative_files())
    lists: dict[str, list[NamedImage]] = {}
    findings = []
    for split in splits:
        fixed = source.fixes.lists.get(split)
        if fixed is not None:
            lists[split] = [(name, files[name]) for name in fixed if name in files]
            continue
        path = source.folder(config.lists, split)
        names, faults = _read_one_list(path, finder)
        left_out = source.quarantine(split)
        lists[split] = [(name, files[name]) for name in names if files[name] not in left_out]
        short = source.short(path)
        for kind, lines in faults.items():
            details = [f"'{short}' names '{line}'" for line in lines]
            repair = "--fix lists the images that exist"
            fixes = {"lists": {split: names}}
            findings.append(Finding(kind, [short], details, repair, fixes))
    return lists, findings


def _read_one_list(path: Path, finder: NameFinder) -> tuple[list[str], dict[str, list[str]]]:
    """The names in a list that exist, and kind of fault -> lines."""
    names: list[str] = []
    faults: dict[str, list[str]] = {}
    for line in read_list(path):
        is_foreign = is_absolute(line) and not os.path.exists(line)
        text = line
        if is_foreign:
            text = line.replace("\\", "/")
            text = text.partition(":/")[2] or text.lstrip("/")
        matches = finder.find(text)
        if len(matches) != 1:
            faults.setdefault("list_entry", []).append(line)
            continue
        names += matches
        if is_foreign:
            faults.setdefault("foreign_path", []).append(line)
    return names, faults


def _overlaps(source: Source, lists: Mapping[str, Sequence[NamedImage]]) -> list[Finding]:
    """Images that a later split's list names too."""
    splits, findings = list(lists), []
    for index, split in enumerate(splits):
        later_names: set[str] = set()
        for later in splits[index + 1 :]:
            later_names.update(name for name, _ in lists[later])
        shared = [(name, path) for name, path in lists[split] if name in later_names]
        if shared:
            files = [source.short(path) for _, path in shared]
            details = [f"'{name}' is in {split} and in another split" for name, _ in shared]
            repair = f"--fix leaves them out of {split}"
            fixes = {"quarantine": {split: files}}
            findings.append(Finding("split_overlap", files, details, repair, fixes))
    return findings


def _one_per_kind(findings: Sequence[Finding]) -> list[Finding]:
    """Merge the findings of each kind."""
    merged: dict[str, Finding] = {}
    for new in findings:
        old = merged.get(new.kind, Finding(new.kind, [], [], new.repair))
        merged[new.kind] = Finding(
            new.kind,
            [*old.files, *new.files],
            [*old.details, *new.details],
            old.repair,
            merge(old.fixes, new.fixes),
        )
    return list(merged.values())
