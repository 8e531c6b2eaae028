"""The objects that all images and videos of one prediction share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segtune.errors import Interrupted
from segtune.inference.options import Options
from segtune.inference.prediction.writing import Writer
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest

Progress = Callable[[str, int, int], None]
"""(what is counted, number done, number in all)."""


@dataclass(frozen=True)
class PredictionContext:
    """The model, the options and the outputs of one prediction.

    Attributes:
        workflow: the workflow of the segmenter; None for a bare segmenter.
        settings: values that must not change when a later call resumes this one.
    """

    segmenter: Segmenter
    workflow: Workflow | None
    options: Options
    settings: Mapping[str, Any]
    writer: Writer
    say: Log
    progress: Progress
    stop: StopRequest

    def find_regions(self, segmentation: Segmentation) -> list[Region]:
        """Return the regions of an image or a frame, refined by the workflow."""
        regions = find_regions(
            segmentation.mask,
            segmentation.confidence,
            segmentation.classes,
            self.options.split,
            self.options.min_area,
        )
        return self.workflow.refine(segmentation, regions) if self.workflow else regions

    def check_stop(self, position: str = "") -> None:
        """Raise if the user has asked to stop.

        Args:
            position: where the work stops, as in ` at frame 7 of 'a.mp4'`.

        Raises:
            Interrupted: the same command resumes from there.
        """
        if self.stop.requested:
            raise Interrupted(
                f"stopped{position}; finished files are in '{self.writer.output}'. "
                "The same command resumes from there."
            )
