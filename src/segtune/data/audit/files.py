"""Faults of single images and masks, and how each is read in spite of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import IGNORE_INDEX
from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding, merge
from segtune.data.source.layout import Source

BLENDED = 0.12
"""Blend above which a mask counts as resized with interpolation.

Masks that were never resized have at most 0.03, resized ones 0.25 or more.
"""

_NEAR_COLOR = 25  # distance in RGB
_NEAR_SHARE = 0.8  # share of a mask's pixels that must be near a known colour

Fixes = dict[str, Any]


def check_files(source: Source, pairs: Sequence[PairFacts]) -> list[Finding]:
    """Findings on images and masks one by one; each pair counts with its first fault."""
    by_kind: dict[str, list[tuple[PairFacts, str]]] = {}
    for pair in pairs:
        fault = _fault_of(source, pair)
        if fault is not None:
            kind, detail = fault
            by_kind.setdefault(kind, []).append((pair, detail))
    findings = []
    for kind, rows in by_kind.items():
        faulty = [pair for pair, _ in rows]
        fixes = _FIXES.get(kind, _quarantine)(_Case(source, faulty, pairs))
        details = [detail for _, detail in rows]
        files = [source.short(_faulty_file(pair, kind)) for pair in faulty]
        findings.append(Finding(kind, files, details, _repair(fixes), fixes))
    return findings


def _faulty_file(pair: PairFacts, kind: str) -> Path:
    is_of_mask = kind.startswith(("mask_", "unknown_", "unreadable_mask"))
    return pair.mask if pair.mask and is_of_mask else pair.image


def _fault_of(source: Source, pair: PairFacts) -> tuple[str, str] | None:
    """Kind and detail of a pair's first fault."""
    if pair.image_fault is not None:
        kind = "truncated_image"
        if "is not an image" in pair.image_fault:
            kind = "unreadable_image"
        elif " claims " in pair.image_fault:
            kind = "bomb"
        return kind, pair.image_fault
    if pair.mask is None:
        return None  # the check of names reports it
    if pair.mask_fault is not None:
        return "unreadable_mask", pair.mask_fault
    if pair.mask_size != pair.size:
        assert pair.size is not None and pair.mask_size is not None
        is_turned = pair.orientation >= 5 and pair.mask_size == pair.stored
        kind = "exif_mismatch" if is_turned else "size_mismatch"
        sizes = f"image {_width_by_height(pair.size)}, mask {_width_by_height(pair.mask_size)}"
        return kind, f"'{source.short(pair.image)}': {sizes}"
    if (source.mask_format(pair.image) or source.config.mask_format) != "index":
        return ("unknown_colors", pair.class_fault) if pair.class_fault else None
    fault = _index_fault(source, pair)
    if fault is None:
        return None
    kind, detail = fault
    return kind, f"'{source.short(pair.mask)}': {detail}"


