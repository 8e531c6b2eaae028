"""The pages of `segtune check`: a dataset's findings, and its possible label errors."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from segtune.data.audit import Audit
from segtune.data.audit.examine import PairFacts
from segtune.data.reading.images import read_image, resize_image, resize_mask
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.errors import DataError
from segtune.evaluation.label_issues import LabelIssue
from segtune.inference.regions.overlay import draw_overlay
from segtune.pages.colors import SERIES
from segtune.pages.rendering import write_files
from segtune.report.figures import Figure, finished, plotly_script
from segtune.report.pictures import as_jpeg
from segtune.report.rendering import render
from segtune.runtime.percent import percent

_SAMPLES, _SUSPECTS = 12, 3  # pictures of a dataset, and of each finding
_DISPUTED = 24
_WIDTH = 320  # pixels
_MOST_SIZES = 500  # image sizes that are drawn
_MOST_GROUPS = 8  # groups that a note names


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its caption."""

    data: str
    words: str


def write_page(audit: Audit, folder: Path) -> Path:
    """Write `index.html` and, for scripts, `check.json`; return the path of the page.

    Raises:
        StorageError: the folder cannot be written.
    """
    facts = audit.to_json()
    page = render(
        "check.html.j2",
        facts=facts,
        name=folder.name,
        notes=[*_notes(audit), *audit.notes],
        figures=[_class_shares(audit), _image_sizes(audit)],
        samples=_samples(audit),
        classes=audit.source.classes.to_json(),
        suspects=_suspects(audit),
        plotly=plotly_script(),
    )
    data = json.dumps(facts, indent=1, ensure_ascii=False)
    write_files(folder, {"check.json": data, "index.html": page})
    return folder / "index.html"


def write_ranking(rows: Sequence[LabelIssue], source: Source, folder: Path) -> Path:
    """Write `labels.html`, the images with the largest margins, and all rows as `labels.json`.

    Raises:
        StorageError: the folder cannot be written.
    """
    images = [_disputed_picture(row, source) for row in rows[:_DISPUTED]]
    page = render("labels.html.j2", dataset=source.name, images=images, count=len(rows))
    table = [
        {"name": r.name, "split": r.split, "margin": r.margin, "out_of_fold": r.out_of_fold}
        for r in rows
    ]
    data = json.dumps(table, indent=1, ensure_ascii=False)
    write_files(folder, {"labels.json": data, "labels.html": page})
    return folder / "labels.html"


def _notes(audit: Audit) -> list[str]:
    """Return remarks about the dataset that are no findings."""
    if audit.source.config.groups is None:
        return []
    splits_of: dict[str, set[str]] = {}
    for row in audit.facts:
        splits_of.setdefault(audit.source.group(row.name), set()).add(row.split)
    shared = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    if not shared:
        return []
    more = ", …" if len(shared) > _MOST_GROUPS else ""
    return [f"Groups in more than one split: {', '.join(shared[:_MOST_GROUPS])}{more}."]


def _class_shares(audit: Audit) -> Figure:
    names = audit.source.classes.names
    figure = go.Figure()
    for split, color in zip(audit.splits, SERIES, strict=False):
        counts = audit.counts(split)
        shares = (100 * counts / max(1, counts.sum())).tolist()
        figure.add_bar(x=list(names), y=shares, name=split, marker_color=color)
    figure.update_layout(barmode="group", height=380)
    figure.update_yaxes(type="log", dtick=1, ticksuffix=" %")
    first = audit.splits[0]
    counts = audit.counts(first)
    low, high = int(counts.argmin()), int(counts.argmax())
    shares = (100 * counts / max(1, counts.sum())).tolist()
    caption = (
        "Share of the counted pixels by class and split, on a logarithmic scale. In "
        f"{first}, {names[high]} has the most pixels ({shares[high]:.1f} %) and {names[low]} the "
        f"fewest ({percent(shares[low] / 100)})."
    )
    title = "Class shares (% of the pixels)"
    return finished("shares", title, caption, figure, y="share, logarithmic axis")


