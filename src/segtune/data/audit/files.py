"""Faults of single images and masks, and how each is read in spite of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segtune.classes import IGNORE_INDEX
from segtune.data.audit.colors import are_near, color_distances
from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding, merge
from segtune.data.audit.palettes import check_palettes
from segtune.data.audit.thin_lines import lines_between, thin_line
from segtune.data.reading.blending import Interpolation
from segtune.data.reading.borders import Borders
from segtune.data.reading.id_advice import is_moved, moved_advice
from segtune.data.reading.questions import NARROW, narrow_range
from segtune.data.source.layout import Source
from segtune.runtime.percent import percent

Fixes = dict[str, Any]


def check_files(source: Source, pairs: Sequence[PairFacts], borders: Borders) -> list[Finding]:
    """Findings on images and masks one by one; each pair counts with its first fault.

    Args:
        borders: of all masks of ids.
    """
    by_kind: dict[str, list[tuple[PairFacts, str]]] = {}
    stored = _StoredIds.of(pairs, source.masks.interpolation_in(borders))
    for pair in pairs:
        fault = _fault_of(source, pair, stored)
        if fault is not None:
            kind, detail = fault
            by_kind.setdefault(kind, []).append((pair, detail))
    findings = []
    for kind, rows in by_kind.items():
        faulty = [pair for pair, _ in rows]
        fixes = _FIXES.get(kind, _quarantine)(_Case(source, faulty, pairs))
        details = [detail for _, detail in rows]
        files = [source.short(_faulty_file(pair, kind)) for pair in faulty]
        repair = _repair(fixes)
        has_first = any(0 in pair.values for pair in pairs)
        may_be_moved = kind == "unknown_ids" or (kind == "mask_off_by_one" and has_first)
        moved = _advice_on_moved(source, faulty) if may_be_moved else ""
        if moved:
            # ignoring the last id would leave all others one class too high
            fixes, repair = {}, moved
        if kind == "mask_antialiased":
            repair += thin_line(source, faulty, stored.interpolation)
        findings.append(Finding(kind, files, details, repair, fixes))
    findings += lines_between(source, pairs, stored.interpolation)
    return [*findings, *_values_and_bands(source, pairs), *check_palettes(source, pairs)]


def _advice_on_moved(source: Source, faulty: Sequence[PairFacts]) -> str:
    """How ids are read that may count from 1; empty where they cannot."""
    values = set[int]().union(*(pair.values for pair in faulty))
    unknown = sorted(values - _known_ids(source, values))
    if not is_moved(unknown, source.config, source.classes):
        return ""
    return moved_advice(unknown, source.config, source.classes)


def _values_and_bands(source: Source, pairs: Sequence[PairFacts]) -> list[Finding]:
    """Images that use a small part of their range, and bands that are not read."""
    findings = []
    deep = [pair for pair in pairs if pair.bits > 8]
    if deep and all(pair.brightest < NARROW for pair in pairs):
        brightest, bits = max(pair.brightest for pair in deep), deep[0].bits
        fixes = {"value_range": narrow_range(brightest, bits)}
        files = [source.short(pair.image) for pair in deep]
        details = [f"'{file}': {bits} bits" for file in files]
        findings.append(Finding("narrow_range", files, details, _repair(fixes), fixes))
    more = [pair for pair in pairs if pair.unread_bands]
    if more:
        files = [source.short(pair.image) for pair in more]
        details = [f"'{source.short(pair.image)}': {pair.unread_bands}" for pair in more]
        repair = "'dataset.bands=[1,2,3]' states the bands to read"
        findings.append(Finding("bands", files, details, repair))
    return findings


def _faulty_file(pair: PairFacts, kind: str) -> Path:
    is_of_mask = kind.startswith(("mask_", "unknown_ids", "unknown_colors", "unreadable_mask"))
    return pair.mask if pair.mask and is_of_mask else pair.image


@dataclass(frozen=True)
class _StoredIds:
    """The values of all masks of a dataset.

    Attributes:
        has_void: whether 255 marks ignored pixels: a mask holds it beside another id than 0.
        interpolation: what shows that the masks were interpolated, or may have been.
    """

    values: set[int]
    has_void: bool
    interpolation: Interpolation | None

    @classmethod
    def of(cls, pairs: Sequence[PairFacts], interpolation: Interpolation | None) -> "_StoredIds":
        has_void = any(255 in pair.values and set(pair.values) - {0, 255} for pair in pairs)
        values = set().union(*(pair.values for pair in pairs))
        return cls(values, has_void, interpolation)

    def is_interpolated(self, pair: PairFacts) -> bool:
        """Whether nothing but interpolation explains a mask, by itself or among all."""
        own, together = pair.interpolation, self.interpolation
        if own is not None and own.is_certain:
            return True
        return pair.is_in_order and together is not None and together.is_certain


def _fault_of(source: Source, pair: PairFacts, stored: _StoredIds) -> tuple[str, str] | None:
    """Kind and detail of a pair's first fault."""
    if pair.image_fault is not None:
        kind = "truncated_image"
        if "is not an image" in pair.image_fault:
            kind = "unreadable_image"
        elif " claims " in pair.image_fault:
            kind = "bomb"
        elif "dataset.value_range=" in pair.image_fault:
            kind = "unknown_range"
        return kind, pair.image_fault
    if pair.question is not None:
        return pair.question
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
    form = source.mask_format(pair.image) or source.config.mask_format
    if form != "index":
        kind = "unknown_colors" if form.startswith("rgb") else "mask_unclear"
        return (kind, pair.class_fault) if pair.class_fault else None
    fault = _index_fault(source, pair, stored)
    if fault is None:
        return None
    kind, detail = fault
    return kind, f"'{source.short(pair.mask)}': {detail}"


