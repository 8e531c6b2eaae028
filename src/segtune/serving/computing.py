"""Threads of a server: codecs decode and encode images, lanes compute them.

On a CPU, an image that comes alone gets all of torch's threads; images that come together are
computed side by side, with one thread each, which needs no waiting between the threads of a layer.
On a GPU, images that wait and have one size form a batch.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from segtune.inference.options import Options
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.workflow.workflow import Edited
from segtune.serving.served import ServedModel
from segtune.serving.threads import compute_threads, use_threads

_LARGEST_BATCH = 8  # images, on a GPU
_CODECS = 2  # threads that decode and encode
_MOST_LANES = 4  # images that a CPU computes side by side; each needs memory
_SIDE_BY_SIDE = ("auto", "eager", "bf16")  # engines of PyTorch; others may share memory

T = TypeVar("T")


@dataclass(frozen=True)
class SegmentedImage:
    """One image with its labels, from one version of the model.

    Regions and edits are computed when they are first asked for: a mask alone needs neither.
    """

    served: ServedModel
    segmentation: Segmentation
    options: Options

    @cached_property
    def regions(self) -> list[Region]:
        """The regions, as the workflow refines them."""
        found, options = self.segmentation, self.options
        regions = find_regions(
            found.mask, found.confidence, found.classes, options.split, options.min_area
        )
        workflow = self.served.workflow
        return regions if workflow is None else workflow.refine(found, regions)

    @cached_property
    def edited(self) -> Edited | None:
        """The picture of a workflow with edits."""
        workflow = self.served.workflow
        return None if workflow is None else workflow.edit(self.segmentation, self.regions)


class _Image(NamedTuple):
    served: ServedModel
    pixels: NDArray[np.uint8]
    options: Options

    @property
    def batch_key(self) -> tuple[int, tuple[int, ...], str] | None:
        """Images with one key can be computed in one batch; None for an image alone."""
        segmenter = self.served.segmenter
        if segmenter.device.type == "cpu" or self.options.tile is not None:
            return None
        if not segmenter.fits_in_one_piece((self.pixels.shape[0], self.pixels.shape[1])):
            return None
        return id(self.served), self.pixels.shape, self.options.tta

    def segment(self) -> SegmentedImage:
        """Compute this image alone."""
        segmenter, options = self.served.segmenter, self.options
        return self.finish(segmenter.segment(self.pixels, tiling=options.tiling, tta=options.tta))

    def finish(self, found: Segmentation) -> SegmentedImage:
        """Let the workflow compute its part, since labelers need a lane, too."""
        image = SegmentedImage(self.served, found, self.options)
        if self.served.workflow is not None:
            _ = image.edited
        return image


@dataclass(eq=False)
class _Task:
    """Work for a lane.

    Attributes:
        image: that `work` segments; on a GPU it may be computed in a batch instead.
    """

    work: Callable[[], Any]
    image: _Image | None = None
    result: "Future[Any]" = field(default_factory=Future)

    @property
    def batch_key(self) -> tuple[int, tuple[int, ...], str] | None:
        """See `_Image.batch_key`."""
        return None if self.image is None else self.image.batch_key


class ComputeThreads:
    """The threads of a server. `close` ends them.

    Images are computed in lanes, a thread each. The first lane takes what comes alone; another one
    takes an image only while all before it are busy. Only the first lane has a team of threads in
    OpenMP: with more of them than processors, OpenMP puts threads to sleep between any two layers.

    Args:
        segmenter: whose device and engine decide how many images are computed at a time.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._threads = compute_threads()
        is_parallel = segmenter.device.type == "cpu" and segmenter.engine.name in _SIDE_BY_SIDE
        num_lanes = min(self._threads, _MOST_LANES) if is_parallel else 1
        self._codecs = ThreadPoolExecutor(_CODECS, "codec")
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._is_busy = [False] * num_lanes
        self._is_closing = False
        self._lanes = [
            threading.Thread(target=self._compute, args=(lane,), name=f"model {lane}", daemon=True)
            for lane in range(num_lanes)
        ]
        for thread in self._lanes:
            thread.start()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run work of a codec: reading, drawing, writing."""
        return await asyncio.get_running_loop().run_in_executor(self._codecs, work, *arguments)

    async def segment(
        self, served: ServedModel, pixels: NDArray[np.uint8], options: Options
    ) -> SegmentedImage:
        """Segment an image (H, W, 3)."""
        image = _Image(served, pixels, options)
        return cast(SegmentedImage, await self._result_of(_Task(image.segment, image)))

    async def compute(self, work: Callable[[], T]) -> T:
        """Run other work of the model, when a lane is free."""
        return cast(T, await self._result_of(_Task(work)))

    async def _result_of(self, task: _Task) -> Any:
        """Wait for a task; one that is cancelled before its turn costs neither time nor memory."""
        with self._changed:
            self._waiting.append(task)
            self._changed.notify_all()
        try:
            return await asyncio.wrap_future(task.result)
        except asyncio.CancelledError:
            with self._changed, suppress(ValueError):  # its turn has come
                self._waiting.remove(task)
            raise

    def close(self) -> None:
        """End the threads; images that wait are given up."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in self._lanes:
            thread.join()
        self._codecs.shutdown(cancel_futures=True)

    def _compute(self, lane: int) -> None:
        num_threads = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._has_turn(lane))
                if self._is_closing:
                    return
                batch = self._batch_of_first()
                self._is_busy[lane] = True
                wanted = self._threads_for(lane)
                self._changed.notify_all()  # the next lane takes what still waits
            if wanted != num_threads:
                num_threads = wanted
                use_threads(num_threads)
            _finish([task for task in batch if task.result.set_running_or_notify_cancel()])
            with self._changed:
                self._is_busy[lane] = False
                self._changed.notify_all()

    def _has_turn(self, lane: int) -> bool:
        return bool(self._waiting) and all(self._is_busy[:lane])

    def _threads_for(self, lane: int) -> int:
        """Threads of an image that begins now: the first lane has those that no other needs."""
        if lane > 0:
            return 1
        others = min(sum(self._is_busy[1:]) + len(self._waiting), len(self._lanes) - 1)
        return self._threads - others

    def _batch_of_first(self) -> list[_Task]:
        """The first task that waits and, on a GPU, those behind it that fit into its batch."""
        batch = [self._waiting.popleft()]
        key = batch[0].batch_key
        if key is None:
            return batch
        while self._waiting and len(batch) < _LARGEST_BATCH and self._waiting[0].batch_key == key:
            batch.append(self._waiting.popleft())
        return batch


def _finish(tasks: list[_Task]) -> None:
    """Compute tasks of one batch and hand out their results, or the fault."""
    if not tasks:
        return
    try:
        if len(tasks) == 1:
            results = [tasks[0].work()]
        else:
            results = _segmented([task.image for task in tasks if task.image is not None])
    except Exception as error:
        for task in tasks:
            task.result.set_exception(error)
    else:
        for task, result in zip(tasks, results, strict=True):
            task.result.set_result(result)


def _segmented(images: list[_Image]) -> list[SegmentedImage]:
    """Compute images of one key in a batch."""
    served, options = images[0].served, images[0].options
    decided = served.segmenter.segment_batch([image.pixels for image in images], options.tta)
    results = []
    for image, (mask, confidence) in zip(images, decided, strict=True):
        found = Segmentation(image.pixels, mask, confidence, served.segmenter.classes)
        results.append(image.finish(found))
    return results