def _image_sizes(audit: Audit) -> Figure:
    sizes = Counter(f.size for f in audit.facts if f.size is not None)
    rows = [(height, width, n) for (height, width), n in sizes.most_common(_MOST_SIZES)]
    figure = go.Figure()
    figure.add_scatter(
        x=[width for _, width, _ in rows],
        y=[height for height, _, _ in rows],
        mode="markers",
        text=[f"{n} images" for _, _, n in rows],
        marker={
            "size": [6 + 5 * float(np.log10(n)) for _, _, n in rows],
            "color": SERIES[0],
            "opacity": 0.7,
        },
    )
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(rangemode="tozero", tickformat="d")
    figure.update_yaxes(rangemode="tozero", tickformat="d")
    most_frequent = "none"
    if rows:
        height, width, n = rows[0]
        most_frequent = f"{width} x {height} ({n} images)"
    caption = (
        f"{len(sizes)} {'size' if len(sizes) == 1 else 'sizes'} of images. "
        f"The most frequent size: {most_frequent}."
    )
    return finished("sizes", "Image sizes (pixels)", caption, figure, x="width", y="height")


def _samples(audit: Audit) -> list[Picture]:
    good = [
        f
        for f in audit.facts
        if f.counts is not None and f.image_fault is None and f.mask_size == f.size
    ]
    chosen = [good[i * len(good) // _SAMPLES] for i in range(min(_SAMPLES, len(good)))]
    overlays = [_overlay(audit, facts) for facts in chosen]
    return [overlay for overlay in overlays if overlay is not None]


def _overlay(audit: Audit, row: PairFacts) -> Picture | None:
    """Return the image under its mask; None if one of them cannot be read."""
    assert row.mask is not None
    try:
        image = read_image(row.image, reading=audit.source.reading)
        mask_format = audit.source.fixes.formats.get(audit.source.short(row.image))
        mask = audit.source.masks.read(read_bytes(row.mask), str(row.mask), mask_format)
    except DataError:
        return None
    width = min(_WIDTH, image.shape[1])
    height = round(image.shape[0] * width / image.shape[1])
    image, mask = resize_image(image, height, width), resize_mask(mask, height, width)
    pixels = draw_overlay(image, mask, audit.source.classes)
    return Picture(as_jpeg(pixels), f"{row.split}: {row.name}")


def _suspects(audit: Audit) -> dict[str, list[Picture]]:
    """Return pictures of the first readable files of each finding, by the finding's kind."""
    facts_of_file = {}
    for facts in audit.facts:
        for path in (facts.image, facts.mask):
            if path is not None:
                facts_of_file[audit.source.short(path)] = facts
    suspects = {}
    for finding in audit.findings:
        files = finding.files[: 2 * _SUSPECTS]  # a pair counts once, its files are two
        pairs = [facts_of_file[f] for f in files if f in facts_of_file]
        rows = {(pair.split, pair.name): pair for pair in pairs}
        pictures = [_image_and_mask(row) for row in list(rows.values())[:_SUSPECTS]]
        suspects[finding.kind] = [p for p in pictures if p is not None]
    return suspects


def _image_and_mask(row: PairFacts) -> Picture | None:
    """Return the image beside its mask as stored; a file that cannot be read is left out."""
    size = _WIDTH // 2, _WIDTH // 2 * 3 // 4
    parts = []
    for path in (row.image, row.mask):
        if path is None:
            continue
        try:
            pixels = read_image(path)
        except DataError:
            continue
        if path == row.mask and row.values:
            pixels = _stretched(pixels, max(1, *row.values))
        parts.append(np.asarray(cv2.resize(pixels, size), np.uint8))
    if not parts:
        return None
    return Picture(as_jpeg(np.concatenate(parts, axis=1)), f"{row.split}: {row.name}")


def _stretched(mask: NDArray[np.uint8], largest: int) -> NDArray[np.uint8]:
    """Return a mask whose values fill the range of grey values, so that they can be seen."""
    scaled = mask.astype(np.float32) * (255 / largest)
    return scaled.clip(0, 255).astype(np.uint8)


def _disputed_picture(row: LabelIssue, source: Source) -> Picture:
    image = read_image(row.image, reading=source.reading)
    mask = source.masks.read(read_bytes(row.mask), str(row.mask))
    pixels = np.concatenate([image, draw_overlay(image, mask, source.classes)], axis=1)
    height = round(pixels.shape[0] * 2 * _WIDTH / pixels.shape[1])
    caption = f"{row.split}: {row.name}: margin {row.margin:.3f}"
    if row.worst:
        true, predicted = row.worst
        caption += f", mostly {true} predicted as {predicted}"
    if not row.out_of_fold:
        caption += "; the model was trained on this image"
    return Picture(as_jpeg(resize_image(pixels, height, 2 * _WIDTH)), caption)
