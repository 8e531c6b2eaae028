"""Read the frames of videos with their times; write overlays with the original times and sound."""

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

from segtune.config.defaults import MAX_PIXELS
from segtune.data.reading.video_frames import upright_frame
from segtune.errors import DataError
from segtune.runtime.atomic import atomic_file

_TOLERANCE = 0.25  # seconds by which a container may overstate the duration
_MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
_BT709 = 1  # code of ITU-T H.273 for matrix, primaries and transfer function
_LIMITED = 1  # luma in 16..235
_CLOCK_RATE = 90_000  # ticks per second in MP4 files


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame.

    Attributes:
        number: counts from 0.
        time: seconds after the first frame.
        image: (H, W, 3) uint8 RGB, upright.
        clock: seconds on the container's own clock.
    """

    number: int
    time: float
    image: NDArray[np.uint8]
    clock: Fraction


class Video:
    """A video file; iterating decodes its frames.

    Attributes:
        rate: mean number of frames per second.
        promised: duration in seconds that the container states; None if it states none.
        expected: number of frames that the container states; 0 if it states none.
        partial: after iteration, what a damaged or cut video lacks; None for a complete one.

    Args:
        sample_ms: take one frame per so many milliseconds; None takes every frame.
        max_pixels: videos with larger frames are refused.

    Raises:
        DataError: no such file, not a video, a file without a video stream, or frames of more
            than `max_pixels`.
    """

    def __init__(
        self, path: Path, sample_ms: float | None = None, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.path, self.sample_ms, self.max_pixels = path, sample_ms, max_pixels
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
                self._check_size(stream.width, stream.height)
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
                self.promised = _stated_duration(container, stream)
                self.expected = stream.frames or round((self.promised or 0) * self.rate)
        except (av.FFmpegError, OSError) as error:
            raise DataError(
                f"'{path}' is not a video that can be read: {_reason(error)}."
            ) from None

    def __iter__(self) -> Iterator[VideoFrame]:
        """Decode all frames, or one per `sample_ms`.

        Raises:
            DataError: no frame can be decoded.
        """
        number, decoded_seconds, due_ms = 0, 0.0, 0.0
        first_clock: Fraction | None = None
        fault = ""
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    self._check_size(frame.width, frame.height)
                    clock = self._clock(frame, number)
                    if first_clock is None:
                        first_clock = clock
                    time = float(clock - first_clock)
                    decoded_seconds = max(decoded_seconds, time + self._duration(frame))
                    if self.sample_ms is None or time * 1000 >= due_ms - 1e-6:
                        yield VideoFrame(number, time, upright_frame(frame), clock)
                        if self.sample_ms:
                            next_ms = (time * 1000 // self.sample_ms + 1) * self.sample_ms
                            due_ms = max(due_ms + self.sample_ms, next_ms)
                    number += 1
        except (av.FFmpegError, OSError) as error:
            fault = f"; {_reason(error)}"
        if number == 0:
            raise DataError(f"'{self.path}' holds no frame that can be decoded{fault}.")
        is_short = self.promised is not None and self.promised - decoded_seconds > _TOLERANCE
        if fault or is_short:
            frames = f" of about {self.expected}" if self.expected else ""
            duration = f" of {self.promised:.2f}" if self.promised else ""
            self.partial = (
                f"decoded {number}{frames} frames, {decoded_seconds:.2f}{duration} s{fault}"
            )

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise DataError(
                f"'{self.path}' has frames of {width} x {height} pixels; at most "
                f"{self.max_pixels:,} are allowed. Raise max_pixels=N if the video can be trusted."
            )

    def _clock(self, frame: Any, number: int) -> Fraction:
        if frame.pts is not None and frame.time_base:
            return Fraction(frame.pts * frame.time_base)
        return Fraction(number) / self.rate

    def _duration(self, frame: Any) -> float:
        """Return the seconds for which a frame is shown: at least those of the mean rate."""
        duration = frame.duration * frame.time_base if frame.duration and frame.time_base else 0.0
        return max(float(duration), float(1 / self.rate))


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
        """Add a frame (H, W, 3); times must rise."""
        if self._stream is None:
            self._stream = self._open_stream(picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2)
        if self._last is not None and clock <= self._last:
            clock = self._last + Fraction(1, _CLOCK_RATE)
        self._last = clock
        picture = _cropped_or_padded(picture, self._stream.height, self._stream.width)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = round(clock * _CLOCK_RATE), Fraction(1, _CLOCK_RATE)
        self._output.mux(self._stream.encode(frame))
        self.sound.copy_until(float(clock))

    def _open_stream(self, height: int, width: int) -> Any:
        """Open an H.264 stream; both sides must be even."""
        options = {"crf": "20", "preset": "veryfast"}
        stream = self._output.add_stream("libx264", rate=self.video.rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _CLOCK_RATE)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        return stream

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and the rest of the sound."""
        if self._stream is not None:
            self._output.mux(self._stream.encode())
            self.sound.copy_until(float("inf"))


def _cropped_or_padded(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the picture at the size of the stream: frames of a video may change their size."""
    picture = picture[:height, :width]
    if picture.shape[:2] != (height, width):
        missing = [(0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)]
        picture = np.pad(picture, missing)
    return np.ascontiguousarray(picture)


class _Sound:
    """Copies the first audio stream of a file into another file."""

    def __init__(self, path: Path, output: Any) -> None:
        self._output = output
        self._input = av.open(str(path))
        self._packets: Iterator[Any] = iter(())
        self._next_packet: Any = None
        self._encoder: Any = None
        streams = self._input.streams.audio
        if not streams:
            return
        source = streams[0]
        if source.codec_context.name in _MP4_SOUND:
            self._target = output.add_stream_from_template(source)
        else:
            rate = source.codec_context.sample_rate or 48_000
            self._target = self._encoder = output.add_stream("aac", rate=rate)
            self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
        self._packets = self._input.demux(source)

    def copy_until(self, seconds: float) -> None:
        """Copy the sound up to a time on the container's clock; damaged sound ends there."""
        while True:
            packet, self._next_packet = self._next_packet, None
            if packet is None:
                try:
                    packet = next(self._packets, None)
                except av.FFmpegError:
                    self._packets = iter(())
            if packet is None:
                return
            if packet.dts is None:
                continue
            if float(packet.dts * packet.time_base) > seconds:
                self._next_packet = packet
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
        """Write the sound that the encoder still holds, and close the source."""
        if self._encoder is not None:
            self._output.mux(self._encoder.encode(None))
        self._input.close()


def _stated_duration(container: Any, stream: Any) -> float | None:
    """Return the duration in seconds of the stream, in Matroska's tag, or of the container."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # from the header, since FFmpeg estimates the duration from the file's size
        return float(stream.frames / stream.average_rate)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")
    if tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        start = float((stream.start_time or 0) * stream.time_base)
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start
    return float(container.duration) / av.time_base if container.duration else None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