def _width_by_height(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _index_fault(source: Source, pair: PairFacts) -> tuple[str, str] | None:
    """Kind and detail of the fault of a mask that should hold class ids."""
    num_classes = len(source.classes)
    if pair.encoding in ("JPEG", "MPO"):
        return "mask_jpeg", f"{len(pair.values) or pair.num_colors} values"
    if pair.colors:
        is_blended = pair.blend > BLENDED and pair.num_colors > 2 * num_classes
        kind = "mask_antialiased" if is_blended else "mask_rgb"
        return kind, f"{pair.num_colors} colours, most often {next(iter(pair.colors))}"
    if _is_by_palette(source, pair):
        entries = [f"index {value} is {color}" for value, color in pair.palette.items()]
        return "mask_palette", ", ".join(entries[:4])
    if pair.blend > BLENDED and len(pair.values) > 2:
        return (
            "mask_antialiased",
            f"{pair.blend:.0%} of its borders pass through values in between",
        )
    values = set(pair.values)
    if 255 in values and values <= {0, 255} and num_classes > 1:
        return "mask_0_255", f"0 ({pair.values.get(0, 0):,} px), 255 ({pair.values[255]:,} px)"
    unknown = values - _known_ids(source)
    if unknown == {num_classes} and 0 not in values and not source.config.reduce_zero_label:
        ids = f"ids {min(values)}..{num_classes}, classes 0..{num_classes - 1}"
        return "mask_off_by_one", ids
    if unknown:
        counts = [f"{v} ({count:,} px)" for v, count in pair.values.items() if v in unknown]
        return "unknown_ids", ", ".join(counts[:6])
    return None


def _known_ids(source: Source) -> set[int]:
    """The stored ids that become a class or are ignored."""
    return set(np.flatnonzero(source.masks.lookup >= 0).tolist())


def _is_by_palette(source: Source, pair: PairFacts) -> bool:
    """Whether the palette's colours are those of other classes than the indices."""
    class_of_color = {color: index for index, color in enumerate(source.classes.palette)}
    if not pair.palette or not set(pair.palette.values()) <= set(class_of_color):
        return False
    lookup = source.masks.lookup
    return any(int(lookup[v]) != class_of_color[c] for v, c in pair.palette.items())


def _repair(fixes: Mapping[str, Any]) -> str:
    """The config line of a fix that is one line, else what `--fix` does."""
    if set(fixes) == {"label_map"}:
        return f"'dataset.label_map={fixes['label_map']}'"
    if len(fixes) == 1 and set(fixes) <= {"mask_format", "reduce_zero_label"}:
        return " ".join(f"dataset.{key}={str(value).lower()}" for key, value in fixes.items())
    return "--fix " + " and ".join(_FIX_WORDS[key] for key in fixes if key in _FIX_WORDS)


_FIX_WORDS = {
    "quarantine": "leaves them out",
    "formats": "reads these masks by colour or brightness",
    "unrotated": "reads these images as stored",
    "label_map": "ignores these ids",
}


@dataclass(frozen=True)
class _Case:
    """The pairs with one kind of fault, among all pairs of the dataset."""

    source: Source
    faulty: Sequence[PairFacts]
    pairs: Sequence[PairFacts]

    def only(self, faulty: Sequence[PairFacts]) -> "_Case":
        """The case of some of the faulty pairs."""
        return _Case(self.source, faulty, self.pairs)

    @property
    def concerns_all(self) -> bool:
        """Whether every mask that can be read has the fault."""
        readable = [p for p in self.pairs if p.mask is not None and p.mask_fault is None]
        return len(self.faulty) == len(readable)


def _quarantine(case: _Case) -> Fixes:
    by_split: dict[str, list[str]] = {}
    for pair in case.faulty:
        by_split.setdefault(pair.split, []).append(case.source.short(pair.image))
    return {"quarantine": by_split} if by_split else {}


def _read_as(case: _Case, mask_format: str) -> Fixes:
    files = [case.source.short(pair.image) for pair in case.faulty]
    return {"formats": dict.fromkeys(files, mask_format)} if files else {}


def _unrotated(case: _Case) -> Fixes:
    return {"unrotated": [case.source.short(pair.image) for pair in case.faulty]}


def _ignored(case: _Case) -> Fixes:
    """Ignore unknown ids; leave out masks with ids beyond eight bits, which no map can hold."""
    deep: list[PairFacts] = []
    unknown: set[int] = set()
    for pair in case.faulty:
        if max(pair.values) > 255 or min(pair.values) < 0:
            deep.append(pair)
        else:
            unknown |= set(pair.values) - _known_ids(case.source)
    fixes = {"label_map": dict.fromkeys(sorted(unknown), IGNORE_INDEX)} if unknown else {}
    return {**fixes, **_quarantine(case.only(deep))}


def _binary(case: _Case) -> Fixes:
    """Make bright class 1 of two classes; of more, nobody knows which class is meant."""
    if len(case.source.classes) != 2:
        return _quarantine(case)
    return {"mask_format": "binary"} if case.concerns_all else _read_as(case, "binary")


def _by_color(case: _Case) -> Fixes:
    """Read colours exactly where all are known, and by the nearest where most are close to one."""
    exact, near, unknown = [], [], []
    for pair in case.faulty:
        distances, counts = _color_distances(case.source, pair)
        is_complete = pair.num_colors <= len(distances)
        is_close = counts[distances < _NEAR_COLOR].sum() > _NEAR_SHARE * counts.sum()
        if len(distances) and is_complete and not distances.any():
            exact.append(pair)
        elif is_close:
            near.append(pair)
        else:
            unknown.append(pair)
    if case.concerns_all and not unknown and not (exact and near):
        return {"mask_format": "rgb" if exact else "rgb_nearest"}
    fixes = merge(_read_as(case.only(exact), "rgb"), _read_as(case.only(near), "rgb_nearest"))
    return dict(merge(fixes, _quarantine(case.only(unknown))))


def _color_distances(
    source: Source, pair: PairFacts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each colour in a mask: the distance to the nearest known colour, and the pixels, (N,)."""
    known_colors = source.classes.palette + [tuple(c) for c in source.config.ignore_colors]
    if pair.colors:
        colors, pixels = list(pair.colors), list(pair.colors.values())
    else:
        colors = list(pair.palette.values())
        pixels = [pair.values[value] for value in pair.palette]
    difference = np.array(colors, float).reshape(-1, 1, 3) - np.array(known_colors, float)
    return np.sqrt((difference**2).sum(2)).min(1), np.array(pixels, float)


def _softened(case: _Case) -> Fixes:
    """Resized or JPEG: read bright as class 1 of two, and colours by the nearest; leave ids out."""
    colored, bright, lost = [], [], []
    for pair in case.faulty:
        if pair.colors:
            colored.append(pair)
        elif max(pair.values) > 200 and len(case.source.classes) == 2:
            bright.append(pair)
        else:
            lost.append(pair)
    fixes = _read_as(case.only(bright), "binary")
    if colored:
        fixes = merge(fixes, _by_color(case.only(colored)))
    return dict(merge(fixes, _quarantine(case.only(lost))))


def _lowered(case: _Case) -> Fixes:
    """Lower all ids by one, if no mask of the dataset holds a 0."""
    if any(0 in pair.values for pair in case.pairs):
        return _quarantine(case)
    return {"reduce_zero_label": True}


def _nearest_color(case: _Case) -> Fixes:
    return _read_as(case, "rgb_nearest")


_FIXES: dict[str, Callable[[_Case], Fixes]] = {
    "exif_mismatch": _unrotated,
    "unknown_ids": _ignored,
    "unknown_colors": _nearest_color,
    "mask_0_255": _binary,
    "mask_palette": _by_color,
    "mask_rgb": _by_color,
    "mask_antialiased": _softened,
    "mask_jpeg": _softened,
    "mask_off_by_one": _lowered,
}
"""Kind of fault -> what `dataset.fixes` needs; pairs with other faults are left out."""
