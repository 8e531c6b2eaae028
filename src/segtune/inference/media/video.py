"""Videos: frames with their times out of whatever FFmpeg reads, and overlays with the original timing and sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from segtune.errors import DataError
from segtune.runtime.atomic import atomic_file

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip
_SLACK = 0.25  # seconds by which a container may promise too much
_MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
_BT709 = 1  # the code of ITU-T H.273 for its matrix, its primaries and its transfer function alike
_LIMITED = 1  # luma in 16..235


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame: number from 0, time in seconds from the first frame, (H, W, 3) uint8 RGB, upright.

    Attributes:
        clock: its time on the container's own clock, in seconds.
    """

    number: int
    time: float
    image: NDArray[np.uint8]
    clock: Fraction


class Video:
    """A video file; iterating decodes it, and then tells whether it was whole.

    Attributes:
        rate: frames per second, on average.
        promised: seconds that the container says the video lasts; None where it says nothing.
        expected: frames that the container says there are; 0 where it says nothing.
        partial: after iteration, what is missing of a damaged or cut video; None where it is whole.

    Raises:
        DataError: no such file, not a video, or no video stream in it.
    """

    def __init__(self, path: Path, sample_ms: float | None = None) -> None:
        self.path, self.sample_ms = path, sample_ms
        self.partial: str | None = None
        if not path.is_file():
            raise DataError(f"'{path}': no such file.")
        if path.stat().st_size == 0:
            raise DataError(f"'{path}' is empty (0 bytes). Fetch or copy it again.")
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                    raise DataError(f"'{path}' has no video stream; it holds {kinds}.")
                stream = container.streams.video[0]
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
                self.promised = _promise(container, stream)
                self.expected = stream.frames or round((self.promised or 0) * self.rate)
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"'{path}' is not a video that can be read: {_plain(error)}.") from None

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames, or every `sample_ms` the first one that follows."""
        number, reached, due = 0, 0.0, 0.0
        first: Fraction | None = None
        fault = ""
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    clock = Fraction(number) / self.rate
                    if frame.pts is not None and frame.time_base:
                        clock = frame.pts * frame.time_base
                    first = clock if first is None else first
                    time = float(clock - first)
                    lasts = (
                        float(frame.duration * frame.time_base)
                        if frame.duration and frame.time_base
                        else 0.0
                    )
                    reached = max(reached, time + max(lasts, float(1 / self.rate)))
                    if self.sample_ms is None or time * 1000 >= due - 1e-6:
                        yield VideoFrame(number, time, _upright(frame), clock)
                        due += self.sample_ms or 0.0
                        if self.sample_ms:
                            due = max(due, (time * 1000 // self.sample_ms + 1) * self.sample_ms)
                    number += 1
        except (av.FFmpegError, OSError) as error:
            fault = f"; {_plain(error)}"
        if number == 0:
            raise DataError(f"'{self.path}' holds no frame that can be decoded{fault}.")
        short = self.promised is not None and self.promised - reached > _SLACK
        if fault or short:
            of = f" of {self.promised:.2f}" if self.promised else ""
            frames = f" of about {self.expected}" if self.expected else ""
            self.partial = f"decoded {number}{frames} frames, {reached:.2f}{of} s{fault}"


@contextmanager
def overlay_video(path: Path, video: Video) -> Iterator["OverlayWriter"]:
    """Open an MP4 for writing; it gets its name when the block succeeds."""
    with atomic_file(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as output:
        writer = OverlayWriter(output, video)
        try:
            yield writer
            writer.finish()
        finally:
            writer.sound.close()


class OverlayWriter:
    """Write frames to an MP4, each at its time in the source, with the sound of the source.

    Colours are BT.709 in limited range, and the stream says so: without this tag, players guess
    the colours from the size of the frame. Sound that MP4 supports is copied; other sound is
    encoded as AAC.
    """

    def __init__(self, output: Any, video: Video) -> None:
        self.video = video
        self.sound = _Sound(video.path, output)
        self._output = output
        self._stream: Any = None
        self._last: Fraction | None = None

    def write(self, picture: NDArray[np.uint8], clock: Fraction) -> None:
        """Adds a frame (H, W, 3); the times must rise."""
        height, width = (
            picture.shape[0] // 2 * 2,
            picture.shape[1] // 2 * 2,
        )  # H.264 needs even sides
        if self._stream is None:
            options = {"crf": "20", "preset": "veryfast"}
            self._stream = self._output.add_stream("libx264", rate=self.video.rate, options=options)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            context = self._stream.codec_context
            context.time_base = Fraction(1, 90_000)
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
        if self._last is not None and clock <= self._last:
            clock = self._last + Fraction(1, 90_000)
        self._last = clock
        stream = self._stream
        if picture.shape[:2] != (
            stream.height,
            stream.width,
        ):  # a stream may change its size on the way
            picture = np.ascontiguousarray(picture[: stream.height, : stream.width])
            missing = [
                (0, stream.height - picture.shape[0]),
                (0, stream.width - picture.shape[1]),
                (0, 0),
            ]
            picture = np.pad(picture, missing)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = round(clock * 90_000), Fraction(1, 90_000)
        self._output.mux(stream.encode(frame))
        self.sound.copy_until(float(clock))

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and the rest of the sound."""
        if self._stream is not None:
            self._output.mux(self._stream.encode())
            self.sound.copy_until(float("inf"))


