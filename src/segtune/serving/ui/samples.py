"""Samples of a split as a run saw them: image, truth, prediction, errors and disputed labels."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segtune.classes import ClassTable
from segtune.errors import ConfigError, nearest
from segtune.inference.regions.overlay import draw_disputed, four_views
from segtune.measure.evidence import Evidence
from segtune.tracking.datasets import pictures
from segtune.tracking.evidence import load_evidence
from segtune.tracking.runs import RunRecord, artifact
from segtune.tracking.store import Store

_VIEWS = ("image", "truth", "prediction", "error")
_DISPUTED = "disputed"  # a fifth view, of images with labels that the model contradicts
_PER_PAGE = 24
_SORTS = ("worst", "best", "disputed", "name")


@dataclass(frozen=True)
class Choice:
    """The samples that a person asks for.

    Attributes:
        of: only images with this class, by its IoU; empty for all images, by their mIoU.
        sort: worst, best, disputed (labels that the model contradicts most) or name.
        page: from 1.

    Raises:
        ConfigError: another order, or a page below 1.
    """

    of: str = ""
    sort: str = "worst"
    page: int = 1

    def __post_init__(self) -> None:
        """Check the order and the page."""
        if self.sort not in _SORTS:
            raise ConfigError(f"sort={self.sort}: {nearest(self.sort, _SORTS)}")
        if self.page < 1:
            raise ConfigError(f"page={self.page}: pages count from 1.")


class Samples:
    """The images of one split, measured by one run.

    Raises:
        ConfigError: the run was not measured on the split.
        DataError: its evidence is damaged.
    """

    def __init__(self, store: Store, run: RunRecord, split: str) -> None:
        evidence = load_evidence(store, run, split)
        if evidence is None:
            raise ConfigError(f"run {run.id} ({run.name}) has no evidence on the {split} split.")
        self.store, self.run, self.split = store, run, split
        self.evidence: Evidence = evidence
        self.sorts = _SORTS

    @property
    def classes(self) -> ClassTable:
        """The class table of the run, with its colours."""
        path = artifact(self.store, self.run.id, "classes.json")
        if path is None:
            return ClassTable.parse(list(self.evidence.classes))
        return ClassTable.parse(json.loads(path.read_text(encoding="utf-8")))

    def rows(self, choice: Choice) -> tuple[list[dict[str, Any]], int]:
        """Return the samples of a page, and the number of pages.

        Raises:
            ConfigError: no such class.
        """
        evidence = self.evidence
        scores, present = self._scores(choice.of)
        order = np.flatnonzero(present)
        keys = {"worst": scores, "best": -scores, "disputed": -evidence.disputed}
        if choice.sort in keys:
            order = order[np.argsort(keys[choice.sort][order], kind="stable")]
        else:
            order = np.array(sorted(order, key=lambda n: evidence.names[n]), np.int64)
        first = (choice.page - 1) * _PER_PAGE
        rows = [self._row(int(n), float(scores[n])) for n in order[first : first + _PER_PAGE]]
        return rows, max(1, -(-len(order) // _PER_PAGE))

    def _row(self, number: int, score: float) -> dict[str, Any]:
        evidence = self.evidence
        name = evidence.names[number]
        matrix = evidence.matrices[number]
        confusions = matrix - np.diag(np.diag(matrix))
        true, predicted = np.unravel_index(int(confusions.argmax()), matrix.shape)
        is_wrong = confusions[true, predicted] > 0
        pair = (evidence.classes[int(true)], evidence.classes[int(predicted)])
        return {
            "number": number,
            "name": name,
            "score": score,
            "disputed": float(evidence.disputed[number]),
            "confusion": pair if is_wrong else None,
            "views": self._views(name),
        }

    def _views(self, name: str) -> list[str]:
        """Return the views of an image; none where the run kept no small prediction."""
        if name not in self.evidence.masks:
            return []
        return [*_VIEWS, _DISPUTED] if name in self.evidence.disputes else [*_VIEWS]

    def _scores(self, of: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the score of each image, and whether it is shown."""
        evidence = self.evidence
        if not of:
            return evidence.image_miou, np.ones(len(evidence.names), np.bool_)
        if of not in evidence.classes:
            raise ConfigError(f"of={of}: no such class; {nearest(of, evidence.classes)}")
        index = evidence.classes.index(of)
        hit = evidence.matrices[:, index, index]
        union = evidence.matrices[:, index].sum(1) + evidence.matrices[:, :, index].sum(1) - hit
        iou = np.divide(hit, union, out=np.zeros(len(hit)), where=union > 0)
        return iou, union > 0

    def picture(self, number: int, view: str) -> bytes:
        """Return one view of an image as PNG.

        Raises:
            ConfigError: no such view, or the store keeps no picture of the image.
        """
        evidence = self.evidence
        if not 0 <= number < len(evidence.names):
            raise ConfigError(f"there is no image {number} in the {self.split} split.")
        name = evidence.names[number]
        views = self._views(name)
        if view not in views:
            known = ", ".join(views) or "none"
            raise ConfigError(f"'{name}' has no view '{view}'; it has: {known}.")
        saved = pictures(self.store, evidence.origin.fingerprint, [name])
        if name not in saved:
            raise ConfigError(f"the store keeps no picture of '{name}'.")
        image, truth = saved[name]
        if view == _DISPUTED:
            drawn = draw_disputed(image, evidence.disputes[name])
        else:
            strip = four_views(image, truth, evidence.masks[name], self.classes)
            drawn = np.split(strip, len(_VIEWS), axis=1)[_VIEWS.index(view)]
        buffer = io.BytesIO()
        Image.fromarray(drawn).save(buffer, "PNG")
        return buffer.getvalue()
