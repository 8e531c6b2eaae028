"""Choose and draw the images of a report: worst, best, confident errors, largest differences."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segtune.classes import ClassTable
from segtune.inference.regions.overlay import colorize, four_views
from segtune.measure.evidence import Evidence
from segtune.report.candidates import Candidate
from segtune.tracking.datasets import pictures
from segtune.tracking.store import Store

_PER_KIND = 3


@dataclass(frozen=True)
class Picture:
    """A strip of views of one image.

    Attributes:
        kind: the reason why it is shown: worst, best, disputed or disagreement.
        words: the caption.
        views: names of the views, from left to right.
        data: JPEG as a data URI.
    """

    name: str
    kind: str
    words: str
    views: Sequence[str]
    data: str


def choose_pictures(
    store: Store, best: Candidate, other: Candidate | None, classes: ClassTable
) -> list[Picture]:
    """Return strips of the best candidate's images: image, truth, prediction and errors.

    An image on which two candidates differ shows the other's prediction too. Empty if the store has
    no pictures of the split.
    """
    evidence = best.evidence[0]
    other_evidence = other.evidence[0] if other else None
    chosen = _chosen(evidence, other_evidence)
    names = list(dict.fromkeys(name for _, name, _ in chosen))
    saved = pictures(store, evidence.origin.fingerprint, names)
    strips = []
    for kind, name, words in chosen:
        if name not in saved or name not in evidence.masks:
            continue
        image, truth = saved[name]
        strip = four_views(image, truth, evidence.masks[name], classes)
        views = ["image", "truth", best.name, "errors (red)"]
        if kind == "disagreement" and other and other_evidence and name in other_evidence.masks:
            other_view = colorize(other_evidence.masks[name], classes)
            strip = np.concatenate([strip, other_view], axis=1)
            views.append(other.name)
        strips.append(Picture(name, kind, words, views, as_jpeg(strip)))
    return strips


def as_jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """Return pixels (H, W, 3) as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _chosen(evidence: Evidence, other: Evidence | None) -> list[tuple[str, str, str]]:
    """Return (kind, image name, caption) of images whose masks were saved."""
    available = [n for n, name in enumerate(evidence.names) if name in evidence.masks]
    mious = evidence.image_miou
    rows: list[tuple[str, int, str]] = []
    by_miou = sorted(available, key=lambda n: mious[n])
    for n in by_miou[:_PER_KIND]:
        rows.append(("worst", n, f"mIoU of this image: {100 * mious[n]:.1f}"))
    for n in by_miou[::-1][:_PER_KIND]:
        rows.append(("best", n, f"mIoU of this image: {100 * mious[n]:.1f}"))
    by_dispute = sorted(available, key=lambda n: -evidence.disputed[n])
    for n in by_dispute[:_PER_KIND]:
        share = 100 * evidence.disputed[n]
        if share > 0:
            caption = (
                f"on {share:.1f} % of the pixels, the segmenter predicts another class with high "
                "confidence; the labels may be wrong"
            )
            rows.append(("disputed", n, caption))
    if other is not None:
        other_mious = other.image_miou
        by_gap = sorted(available, key=lambda n: -abs(mious[n] - other_mious[n]))
        for n in by_gap[:_PER_KIND]:
            caption = f"mIoU of this image: {100 * mious[n]:.1f} against {100 * other_mious[n]:.1f}"
            rows.append(("disagreement", n, caption))
    return [(kind, evidence.names[n], caption) for kind, n, caption in rows]
