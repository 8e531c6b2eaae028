"""What a run came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtune.tracking.runs import State


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        metrics: `val/miou`, `val/iou/<class>` and the rest of `Evidence.metrics`, of the kept segmenter; the
            best `val/miou` of a pruned run.
        segmenter: its folder; None for a run that did not finish.
        cost: what the model costs, see `models.cost`; not measured for a pruned run without limits.
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
        """What `segtune.load` and `segtune predict model=` take."""
        return f"runs:/{self.run_id}"

    @property
    def miou(self) -> float:
        """Mean IoU on the val split, in [0, 1]."""
        return self.metrics["val/miou"]

    @property
    def summary(self) -> str:
        """One line."""
        if self.state == "infeasible":
            return "beyond the constraints: " + ", ".join(
                f"{k} {v:.4g}" for k, v in self.cost.items()
            )
        return f"{self.state}: val mIoU {self.miou:.4f}, {self.seconds:.0f} s"

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
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
