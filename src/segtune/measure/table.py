"""The table of metrics: each is a function of counted predictions, registered under its name.

`segtune.plugins.own` lists ours with their direction. A metric returns a number, class -> number
for a figure of each class, or None where it is not defined.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.errors import ConfigError
from segtune.measure.calibration import Calibration
from segtune.measure.metrics import PerClass, Scores, mean_of, score
from segtune.plugins.registry import Part, parts


class Counted(Protocol):
    """Counts that every metric can read, at each epoch and on a whole split.

    Attributes:
        matrix: (C, C) int64 confusion matrix of the split; rows are targets.
        classes: names in the order of their ids.
        unit: the thing that the matrix counts, `pixel` or `region`.
    """

    @property
    def matrix(self) -> NDArray[np.int64]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def unit(self) -> str: ...
    @property
    def scores(self) -> Scores: ...


class Measured(Counted, Protocol):
    """The evidence of a split, see `segtune.measure.evidence.Evidence`."""

    @property
    def boundary_iou(self) -> PerClass: ...
    @property
    def calibration(self) -> Calibration: ...


@dataclass(frozen=True)
class EpochCounts:
    """The counts of a validation during training."""

    matrix: NDArray[np.int64]
    classes: tuple[str, ...]
    unit: str = "pixel"

    @cached_property
    def scores(self) -> Scores:
        """Scores of the whole split."""
        return score(torch.from_numpy(self.matrix))


def metrics_of(counts: Any, prefix: str = "", each_epoch: bool = False) -> dict[str, float]:
    """Compute all registered metrics by the name that they are logged under.

    Args:
        counts: `EpochCounts`, or the evidence of a split.
        each_epoch: only those that need no more than `Counted`.

    Raises:
        ConfigError: a metric fails, or returns no finite number.
    """
    figures: dict[str, float] = {}
    for name, part in parts("metric").items():
        if each_epoch and not part.facts.get("each_epoch"):
            continue
        figures |= {f"{prefix}{key}": value for key, value in _figures(name, part, counts).items()}
    return figures


def plugin_metrics(counts: Any) -> dict[str, float]:
    """Compute the metrics of plugins alone."""
    ours = {name for name, part in parts("metric").items() if part.plugin is None}
    figures = metrics_of(counts)
    return {key: value for key, value in figures.items() if key.partition("/")[0] not in ours}


def _figures(name: str, part: Part, counts: Any) -> dict[str, float]:
    if part.plugin is None:
        value = part.load()(counts)
    else:
        try:
            value = part.load()(counts)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"metric '{name}' of plugin '{part.plugin.name}' fails: {reason}"
            ) from error
    if value is None:
        return {}
    by_key = value if isinstance(value, Mapping) else {"": value}
    figures = {}
    for key, number in by_key.items():
        if number is None:
            continue
        if not isinstance(number, int | float | np.number) or not math.isfinite(number):
            raise ConfigError(f"metric '{name}' returns {number!r}; expected is a finite number.")
        figures[f"{name}/{key}" if key else name] = float(number)
    return figures


def direction(metric: str) -> str | None:
    """Return `maximize` or `minimize` for a logged metric, as `iou/road`; None if unknown."""
    part = parts("metric").get(metric.partition("/")[0])
    return None if part is None else str(part.facts.get("direction", "maximize"))


def miou(counts: Counted) -> float:
    """Mean intersection over union of the classes that occur, in [0, 1]."""
    return counts.scores.miou


def pixel_accuracy(counts: Counted) -> float | None:
    """Share of the counted pixels whose prediction is right."""
    return counts.scores.pixel_accuracy if counts.unit == "pixel" else None


def region_accuracy(counts: Counted) -> float | None:
    """Share of the counted regions whose label is right."""
    return counts.scores.pixel_accuracy if counts.unit == "region" else None


def mean_dice(counts: Counted) -> float:
    """Mean Dice coefficient of the classes that occur, in [0, 1]."""
    return counts.scores.mean_dice


def fwiou(counts: Counted) -> float:
    """Mean IoU, weighted by each class's share of the target pixels, in [0, 1]."""
    return counts.scores.fwiou


def iou(counts: Counted) -> dict[str, float | None]:
    """IoU of each class that occurs, in [0, 1]."""
    return dict(zip(counts.classes, counts.scores.iou, strict=True))


def mean_boundary_iou(counts: Measured) -> float | None:
    """Mean boundary IoU of the classes that occur, in [0, 1]; regions have none."""
    return mean_of(counts.boundary_iou) if counts.unit == "pixel" else None


def ece(counts: Measured) -> float:
    """Expected calibration error, in [0, 1]."""
    return counts.calibration.error
