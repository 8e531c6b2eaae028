"""The mIoU of parts of the split: by image size, brightness, share of a class, and group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.measure.evidence import Evidence
from segtune.report.candidates import Candidate
from segtune.report.image_table import number_or_nan, read_image_table
from segtune.runtime.percent import percent
from segtune.tracking.datasets import pictures
from segtune.tracking.store import Store

_MOST_CLASSES, _MOST_GROUPS = 20, 12
_FEWEST_IMAGES = 6  # a third of fewer is one image
Parts = Mapping[str, NDArray[np.bool_]]
"""Whether each image belongs to a part, by the part's name."""


def slice_rows(
    store: Store, best: Candidate, other: Candidate | None, image_table: Path | None = None
) -> list[dict[str, Any]]:
    """Return the mIoU of the best candidate, and of another, on each part of the split.

    A property that is equal in all images makes no parts. All figures are of the first seed.

    Args:
        image_table: a user's table, see `read_image_table`.

    Returns:
        Rows with `property`, `part`, `images`, `best` and `other` (mIoU in [0, 1] or None),
        and `other_name`.
    """
    evidence = best.evidence[0]
    properties: dict[str, Parts] = {
        "image size": _thirds(evidence.sizes.prod(1), "pixels", "{:,.0f}"),
        "brightness": _brightness(store, evidence),
        "group": _groups(evidence),
        **_class_shares(evidence),
    }
    if image_table is not None:
        table = read_image_table(image_table, evidence.names)
        properties = {name: _column_parts(v) for name, v in table.items()} | properties
    rows = []
    for name, parts in properties.items():
        for part, chosen in parts.items():
            row = {"property": name, "part": part, "images": int(chosen.sum())}
            row["best"] = _miou(evidence, chosen)
            row["other"] = _miou(other.evidence[0], chosen) if other else None
            row["other_name"] = other.name if other else ""
            rows.append(row)
    return rows


def _miou(evidence: Evidence, chosen: NDArray[np.bool_]) -> float | None:
    """Return the mIoU of some images, from their common confusion matrix."""
    part = replace(evidence, matrices=evidence.matrices[chosen])
    return part.scores.miou if part.matrix.any() else None


def _thirds(values: NDArray[Any], unit: str, form: str) -> Parts:
    """Divide images into three parts of about equal size by a number; NaN belongs to none."""
    known = values[~np.isnan(values.astype(float))]
    if len(known) < _FEWEST_IMAGES or known.min() == known.max():
        return {}
    ends = np.unique(np.quantile(known, [0, 1 / 3, 2 / 3, 1]))
    parts = {}
    for low, high in pairwise(ends):
        is_last = high == ends[-1]
        chosen = (values >= low) & ((values <= high) if is_last else (values < high))
        if chosen.any():
            parts[f"{form.format(low)} to {form.format(high)} {unit}".rstrip()] = chosen
    return parts


def _brightness(store: Store, evidence: Evidence) -> Parts:
    """Divide the images whose pictures the store keeps by their mean grey value."""
    saved = pictures(store, evidence.origin.fingerprint, evidence.names)
    values = [float(saved[n][0].mean()) if n in saved else np.nan for n in evidence.names]
    return _thirds(np.array(values), "of 255", "{:.0f}")


def _column_parts(values: Sequence[str]) -> Parts:
    """Divide images by a column: by its numbers if there are many, else by its values."""
    numbers = np.array([number_or_nan(value) for value in values])
    texts = np.array(values)
    known, counts = np.unique(texts[texts != ""], return_counts=True)
    is_numeric = not np.isnan(numbers[texts != ""]).any()
    if is_numeric and len(known) > _MOST_GROUPS:
        return _thirds(numbers, "", "{:.4g}")
    largest = known[np.argsort(-counts, kind="stable")][:_MOST_GROUPS]
    return {str(value): texts == value for value in largest}


def _groups(evidence: Evidence) -> Parts:
    if not evidence.groups:
        return {}
    groups = np.array(evidence.groups)
    names, counts = np.unique(groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:_MOST_GROUPS]
    return {str(name): groups == name for name in largest} if len(names) > 1 else {}


def _class_shares(evidence: Evidence) -> dict[str, Parts]:
    """Divide the images by the share of each class: without it, and with little or much of it."""
    pixels = evidence.matrices.sum(2)
    shares = pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
    properties: dict[str, Parts] = {}
    for number, name in enumerate(evidence.classes[:_MOST_CLASSES]):
        has_class = shares[:, number] > 0
        if has_class.sum() < _FEWEST_IMAGES:
            continue
        middle = np.median(shares[has_class, number])
        is_much = shares[:, number] > middle
        parts = {
            "none": ~has_class,
            f"up to {percent(middle)}": has_class & ~is_much,
            f"over {percent(middle)}": is_much,
        }
        properties[f"share of {name}"] = {k: v for k, v in parts.items() if v.any()}
    return properties
