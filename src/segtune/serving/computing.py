"""The way of an image through the server: decoded, segmented, encoded, each in threads of its own.

One thread computes with the model, so that an image has all cores of torch; decoding and encoding
of other requests go on beside it. On a GPU, images that wait and have one size form a batch.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segtune.inference.options import Options
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.segmenter import Segmentation
from segtune.inference.workflow.workflow import Edited
from segtune.serving.served import ServedModel

_LARGEST_BATCH = 8  # images, on a GPU
_CODECS = 2  # threads that decode and encode

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentedImage:
    """One image with its labels, from one version of the model.

    Attributes:
        edited: of a workflow with edits.
    """

    served: ServedModel
    segmentation: Segmentation
    regions: list[Region]
    edited: Edited | None = None


@dataclass
class _Task:
    served: ServedModel
    pixels: NDArray[np.uint8]
    options: Options
    result: "Future[Segmentation]" = field(default_factory=Future)

    @property
    def key(self) -> tuple[int, tuple[int, ...], str, bool]:
        """Tasks with one key can be computed in one batch."""
        return id(self.served), self.pixels.shape, self.options.tta, self.options.tile is None


class ComputeThreads:
    """The threads of a server. `close` ends them."""

    def __init__(self) -> None:
        self._codecs = ThreadPoolExecutor(_CODECS, "codec")
        self._waiting: queue.Queue[_Task | None] = queue.Queue()
        self._thread = threading.Thread(target=self._compute, name="model", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run work of a codec: reading, drawing, writing."""
        return await asyncio.get_running_loop().run_in_executor(self._codecs, work, *arguments)

    async def segment(
        self, served: ServedModel, pixels: NDArray[np.uint8], options: Options
    ) -> SegmentedImage:
        """Segment an image (H, W, 3); a request that is cancelled before its turn costs nothing."""
        task = _Task(served, pixels, options)
        self._waiting.put(task)
        segmentation = await asyncio.wrap_future(task.result)
        return await self.run(_with_regions, served, segmentation, options)

    def close(self) -> None:
        """End the threads; images that wait are given up."""
        self._waiting.put(None)
        self._thread.join()
        self._codecs.shutdown(cancel_futures=True)

    def _compute(self) -> None:
        held: _Task | None = None
        while True:
            task = held or self._waiting.get()
            held = None
            if task is None:
                return
            batch, held = self._batch_from(task)
            running = [t for t in batch if t.result.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                results = _segment(running)
            except Exception as error:
                for t in running:
                    t.result.set_exception(error)
            else:
                for t, segmentation in zip(running, results, strict=True):
                    t.result.set_result(segmentation)

    def _batch_from(self, first: _Task) -> tuple[list[_Task], _Task | None]:
        """The tasks that can be computed with the first one, and the next that cannot."""
        batch = [first]
        segmenter = first.served.segmenter
        size = first.pixels.shape[0], first.pixels.shape[1]
        can_grow = segmenter.device.type != "cpu" and segmenter.fits_in_one_piece(size)
        while can_grow and len(batch) < _LARGEST_BATCH:
            try:
                task = self._waiting.get_nowait()
            except queue.Empty:
                break
            if task is None or task.key != first.key:
                if task is None:
                    self._waiting.put(None)
                return batch, task
            batch.append(task)
        return batch, None


def _segment(tasks: list[_Task]) -> list[Segmentation]:
    first = tasks[0]
    segmenter, options = first.served.segmenter, first.options
    if len(tasks) == 1:
        return [segmenter.segment(first.pixels, tiling=options.tiling, tta=options.tta)]
    decided = segmenter.segment_batch([task.pixels for task in tasks], options.tta)
    rows = zip(tasks, decided, strict=True)
    return [Segmentation(task.pixels, *result, segmenter.classes) for task, result in rows]


def _with_regions(
    served: ServedModel, segmentation: Segmentation, options: Options
) -> SegmentedImage:
    regions = find_regions(
        segmentation.mask,
        segmentation.confidence,
        segmentation.classes,
        options.split,
        options.min_area,
    )
    if served.workflow is None:
        return SegmentedImage(served, segmentation, regions)
    regions = served.workflow.refine(segmentation, regions)
    return SegmentedImage(
        served, segmentation, regions, served.workflow.edit(segmentation, regions)
    )
