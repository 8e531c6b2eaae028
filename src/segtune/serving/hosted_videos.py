"""Videos of the hosted segmenter's clients: each frame waits for its turn like an image."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from segtune.errors import DataError
from segtune.inference.frames import FrameSegmenter
from segtune.inference.media.video import Video, VideoFrame
from segtune.inference.options import Options
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.regions.writers import clarifai_frame
from segtune.inference.smoothing import Tracker
from segtune.runtime.temporary import temporary_folder
from segtune.serving.computing import ComputeThreads
from segtune.serving.served import ServedModel


async def hosted_frames(
    data: bytes,
    served: ServedModel,
    options: Options,
    threads: ComputeThreads,
    decoded: asyncio.Semaphore,
) -> list[dict[str, Any]]:
    """Segment the frames of a video, one per `sample_ms`.

    Args:
        decoded: to hold while a frame is in memory.

    Returns:
        the entries of `data.frames`.

    Raises:
        DataError: not a video.
    """
    with temporary_folder() as folder:
        path = folder / "video.mp4"
        await asyncio.to_thread(path.write_bytes, data)
        frames = _Frames(path, options)
        segmenter, tracker = FrameSegmenter(served.segmenter, options), Tracker()
        rows: list[dict[str, Any]] = []

        def encode(frame: VideoFrame, regions: list[Region]) -> dict[str, Any]:
            return clarifai_frame(frame.number, frame.time, tracker.update(regions))

        try:
            while True:
                async with decoded:
                    frame = await threads.run(frames.next)
                    if frame is None:
                        return rows
                    work = partial(_regions, frame, segmenter, served)
                    regions = await threads.compute(work)
                rows.append(await threads.run(encode, frame, regions))
        finally:
            await asyncio.to_thread(frames.close)


def _regions(frame: VideoFrame, segmenter: FrameSegmenter, served: ServedModel) -> list[Region]:
    found, options = segmenter.segment(frame.image), segmenter.options
    regions = find_regions(
        found.mask, found.confidence, found.classes, options.split, options.min_area
    )
    return served.workflow.refine(found, regions) if served.workflow else regions


class _Frames:
    """Reads frames in any thread, one at a time."""

    def __init__(self, path: Path, options: Options) -> None:
        self._path, self._options = path, options
        self._lock = threading.Lock()
        self._frames: Iterator[VideoFrame] | None = None
        self._is_closed = False

    def next(self) -> VideoFrame | None:
        """The next frame; None at the end."""
        options = self._options
        with self._lock:
            try:
                if self._frames is None:
                    self._frames = iter(Video(self._path, options.sample_ms, options.max_pixels))
                return None if self._is_closed else next(self._frames, None)
            except DataError as error:
                message = str(error).replace(str(self._path), "the video")
                raise DataError(message) from None

    def close(self) -> None:
        """Close the file, after the frame that is being read."""
        with self._lock:
            self._is_closed, self._frames = True, None