def _width_by_height(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _index_fault(source: Source, pair: PairFacts, stored: _StoredIds) -> tuple[str, str] | None:
    """Kind and detail of the fault of a mask that should hold class ids."""
    num_classes = len(source.classes)
    if pair.class_fault is not None and "alpha channel" in pair.class_fault:
        return "mask_unclear", pair.class_fault
    if pair.encoding in ("JPEG", "MPO"):
        return "mask_jpeg", f"{len(pair.values) or pair.num_colors} values"
    if pair.colors:
        kind = "mask_antialiased" if stored.is_interpolated(pair) else "mask_rgb"
        return kind, f"{pair.num_colors} colours, most often {next(iter(pair.colors))}"
    if _is_by_palette(source, pair):
        entries = [f"index {value} is {color}" for value, color in pair.palette.items()]
        return "mask_palette", ", ".join(entries[:4])
    values = set(pair.values)
    unknown = values - _known_ids(source, values)
    between = pair.interpolation.between if pair.interpolation else ()
    if stored.is_interpolated(pair) or not unknown.isdisjoint(between):
        share = percent(pair.interpolation.share) if pair.interpolation else "a part"
        return "mask_antialiased", f"{share} of its borders pass through values in between"
    if _is_one_object(source, values, unknown, stored):
        return "mask_0_255", ", ".join(f"{v} ({count:,} px)" for v, count in pair.values.items())
    if unknown == {num_classes} and 0 not in values and not source.config.reduce_zero_label:
        ids = f"ids {min(values)}..{num_classes}, classes 0..{num_classes - 1}"
        return "mask_off_by_one", ids
    if unknown:
        counts = [f"{v} ({count:,} px)" for v, count in pair.values.items() if v in unknown]
        return "unknown_ids", ", ".join(counts[:6])
    return None


def _is_one_object(source: Source, values: set[int], unknown: set[int], stored: _StoredIds) -> bool:
    """Whether a mask is 0 and one other value that stands for the object, not for an id."""
    if 0 in unknown or len(values - {0}) != 1:
        return False
    if len(source.classes) < 2:  # nothing is left to learn but what is ignored
        return stored.values <= {0, 255}
    (value,) = values - {0}
    if value in source.config.label_map:
        return False
    if value == 255:
        return not stored.has_void
    is_everywhere = len(source.classes) == 2 and stored.values <= {0, value}
    return value in unknown and (value == 65535 or is_everywhere)


def _known_ids(source: Source, values: set[int]) -> set[int]:
    """Those of some stored ids that become a class or are ignored."""
    stored = np.array(sorted(values), np.int64)
    return set(stored[source.masks.ids_of(stored) >= 0].tolist())


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
    if len(fixes) == 1 and set(fixes) <= {"value_range", "bands", "page"}:
        (key, value), *_ = fixes.items()
        return f"'dataset.{key}={value}'".replace(", ", ",")
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
    """Ignore unknown ids; leave out masks with ids beyond 32 bits, which no map can hold."""
    deep: list[PairFacts] = []
    unknown: set[int] = set()
    for pair in case.faulty:
        values = set(pair.values)
        if max(values) >= 2**32 or min(values) < -(2**31):
            deep.append(pair)
        else:
            unknown |= values - _known_ids(case.source, values)
    fixes = {"label_map": dict.fromkeys(sorted(unknown), IGNORE_INDEX)} if unknown else {}
    return {**fixes, **_quarantine(case.only(deep))}


def _binary(case: _Case) -> Fixes:
    """Make bright class 1 of two classes; of more, nobody knows which class is meant."""
    if len(case.source.classes) != 2:
        return _quarantine(case)
    return {"mask_format": "binary"} if case.concerns_all else _read_as(case, "binary")


def _by_opacity(case: _Case) -> Fixes:
    """Read the object of two classes from the alpha channel; leave other masks out."""
    hidden = [pair for pair in case.faulty if "opacity" in (pair.class_fault or "")]
    if len(case.source.classes) != 2 or len(hidden) < len(case.faulty):
        return _quarantine(case)
    return {"mask_format": "alpha"} if case.concerns_all else _read_as(case, "alpha")


def _by_color(case: _Case) -> Fixes:
    """Read colours exactly where all are known, and by the nearest where most are close to one."""
    exact, near, unknown = [], [], []
    for pair in case.faulty:
        distances, counts = color_distances(case.source, pair)
        is_complete = pair.num_colors <= len(distances)
        is_close = are_near(distances, counts)
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
    """Read masks of nearly known colours by the nearest; leave others out."""
    near: list[PairFacts] = []
    far: list[PairFacts] = []
    for pair in case.faulty:
        is_near = are_near(*color_distances(case.source, pair))
        (near if is_near else far).append(pair)
    fixes = _read_as(case.only(near), "rgb_nearest")
    return dict(merge(fixes, _quarantine(case.only(far))))


def _first_bands(_: _Case) -> Fixes:
    return {"bands": [1, 2, 3]}


def _first_page(_: _Case) -> Fixes:
    return {"page": 1}


_FIXES: dict[str, Callable[[_Case], Fixes]] = {
    "alpha_is_a_band": _first_bands,
    "several_pages": _first_page,
    "exif_mismatch": _unrotated,
    "unknown_ids": _ignored,
    "unknown_colors": _nearest_color,
    "mask_0_255": _binary,
    "mask_unclear": _by_opacity,
    "mask_palette": _by_color,
    "mask_rgb": _by_color,
    "mask_antialiased": _softened,
    "mask_jpeg": _softened,
    "mask_off_by_one": _lowered,
}
"""Kind of fault -> what `dataset.fixes` needs; pairs with other faults are left out."""
