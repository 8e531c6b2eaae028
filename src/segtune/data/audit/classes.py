"""Classes that cannot be learned or measured: empty, rare, absent from val, or too small."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.config.commands import command
from segtune.data.audit.examine import PairFacts
from segtune.data.audit.findings import Finding
from segtune.data.source.layout import Source

_FEW_IMAGES = 3  # a class in fewer train images is rare
_FEW_PIXELS = 16  # a class with fewer in the median image is too small


def check_classes(
    source: Source, splits: Sequence[str], pairs: Sequence[PairFacts], image_size: Sequence[int]
) -> Iterator[Finding]:
    """Findings on the classes of examined pairs, all of which have counts.

    Args:
        image_size: at which `small_counts` were taken.
    """
    num_classes = len(source.classes)
    counts = {}
    for split in splits:
        rows = [pair.counts for pair in pairs if pair.split == split]
        counts[split] = np.array(rows).reshape(-1, num_classes)
    if not len(counts.get("train", ())):
        return
    table = _ClassCounts(source, counts)
    yield from table.empty_in_train()
    yield from table.rare_in_train()
    yield from table.absent_from_val()
    small_rows = [pair.small_counts for pair in pairs if pair.split == "train"]
    yield from table.too_small(np.array(small_rows).reshape(-1, num_classes), image_size)


@dataclass(frozen=True)
class _ClassCounts:
    """Pixels of each class: split -> (N, C)."""

    source: Source
    counts: Mapping[str, NDArray[np.int64]]

    @property
    def train(self) -> NDArray[np.int64]:
        return self.counts["train"]

    def finding(
        self,
        kind: str,
        details: Mapping[int, str],
        repair: str,
        fixes: dict[str, Any] | None = None,
    ) -> Iterator[Finding]:
        """The finding on some classes, if there are any.

        Args:
            details: class id -> text after the class's name.
        """
        names = self.source.classes.names
        if details:
            lines = [f"class {i} '{names[i]}'{text}" for i, text in details.items()]
            yield Finding(kind, [names[i] for i in details], lines, repair, fixes or {})

    def empty_in_train(self) -> Iterator[Finding]:
        """Classes in no train mask; those in another split need another division."""
        empty = np.flatnonzero(~self.train.any(0)).tolist()
        in_any = np.any([rows.any(0) for rows in self.counts.values() if len(rows)], axis=0)
        elsewhere = {i: "" for i in empty if in_any[i]}
        nowhere = {i: "" for i in empty if not in_any[i]}
        yield from self.finding("empty_class", elsewhere, *self._division())
        repair = "--fix takes them out of the class table"
        yield from self.finding("empty_class", nowhere, repair, _without(self.source, empty))

    def rare_in_train(self) -> Iterator[Finding]:
        """Classes in fewer than three train images, of twelve or more."""
        images = (self.train > 0).sum(0)
        share = self.train.sum(0) / max(1, self.train.sum())
        num_images = len(self.train)
        if num_images // 4 < _FEW_IMAGES:
            return
        details = {}
        for i in np.flatnonzero((images > 0) & (images < _FEW_IMAGES)).tolist():
            details[i] = f": {images[i]} of {num_images} train images, {share[i]:.3%} of the pixels"
        repair = "sampling=rare_crops loss.class_weights=effective"
        yield from self.finding("rare_class", details, repair)

    def absent_from_val(self) -> Iterator[Finding]:
        """Classes in a train mask, but in no val mask."""
        val = self.counts.get("val", np.zeros((0, 0)))
        if not len(val):
            return
        images = (self.train > 0).sum(0)
        details = {}
        for i in np.flatnonzero(~val.any(0) & (images > 0)).tolist():
            details[i] = f": in {images[i]} train images, in no val image"
        yield from self.finding("absent_from_val", details, *self._division())

    def too_small(self, small: NDArray[np.int64], image_size: Sequence[int]) -> Iterator[Finding]:
        """Classes with too few pixels at the image size, in the median image with the class.

        Args:
            small: pixels at that size, (N, C).
        """
        details, scale = {}, 0.0
        for i in range(small.shape[1]):
            shown = self.train[:, i] > 0
            if not shown.any():
                continue
            median = float(np.median(small[shown, i]))
            if median < _FEW_PIXELS and median < float(np.median(self.train[shown, i])):
                size = list(image_size)
                details[i] = f": {median:.0f} px in the median image with it, at {size}"
                scale = max(scale, (_FEW_PIXELS / max(median, 0.25)) ** 0.5)
        larger = [int(np.ceil(side * scale / 32) * 32) for side in image_size]
        yield from self.finding("too_small", details, f"'hp.image_size={larger}'")

    def _division(self) -> tuple[str, dict[str, Any]]:
        """The repair that divides train and val anew, by classes, in the shares that they have."""
        num_val = len(self.counts.get("val", ()))
        share = round(num_val / (len(self.train) + num_val), 3) or 0.2
        repair = f"dataset.splits.val={share} dataset.splits.stratify=true"
        return repair, {"splits": {"val": share, "stratify": True}}


def _without(source: Source, empty: Sequence[int]) -> dict[str, Any]:
    """The fix that takes classes out of the table and lowers the ids behind them.

    It is empty where stored ids are not class ids, or where no class is left.
    """
    config = source.config
    left = [i for i in range(len(source.classes)) if i not in empty]
    if config.label_map or config.reduce_zero_label or config.mask_format != "index" or not left:
        return {}
    table = source.classes.to_json()
    new_ids = {old: new for new, old in enumerate(left) if old != new}
    return {"classes": [table[i] for i in left], "label_map": new_ids}


def training_warnings(
    source: Source,
    names: Sequence[str],
    counts: Mapping[str, NDArray[np.int64]],
    duplicates: Sequence[str],
) -> Iterator[str]:
    """Warnings on the data that a training prints; they read no file.

    Args:
        counts: split -> pixels of each class, (N, C).
        duplicates: val images whose bytes are in train too.
    """
    hint = f"see: {command('check', dataset=source.config)}"
    for split, effect in (("train", "cannot be learned"), ("val", "is not measured")):
        totals = counts[split].sum(0).tolist()
        empty = [name for name, total in zip(names, totals, strict=True) if not total]
        if empty:
            yield f"{', '.join(empty)}: in no {split} mask, so {effect}; {hint}"
    if duplicates:
        yield f"{len(duplicates)} val images are in train too (the first: {duplicates[0]}); {hint}"
