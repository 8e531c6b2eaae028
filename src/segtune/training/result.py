"""The result of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtune.tracking.runs import State


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        metrics: all figures of `Evidence.metrics` of the saved segmenter, such as `val/miou` and
            `val/iou/<class>`. A pruned run has its best `val/miou` alone.
        segmenter: folder of the segmenter; None if the run did not finish.
        seconds: duration of the run.
        cost: cost of the model, see `models.cost`. A pruned run has none.
        kind: `segmenter` or `labeler`.
    """

    run_id: str
    state: State
    metrics: Mapping[str, float]
    segmenter: Path | None
    folder: Path
    seconds: float
    cost: Mapping[str, float] = field(default_factory=dict)
    kind: str = "segmenter"

    @property
    def uri(self) -> str:
        """The URI of the model, as `segtune.load` and `segtune predict model=` take it."""
        return f"runs:/{self.run_id}"

    @property
    def miou(self) -> float:
        """Mean IoU on the val split, in [0, 1]."""
        return self.metrics["val/miou"]

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.state == "infeasible":
            costs = ", ".join(f"{name} {value:.4g}" for name, value in self.cost.items())
            return f"beyond the constraints: {costs}"
        return f"{self.state}: val mIoU {self.miou:.4f}, {self.seconds:.0f} s"

    def to_json(self) -> dict[str, Any]:
        """Plain data for scripts."""
        return {
            "run": self.run_id,
            "uri": self.uri,
            "state": self.state,
            "metrics": dict(self.metrics),
            "cost": dict(self.cost),
            "segmenter": str(self.segmenter) if self.segmenter else None,
            "folder": str(self.folder),
            "seconds": round(self.seconds, 2),
        }
