"""Videos frame by frame: decoded with FFmpeg through PyAV, drawn over and encoded with the original timing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from segtune.errors import DataError
from segtune.inference.segmenter import Segmentation, Segmenter

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame: number from 0, time in seconds from the stream's start, (H, W, 3) uint8 RGB."""

    number: int
    time: float
    image: NDArray[np.uint8]
    pts: int


def read_frames(path: Path) -> Iterator[VideoFrame]:
    """The frames of a video's first video stream.

    Raises:
        DataError: not a video, no video stream, or damaged where reading got to.
    """
    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"'{path}' has no video stream.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start = stream.start_time or 0
            for frame in container.decode(stream):
                pts = (frame.pts if frame.pts is not None else number) - start
                time = float(pts * frame.time_base) if frame.time_base else float(number)
                yield VideoFrame(number, time, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), pts)
                number += 1
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"'{path}' cannot be read as video after {number} frames: {error}") from None
    if number == 0:
        raise DataError(f"'{path}' holds no frame that can be decoded.")


def segment_video(
    segmenter: Segmenter, path: Path, overlay: Path, progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[VideoFrame, Segmentation]]:
    """Segments every frame, and writes the overlay video as it goes.

    Args:
        overlay: an .mp4 file; written beside and renamed when it is whole.
        progress: is told how many frames are done.
    """
    temporary = overlay.with_name(f".{overlay.name}.part.mp4")
    try:
        with av.open(str(path)) as probe:
            if not probe.streams.video:
                raise DataError(f"'{path}' has no video stream.")
            source = probe.streams.video[0]
            rate, time_base = source.average_rate or 25, source.time_base
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"'{path}' is not a video that can be read: {error}") from None
    try:
        with av.open(str(temporary), "w") as container:
            stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
            stream.pix_fmt = "yuv420p"
            for frame in read_frames(path):
                found = segmenter.segment(frame.image)
                picture = found.overlay()
                height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2  # H.264 needs even sides
                if frame.number == 0:
                    stream.width, stream.height = width, height
                    stream.codec_context.time_base = time_base
                drawn = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                drawn.pts, drawn.time_base = frame.pts, time_base
                container.mux(stream.encode(drawn))
                yield frame, found
                progress(frame.number + 1)
            container.mux(stream.encode())
        temporary.replace(overlay)
    finally:
        temporary.unlink(missing_ok=True)
