"""Choose the images of a report: worst, best, confident errors, largest differences."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import ClassTable, distinct_color
from segtune.measure.evidence import Evidence
from segtune.report.candidates import Candidate
from segtune.tracking.datasets import pictures
from segtune.tracking.store import Store

_PER_KIND = 3
_MOST_CANDIDATES = 10  # whose predictions the page holds
KINDS = {
    "worst": "lowest mIoU",
    "best": "highest mIoU",
    "disputed": "confident predictions that contradict the labels",
    "disagreement": "largest differences between two candidates",
    "confused": "largest confusions",
}


def browser_data(
    store: Store, candidates: Sequence[Candidate], base: Candidate | None, classes: ClassTable
) -> dict[str, Any] | None:
    """Return the images that the page's browser shows, with the masks of the first candidates.

    Args:
        base: the candidate that the others are compared with; its masks are among them.

    Returns:
        None if the store has no pictures of the split. Masks are PNG files of class ids.
    """
    shown = list(candidates[:_MOST_CANDIDATES])
    if base is not None and base not in shown:
        shown[-1:] = [base]
    best = shown[0]
    other = base if base is not best else None
    if other is None and len(shown) > 1:
        other = shown[1]
    reasons = _reasons(best.evidence[0], other.evidence[0] if other else None)
    saved = pictures(store, best.evidence[0].origin.fingerprint, list(reasons))
    images = [
        _image(name, words, *saved[name], shown) for name, words in reasons.items() if name in saved
    ]
    if not images:
        return None
    return {
        "classes": [
            {"name": c.name, "color": c.color, "apart": distinct_color(number)}
            for number, c in enumerate(classes.classes)
        ],
        "kinds": {k: words for k, words in KINDS.items() if any(k in i["words"] for i in images)},
        "candidates": [candidate.name for candidate in shown],
        "other": other.name if other else None,
        "images": images,
    }


def as_jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """Return pixels (H, W, 3) as a data URI."""
    return _data_uri(pixels, "JPEG", quality=82)


def _image(
    name: str,
    words: Mapping[str, str],
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    shown: Sequence[Candidate],
) -> dict[str, Any]:
    """Return one image with its truth and the predictions of the candidates that have one."""
    predictions, mious = {}, {}
    for candidate in shown:
        evidence = candidate.evidence[0]
        mious[candidate.name] = float(evidence.image_miou[evidence.names.index(name)])
        if name in evidence.masks:
            predictions[candidate.name] = _as_png(evidence.masks[name])
    return {
        "name": name,
        "words": words,
        "image": as_jpeg(image),
        "truth": _as_png(truth),
        "predictions": predictions,
        "mious": mious,
        "size": image.shape[1::-1],
    }


def _as_png(mask: NDArray[np.uint8]) -> str:
    return _data_uri(mask, "PNG", optimize=True)


def _data_uri(pixels: NDArray[np.uint8], image_format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{image_format.lower()};base64,{code}"


def _reasons(evidence: Evidence, other: Evidence | None) -> dict[str, dict[str, str]]:
    """Return, for images whose masks were saved, why each is shown: a caption by kind."""
    available = [n for n, name in enumerate(evidence.names) if name in evidence.masks]
    mious = evidence.image_miou
    rows: list[tuple[str, int, str]] = []
    by_miou = sorted(available, key=lambda n: mious[n])
    for n in by_miou[:_PER_KIND]:
        rows.append(("worst", n, f"lowest mIoU ({100 * mious[n]:.1f})"))
    for n in by_miou[::-1][:_PER_KIND]:
        rows.append(("best", n, f"highest mIoU ({100 * mious[n]:.1f})"))
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
            caption = (
                f"large difference (mIoU {100 * mious[n]:.1f} against {100 * other_mious[n]:.1f})"
            )
            rows.append(("disagreement", n, caption))
    rows += _confused(evidence, available)
    reasons: dict[str, dict[str, str]] = {}
    for kind, n, caption in rows:
        reasons.setdefault(evidence.names[n], {})[kind] = caption
    return reasons


def _confused(evidence: Evidence, available: Sequence[int]) -> list[tuple[str, int, str]]:
    """Return the images with the most pixels of each of the largest confusions."""
    matrix = evidence.matrix.copy()
    np.fill_diagonal(matrix, 0)
    rows = []
    largest = np.argsort(-matrix, axis=None, kind="stable")[: 2 * _PER_KIND]
    for true, predicted in zip(*np.unravel_index(largest, matrix.shape), strict=True):
        pixels = evidence.matrices[available, true, predicted] if available else np.zeros(0)
        if pixels.any():
            caption = f"{evidence.classes[true]} predicted as {evidence.classes[predicted]}"
            rows.append(("confused", available[int(pixels.argmax())], caption))
    return rows
