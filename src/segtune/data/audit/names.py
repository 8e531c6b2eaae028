"""Faults that names show before any file is read: missing pairs, clashes, and split lists that do not fit."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from segtune.data.audit.findings import Finding, merge
from segtune.data.source.layout import Source
from segtune.data.source.pairs import normal_name
from segtune.data.source.splits import is_absolute, read_list, resolve_names
from segtune.errors import DataError

Wanted = tuple[str, str, Path, Path | None]


def look_at_names(source: Source, splits: Sequence[str]) -> tuple[list[Wanted], list[Finding]]:
    """(split, name, image, mask) of everything that is to be read, and what is wrong with the names."""
    wanted: list[Wanted] = []
    found: list[Finding] = []
    lists, faults = _lists(source, splits)
    found += faults
    for split in splits:
        left_out = source.quarantine(split)
        listed = lists[split] if split in lists else source.all_images(split)
        images = [(n, p) for n, p in listed if p not in left_out]
        away = {n for n, p in listed if p in left_out} - {n for n, _ in images}
        masks = {n: p for n, p in source.mask_files(split).items() if n not in away}
        for name, path in images:
            fixed = source.fixes.pairs.get(source.short(path))
            if fixed:
                masks = {n: p for n, p in masks.items() if p != source.root / fixed} | {
                    name: source.root / fixed
                }
        found += _clashes(source, split, images, masks)
        seen: set[str] = set()
        for name, path in images:
            if name not in seen:
                wanted.append((split, name, path, masks.get(name)))
            seen.add(name)
    found += _overlaps(source, lists)
    return wanted, _together(found)


def _clashes(
    source: Source, split: str, images: Sequence[tuple[str, Path]], masks: Mapping[str, Path]
) -> list[Finding]:
    found = []
    by_name: dict[str, list[tuple[str, Path]]] = {}
    for name, path in images:
        by_name.setdefault(normal_name(name), []).append((name, path))
    loose = {normal_name(n): n for n in masks if n not in {i for i, _ in images}}
    for same in by_name.values():
        files = [source.short(p) for _, p in same]
        if len({n for n, _ in same}) < len(same):
            fixes = {"quarantine": {split: files[1:]}}
            words = " and ".join(f"'{f}'" for f in files)
            found.append(
                Finding(
                    "two_images",
                    files,
                    [words],
                    "remove one; --fix leaves out all but the first",
                    fixes,
                )
            )
        elif len(same) > 1:
            kind = _clash_kind(same[0][0], same[1][0])
            fixes = {"quarantine": {split: files[1:]}}
            words = " and ".join(f"'{f}'" for f in files)
            found.append(
                Finding(
                    kind, files, [words], "rename one; --fix leaves out all but the first", fixes
                )
            )
    for name, path in images:
        if name in masks:
            continue
        other = loose.pop(normal_name(name), None)
        if other is None:
            file = source.short(path)
            fixes = {"quarantine": {split: [file]}}
            found.append(
                Finding(
                    "missing_mask",
                    [file],
                    [f"'{file}'"],
                    "add the masks; --fix leaves them out",
                    fixes,
                )
            )
            continue
        mask = source.short(masks[other])
        words = f"'{source.short(path)}' and its mask '{mask}'"
        found.append(
            Finding(
                _clash_kind(name, other), [source.short(path), mask], [words],
                "rename one; --fix pairs them all the same", {"pairs": {source.short(path): mask}},
            )
        )  # fmt: skip
    if (
        source.config.splits is None and "{split}" in source.config.masks
    ):  # else masks of all splits lie together
        alone = [source.short(masks[n]) for n in loose.values()]
        told = [f"'{a}'" for a in alone]
        found += (
            [Finding("missing_image", alone, told, "add the images, or remove the masks")]
            if alone
            else []
        )
    return found


def _clash_kind(one: str, other: str) -> str:
    same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return "unicode_clash" if same else "case_clash"


def _lists(
    source: Source, splits: Sequence[str]
) -> tuple[dict[str, list[tuple[str, Path]]], list[Finding]]:
    """Images by split as the lists name them, with whatever can be made of lines that do not fit."""
    config = source.config.splits
    if config is None or config.lists is None:
        return {}, []
    files, found, lists = (
        source.images_by_name,
        list[Finding](),
        dict[str, list[tuple[str, Path]]](),
    )
    known = {n: f"{n}{p.suffix}" for n, p in files.items()}
    for split in splits:
        path = source.folder(config.lists, split)
        if split in source.fixes.lists:
            lists[split] = [(n, files[n]) for n in source.fixes.lists[split] if n in files]
            continue
        names, foreign, lost = list[str](), list[str](), list[str]()
        for line in read_list(path):
            strange = is_absolute(line) and not Path(line).exists()
            plain = line.replace("\\", "/")
            try:
                names += resolve_names(
                    [plain.partition(":/")[2] or plain.lstrip("/") if strange else line],
                    known,
                    path,
                )
                foreign += [line] if strange else []
            except DataError:
                lost.append(line)
        lists[split] = [(n, files[n]) for n in names if files[n] not in source.quarantine(split)]
        short = source.short(path)
        for kind, lines in (("foreign_path", foreign), ("list_entry", lost)):
            if lines:
                words = [f"'{short}' names '{line}'" for line in lines]
                fixes = {"lists": {split: names}}
                found.append(
                    Finding(kind, [short], words, "--fix lists those that are here", fixes)
                )
    return lists, found


def _overlaps(source: Source, lists: Mapping[str, Sequence[tuple[str, Path]]]) -> list[Finding]:
    splits, found = list(lists), []
    for place, split in enumerate(splits):
        later = {n for s in splits[place + 1 :] for n, _ in lists[s]}
        both = [n for n, _ in lists[split] if n in later]
        if both:
            words = [f"'{n}' stands in {split} and in another split" for n in both]
            files = [source.short(p) for n, p in lists[split] if n in later]
            fixes = {"quarantine": {split: files}}
            found.append(
                Finding("split_overlap", files, words, f"--fix leaves them out of {split}", fixes)
            )
    return found


def _together(found: Sequence[Finding]) -> list[Finding]:
    """One finding of each kind."""
    kinds: dict[str, Finding] = {}
    for one in found:
        old = kinds.get(one.kind, Finding(one.kind, [], [], one.repair))
        fixes = merge(old.fixes, one.fixes)
        kinds[one.kind] = Finding(
            one.kind, [*old.files, *one.files], [*old.details, *one.details], old.repair, fixes
        )
    return list(kinds.values())
