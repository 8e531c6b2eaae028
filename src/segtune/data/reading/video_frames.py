"""Frames of videos: as players show them, and single ones by their number."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.errors import DataError

VIDEO_SUFFIXES = tuple(
    ".mp4 .mov .mkv .avi .webm .m4v .mpg .mpeg .ts .mts .wmv .flv .ogv .3gp".split()
)


def upright_frame(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as players show it: turned and mirrored by its display matrix.

    The matrix (ISO 14496-12, 6.2.2) maps a pixel (x, y) to (a x + c y, b x + d y), up to a shift.

    Returns:
        RGB, (H, W, 3) uint8.
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


def frame_count(path: Path) -> int:
    """The number of frames of a video, counted packet by packet without decoding them.

    Raises:
        DataError: it is no video that can be read.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return sum(1 for packet in container.demux(stream) if packet.size)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"'{path}' is not a video that can be read: {error}.") from None


class VideoFrames:
    """Decodes chosen frames of a video as PNG files, forward and once.

    It may be shared by threads: a frame that was passed is kept until it is asked for.

    Args:
        numbers: the frames that will be asked for, each once, counted from 0.
    """

    def __init__(self, path: Path, numbers: Sequence[int]) -> None:
        self.path = path
        self._numbers = frozenset(numbers)
        self._passed: dict[int, bytes] = {}
        self._decoded = self._decode()
        self._lock = threading.Lock()

    def png(self, number: int) -> bytes:
        """The bytes of a PNG file of a frame.

        Raises:
            DataError: the video cannot be decoded that far.
        """
        with self._lock:
            while number not in self._passed:
                decoded = next(self._decoded, None)
                if decoded is None:
                    raise DataError(f"'{self.path}' ends before frame {number}; copy it again.")
                self._passed[decoded[0]] = decoded[1]
            return self._passed.pop(number)

    def _decode(self) -> Iterator[tuple[int, bytes]]:
        try:
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for number, frame in enumerate(container.decode(stream)):
                    if number in self._numbers:
                        yield number, _png(upright_frame(frame))
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DataError(f"'{self.path}' cannot be decoded: {error}.") from None


def _png(image: NDArray[np.uint8]) -> bytes:
    is_encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert is_encoded  # PNG holds every uint8 image
    return bytes(data)
