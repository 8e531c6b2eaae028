"""The images that a report shows: worst, best, most disputed, and those on which two segmenters disagree most."""

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

_EACH = 3


@dataclass(frozen=True)
class Picture:
    """A strip of views of one image.

    Attributes:
        kind: why it is shown.
        words: what is seen, for those who cannot.
        views: what the strip holds, from left to right.
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
    """Strips of the best candidate's images: image, truth, prediction, error; and of the other's where they disagree.

    Empty where the store keeps no pictures of the split.
    """
    evidence = best.evidence[0]
    chosen = _chosen(evidence, other.evidence[0] if other else None)
    kept = pictures(
        store, evidence.origin.fingerprint, list(dict.fromkeys(n for _, n, _ in chosen))
    )
    strips = []
    for kind, name, words in chosen:
        if name not in kept or name not in evidence.masks:
            continue
        image, truth = kept[name]
        strip = four_views(image, truth, evidence.masks[name], classes)
        views = ["image", "truth", best.name, "error (red)"]
        if kind == "disagreement" and other and name in other.evidence[0].masks:
            strip = np.concatenate(
                [strip, colorize(other.evidence[0].masks[name], classes)], axis=1
            )
            views.append(other.name)
        strips.append(Picture(name, kind, words, views, as_jpeg(strip)))
    return strips


def _chosen(ours: Evidence, theirs: Evidence | None) -> list[tuple[str, str, str]]:
    """(kind, image, words), of the images that were kept small."""
    shown = [n for n, name in enumerate(ours.names) if name in ours.masks]
    mious, found = ours.image_miou, []
    ranked = sorted(shown, key=lambda n: mious[n])
    count = min(_EACH, len(shown))
    found += [("worst", n, f"mIoU of this image {100 * mious[n]:.1f}") for n in ranked[:count]]
    found += [("best", n, f"mIoU of this image {100 * mious[n]:.1f}") for n in ranked[::-1][:count]]
    disputed = sorted(shown, key=lambda n: -ours.disputed[n])[:count]
    found += [
        ("disputed", n, f"the segmenter is sure of another class on {100 * ours.disputed[n]:.1f} % of the pixels; "
         "the truth may be wrong") for n in disputed if ours.disputed[n] > 0
    ]  # fmt: skip
    if theirs is not None:
        gaps = mious - theirs.image_miou
        apart = sorted(shown, key=lambda n: -abs(gaps[n]))[:count]
        found += [("disagreement", n, f"mIoU of this image {100 * mious[n]:.1f} against "
                   f"{100 * theirs.image_miou[n]:.1f}") for n in apart]  # fmt: skip
    return [(kind, ours.names[n], words) for kind, n, words in found]


def as_jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """Pixels (H, W, 3) as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
