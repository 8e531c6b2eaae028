"""The page of a dataset check: findings with their suspects, class shares, sizes, and samples with their masks."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader

from segtune.data.audit import Audit
from segtune.data.audit.examine import PairFacts
from segtune.data.reading.images import read_image, resize_image, resize_mask
from segtune.data.source.files import read_bytes
from segtune.data.source.layout import Source
from segtune.errors import DataError, StorageError
from segtune.evaluation.label_issues import LabelIssue
from segtune.inference.regions.overlay import draw_overlay
from segtune.report.figures import PALETTE, Figure, finished, plotly_script
from segtune.report.pictures import as_jpeg

_SAMPLES, _SUSPECTS, _WIDTH = 12, 3, 320


@dataclass(frozen=True)
class Shown:
    """A picture as a data URI, and what it shows in words."""

    data: str
    words: str


def write_page(audit: Audit, folder: Path) -> Path:
    """Writes `index.html` and, for scripts, `check.json`; returns the page.

    Raises:
        StorageError: the folder cannot be written.
    """
    facts = audit.to_json()
    environment = Environment(loader=PackageLoader("segtune", "report"), autoescape=True)
    text = environment.get_template("check.html.j2").render(
        facts=facts, name=folder.name, notes=_notes(audit), figures=[_shares(audit), _sizes(audit)],
        samples=_samples(audit), suspects=_suspects(audit), plotly=plotly_script(),
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "check.json").write_text(
            json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        (folder / "index.html").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the page '{folder}' cannot be written: {error}. Set output=DIR."
        ) from None
    return folder / "index.html"


def _notes(audit: Audit) -> list[str]:
    """What is no fault, and good to know."""
    if audit.source.config.groups is None:
        return []
    where: dict[str, set[str]] = {}
    for row in audit.facts:
        where.setdefault(audit.source.group(row.name), set()).add(row.split)
    both = sorted(g for g, splits in where.items() if len(splits) > 1)
    return [f"Groups in more than one split: {', '.join(both[:8])}."] if both else []


def _shares(audit: Audit) -> Figure:
    names = audit.source.classes.names
    figure = go.Figure()
    for split, color in zip(audit.splits, PALETTE, strict=False):
        counts = audit.counts(split)
        figure.add_bar(
            x=list(names),
            y=(100 * counts / max(1, counts.sum())).tolist(),
            name=split,
            marker_color=color,
        )
    figure.update_layout(barmode="group", height=380)
    figure.update_yaxes(type="log", dtick=1)
    train = audit.counts(audit.splits[0])
    low, high = int(train.argmin()), int(train.argmax())
    share = 100 * train / max(1, train.sum())
    words = f"Share of the pixels that count, by class and split, on a logarithmic scale. In {audit.splits[0]}, "
    words += (
        f"{names[high]} has most ({share[high]:.1f} %) and {names[low]} least ({share[low]:.3g} %)."
    )
    return finished("shares", "Class shares (% of the pixels)", words, figure, y="% of the pixels")


def _sizes(audit: Audit) -> Figure:
    sizes = Counter(f.size for f in audit.facts if f.size is not None)
    figure = go.Figure()
    rows = sizes.most_common(500)
    figure.add_scatter(
        x=[s[1] for s, _ in rows], y=[s[0] for s, _ in rows], mode="markers", text=[f"{n} images" for _, n in rows],
        marker={"size": [6 + 5 * float(np.log10(n)) for _, n in rows], "color": PALETTE[0], "opacity": 0.7},
    )  # fmt: skip
    figure.update_layout(height=340, showlegend=False)
    most = f"{rows[0][0][1]} x {rows[0][0][0]} ({rows[0][1]} images)" if rows else "none"
    words = f"{len(sizes)} sizes of images (width, height, in pixels); most often {most}."
    return finished("sizes", "Image sizes (pixels)", words, figure, x="width", y="height")


def _samples(audit: Audit) -> list[Shown]:
    good = [
        f
        for f in audit.facts
        if f.counts is not None and f.image_fault is None and f.mask_size == f.size
    ]
    chosen = [good[i * len(good) // _SAMPLES] for i in range(min(_SAMPLES, len(good)))]
    return [s for f in chosen if (s := _overlay(audit, f)) is not None]


def _overlay(audit: Audit, row: PairFacts) -> Shown | None:
    assert row.mask is not None
    try:
        image = read_image(row.image)
        form = audit.source.fixes.formats.get(audit.source.short(row.image))
        mask = audit.source.masks.read(read_bytes(row.mask), str(row.mask), form)
    except DataError:
        return None
    width = min(_WIDTH, image.shape[1])
    height = round(image.shape[0] * width / image.shape[1])
    pixels = draw_overlay(
        resize_image(image, height, width), resize_mask(mask, height, width), audit.source.classes
    )
    return Shown(as_jpeg(pixels), f"{row.split}: {row.name}")


def _suspects(audit: Audit) -> dict[str, list[Shown]]:
    """The first files of each finding beside their masks, as far as they can be read at all."""
    by_file = {
        audit.source.short(p): f for f in audit.facts for p in (f.image, f.mask) if p is not None
    }
    found = {}
    for finding in audit.findings:
        rows = [by_file[f] for f in finding.files[: 2 * _SUSPECTS] if f in by_file]
        found[finding.kind] = [
            s for r in _once(rows)[:_SUSPECTS] if (s := _side_by_side(r)) is not None
        ]
    return found


def _once(rows: Sequence[PairFacts]) -> list[PairFacts]:
    return list({(r.split, r.name): r for r in rows}.values())


def _side_by_side(row: PairFacts) -> Shown | None:
    """The image and its mask as stored, its values spread over the greys; an unreadable half is left out."""
    parts = []
    for path in (row.image, row.mask):
        try:
            pixels = read_image(path) if path is not None else None
        except DataError:
            continue
        if pixels is not None:
            if path == row.mask and row.values:
                top = max(1, *row.values)
                pixels = (
                    np.asarray(pixels.astype(np.float32) * (255 / top), np.float32)
                    .clip(0, 255)
                    .astype(np.uint8)
                )
            parts.append(
                np.asarray(cv2.resize(pixels, (_WIDTH // 2, _WIDTH // 2 * 3 // 4)), np.uint8)
            )
    return (
        Shown(as_jpeg(np.concatenate(parts, axis=1)), f"{row.split}: {row.name}") if parts else None
    )


def write_ranking(rows: Sequence[LabelIssue], source: Source, folder: Path) -> Path:
    """Writes `labels.html`, with the most disputed images beside their truth, and all rows as `labels.json`.

    Raises:
        StorageError: the folder cannot be written.
    """
    shown = []
    for row in rows[: 2 * _SAMPLES]:
        image, mask = read_image(row.image), source.masks.read(read_bytes(row.mask), str(row.mask))
        pixels = np.concatenate([image, draw_overlay(image, mask, source.classes)], axis=1)
        pixels = resize_image(
            pixels, round(pixels.shape[0] * 2 * _WIDTH / pixels.shape[1]), 2 * _WIDTH
        )
        seen = f", most of all {row.worst[0]}, seen as {row.worst[1]}" if row.worst else ""
        known = "" if row.out_of_fold else "; the model was trained on it"
        shown.append(
            Shown(as_jpeg(pixels), f"{row.split}: {row.name}: margin {row.margin:.3f}{seen}{known}")
        )
    environment = Environment(loader=PackageLoader("segtune", "report"), autoescape=True)
    text = environment.get_template("labels.html.j2").render(
        dataset=source.name, images=shown, count=len(rows)
    )
    table = [
        {"name": r.name, "split": r.split, "margin": r.margin, "out_of_fold": r.out_of_fold}
        for r in rows
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.json").write_text(
            json.dumps(table, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        (folder / "labels.html").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the page '{folder}' cannot be written: {error}. Set output=DIR."
        ) from None
    return folder / "labels.html"