class _Sound:
    """The first audio stream of a file, on its way into another one."""

    def __init__(self, path: Path, output: Any) -> None:
        self._output = output
        self._input = av.open(str(path))
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        streams = self._input.streams.audio
        if not streams:
            return
        source = streams[0]
        self._encoder: Any = None
        if source.codec_context.name in _MP4_SOUND:
            self._target = output.add_stream_from_template(source)
        else:
            rate = source.codec_context.sample_rate or 48_000
            self._target = self._encoder = output.add_stream("aac", rate=rate)
            self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
        self._packets = self._input.demux(source)

    def copy_until(self, seconds: float) -> None:
        """Copies what is heard up to a time of the container's clock; sound that breaks off ends there."""
        while True:
            try:
                packet = self._held if self._held is not None else next(self._packets, None)
            except av.FFmpegError:
                self._packets, packet = iter(()), None
            if packet is None:
                return
            self._held = None
            if packet.dts is None:
                continue
            if float(packet.dts * packet.time_base) > seconds:
                self._held = packet
                return
            self._copy(packet)

    def _copy(self, packet: Any) -> None:
        if self._encoder is None:
            packet.stream = self._target
            self._output.mux(packet)
            return
        try:
            for frame in packet.decode():
                for resampled in self._resampler.resample(frame):
                    self._output.mux(self._encoder.encode(resampled))
        except av.FFmpegError:
            return

    def close(self) -> None:
        """Flushes what an encoder holds, and lets the file go."""
        if getattr(self, "_encoder", None) is not None:
            self._output.mux(self._encoder.encode(None))
        self._input.close()


def _upright(frame: Any) -> NDArray[np.uint8]:
    """The frame as players show it: turned and mirrored by its display matrix (ISO 14496-12, 6.2.2).

    The matrix takes a pixel (x, y) to (a x + c y, b x + d y), up to a shift.
    """
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    across, down = a, d
    if abs(b) > abs(a):
        image, across, down = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if across < 0 else image
    return np.ascontiguousarray(image[::-1] if down < 0 else image)


def _promise(container: Any, stream: Any) -> float | None:
    """Seconds of the video stream: its own duration, Matroska's tag, or the container's."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(
            stream.frames / stream.average_rate
        )  # the header's; FFmpeg's own estimate is from the file's size
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    if tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        start = float((stream.start_time or 0) * stream.time_base)
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start
    return float(container.duration) / av.time_base if container.duration else None


def _plain(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
