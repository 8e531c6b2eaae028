"""Which faults the facts of single files show, and how each is read in spite of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from segtune.classes import IGNORE_INDEX
from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding, merge
from segtune.data.source.layout import Source

BLENDED = 0.12
"""Between 0.03, the most seen in masks that never were resized, and 0.25, the least in such that were."""


def of_files(source: Source, facts: Sequence[PairFacts]) -> list[Finding]:
    """Findings on images and masks one by one; the first that fits a pair is told."""
    kinds: dict[str, list[tuple[PairFacts, str]]] = {}
    for row in facts:
        found = _fault_of(source, row)
        if found is not None:
            kinds.setdefault(found[0], []).append((row, found[1]))
    return [_finding(source, kind, rows, facts) for kind, rows in kinds.items()]


def _fault_of(source: Source, row: PairFacts) -> tuple[str, str] | None:
    """Kind and detail of what is wrong with a pair."""
    if row.image_fault is not None:
        kind = "bomb" if " claims " in row.image_fault else "truncated_image"
        return (
            "unreadable_image" if "is not an image" in row.image_fault else kind
        ), row.image_fault
    if row.mask is None:
        return None  # told by name
    if row.mask_fault is not None:
        return "unreadable_mask", row.mask_fault
    if row.mask_size != row.size:
        assert row.size is not None and row.mask_size is not None
        turned = row.orientation >= 5 and row.mask_size == row.stored
        words = f"'{source.short(row.image)}': image {_wide(row.size)}, mask {_wide(row.mask_size)}"
        return ("exif_mismatch" if turned else "size_mismatch"), words
    return _mask_fault(source, row)


def _mask_fault(source: Source, row: PairFacts) -> tuple[str, str] | None:
    assert row.mask is not None
    form = source.fixes.formats.get(source.short(row.image), source.config.mask_format)
    where = f"'{source.short(row.mask)}'"
    if form != "index":
        return ("unknown_colors", row.mask_error) if row.mask_error else None
    known = {int(i) for i in np.flatnonzero(source.masks.lookup >= 0)}
    unknown = {v: c for v, c in row.values.items() if v not in known}
    listed = ", ".join(f"{v} ({c:,} px)" for v, c in list((unknown or row.values).items())[:6])
    if row.encoding == "JPEG" or row.encoding == "MPO":
        return "mask_jpeg", f"{where}: {len(row.values) or row.num_colors} values"
    if row.colors:
        kind = (
            "mask_antialiased"
            if row.blend > BLENDED and row.num_colors > 2 * len(source.classes)
            else "mask_rgb"
        )
        return kind, f"{where}: {row.num_colors} colours, most often {next(iter(row.colors))}"
    if _by_palette(source, row):
        return "mask_palette", f"{where}: " + ", ".join(
            f"index {v} is {c}" for v, c in list(row.palette.items())[:4]
        )
    if row.blend > BLENDED and len(row.values) > 2:
        return (
            "mask_antialiased",
            f"{where}: {row.blend:.0%} of its borders pass through values in between",
        )
    if set(row.values) <= {0, 255} and 255 in row.values and len(source.classes) > 1:
        return (
            "mask_0_255",
            f"{where}: 0 ({row.values.get(0, 0):,} px), 255 ({row.values[255]:,} px)",
        )
    number = len(source.classes)
    if set(unknown) == {number} and 0 not in row.values and not source.config.reduce_zero_label:
        return (
            "mask_off_by_one",
            f"{where}: ids {min(row.values)}..{number}, classes 0..{number - 1}",
        )
    return ("unknown_ids", f"{where}: {listed}") if unknown else None


def _by_palette(source: Source, row: PairFacts) -> bool:
    """Whether the palette's colours name other classes than its indices do."""
    of_color = {c: i for i, c in enumerate(source.classes.palette)}
    used = {v: of_color[c] for v, c in row.palette.items() if c in of_color}
    lookup = source.masks.lookup
    return (
        bool(used)
        and len(used) == len(row.palette)
        and any(int(lookup[v]) != i for v, i in used.items())
    )


def _finding(
    source: Source, kind: str, rows: list[tuple[PairFacts, str]], facts: Sequence[PairFacts]
) -> Finding:
    files = [source.short(r.mask if r.mask and _is_of_mask(kind) else r.image) for r, _ in rows]
    fixes = _FIXES.get(kind, _quarantine)(source, [r for r, _ in rows], facts)
    return Finding(kind, files, [d for _, d in rows], _repair(fixes), fixes)


def _is_of_mask(kind: str) -> bool:
    return kind.startswith(("mask_", "unknown_", "unreadable_mask"))


def _repair(fixes: Mapping[str, Any]) -> str:
    """The config line of a fix that is one, else the command that writes it down."""
    if set(fixes) == {"label_map"}:
        return f"'dataset.label_map={fixes['label_map']}'"
    if len(fixes) == 1 and set(fixes) <= {"mask_format", "reduce_zero_label"}:
        return " ".join(f"dataset.{k}={str(v).lower()}" for k, v in fixes.items())
    does = {
        "quarantine": "leaves them out", "formats": "reads these masks by colour or brightness",
        "unrotated": "reads these images as stored", "label_map": "ignores these ids",
        "pairs": "pairs them by name", "lists": "lists those that are here",
    }  # fmt: skip
    return "--fix " + " and ".join(does[k] for k in fixes if k in does)


def _quarantine(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.split, []).append(source.short(row.image))
    return {"quarantine": found}


def _unrotated(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    return {"unrotated": [source.short(r.image) for r in rows]}


def _ignored(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    deep = [
        r for r in rows if max(r.values) > 255 or min(r.values) < 0
    ]  # no id of eight bits: nothing maps it
    known = {int(i) for i in np.flatnonzero(source.masks.lookup >= 0)}
    unknown = sorted({v for r in rows if r not in deep for v in r.values} - known)
    found: dict[str, Any] = {"label_map": dict.fromkeys(unknown, IGNORE_INDEX)} if unknown else {}
    return dict(merge(found, _quarantine(source, deep, facts)) if deep else found)


def _binary(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    """Bright is class 1: of two classes; of more, nobody knows which class is meant."""
    if len(source.classes) != 2:
        return _quarantine(source, rows, facts)
    if len(rows) == sum(f.mask is not None and f.mask_fault is None for f in facts):
        return {"mask_format": "binary"}
    return {"formats": {source.short(r.image): "binary" for r in rows}}


def _by_color(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    """By exact colour where all are known, by the nearest where nearly all pixels are close to a known one."""
    palette = np.array(
        source.classes.palette + [tuple(c) for c in source.config.ignore_colors], float
    )
    formats, out = {}, []
    for row in rows:
        colors = np.array(list(row.colors) or list(row.palette.values()), float)
        counts = np.array(list(row.colors.values()) or [row.values[v] for v in row.palette], float)
        away = (
            np.sqrt(((colors[:, None] - palette[None]) ** 2).sum(2)).min(1)
            if len(colors)
            else np.array([np.inf])
        )
        close = float(counts[away < 25].sum() / max(1.0, counts.sum())) if len(colors) else 0.0
        if not away.any() and (row.num_colors or len(colors)) == len(colors):
            formats[source.short(row.image)] = "rgb"
        elif close > 0.8:
            formats[source.short(row.image)] = "rgb_nearest"
        else:
            out.append(row)
    masks = sum(f.mask is not None and f.mask_fault is None for f in facts)
    if not out and len(rows) == masks and len(set(formats.values())) == 1:
        return {"mask_format": next(iter(formats.values()))}
    return ({"formats": formats} if formats else {}) | (
        _quarantine(source, out, facts) if out else {}
    )


def _softened(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    """Resized or JPEG: bright against dark where two classes are meant, colours by the nearest, ids not at all."""
    colored = [r for r in rows if r.colors]
    grey = [r for r in rows if not r.colors]
    bright = [r for r in grey if max(r.values) > 200 and len(source.classes) == 2]
    lost = [r for r in grey if r not in bright]
    found: dict[str, Any] = (
        {"formats": {source.short(r.image): "binary" for r in bright}} if bright else {}
    )
    found = merge(found, _by_color(source, colored, facts)) if colored else found
    return dict(merge(found, _quarantine(source, lost, facts)) if lost else found)


def _from_one(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    """All ids lowered by one, where no mask of the whole dataset holds a 0."""
    if not any(0 in f.values for f in facts):
        return {"reduce_zero_label": True}
    return _quarantine(source, rows, facts)


def _nearest(
    source: Source, rows: Sequence[PairFacts], facts: Sequence[PairFacts]
) -> dict[str, Any]:
    return {"formats": {source.short(r.image): "rgb_nearest" for r in rows}}


_FIXES: dict[str, Callable[[Source, Sequence[PairFacts], Sequence[PairFacts]], dict[str, Any]]] = {
    "exif_mismatch": _unrotated,
    "unknown_ids": _ignored,
    "unknown_colors": _nearest,
    "mask_0_255": _binary,
    "mask_palette": _by_color,
    "mask_rgb": _by_color,
    "mask_antialiased": _softened,
    "mask_jpeg": _softened,
    "mask_off_by_one": _from_one,
}


def _wide(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
