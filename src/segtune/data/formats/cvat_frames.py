"""The frames that CVAT's form for video numbers: files of frames or images, or a video."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from segtune.data.formats.faults import reading
from segtune.data.formats.finding import FileFinder
from segtune.data.reading.images import IMAGE_SUFFIXES
from segtune.data.reading.video_frames import VIDEO_SUFFIXES, VideoFrames, frame_count
from segtune.data.source.files import walk
from segtune.errors import DataError

_FRAME_NAME = re.compile(r"frame_(\d+)", re.IGNORECASE)
_MAX_FRAMES = 10_000_000


@dataclass(frozen=True)
class Frame:
    """One frame of an annotated video.

    Attributes:
        number: in the video, from 0.
        image: its file, or the name and suffix of the one to write.
        data: returns the bytes of its image, where a video holds them.
    """

    number: int
    image: Path
    data: Callable[[], bytes] | None = None


def frames_of(tree: Element, path: Path, root: Path) -> list[Frame]:
    """The frames that an XML file with tracks is about, in their order.

    They are files `frame_000012.png` below the file's folder, or below root; else the video that
    the file names, or the only one; else the images of the task in the order of their names.

    Raises:
        DataError: there are none, or several would fit.
    """
    if tree.find("meta/project") is not None:
        raise DataError(
            f"'{path}' holds the tracks of a whole project, whose frames have no own numbers. "
            "Export each of its tasks: 'CVAT for video 1.1'."
        )
    with reading(f"'{path}' meta"):
        facts = _Facts.of(tree)
    folder = path.parent if _media(path.parent) else root
    images = [folder / file for file in walk(folder, IMAGE_SUFFIXES)]
    numbered = [image for image in images if _FRAME_NAME.fullmatch(image.stem)]
    if numbered:
        if facts.size is not None and len(numbered) > facts.size:
            raise DataError(
                f"'{path}' is of a task of {facts.size} frames, but '{folder}' holds "
                f"{len(numbered)} files frame_NUMBER. Keep those of this task alone."
            )
        return _by_number(numbered, path)
    if any(True for _ in walk(folder, VIDEO_SUFFIXES)):
        return _of_video(_video(folder, facts.source, path), facts)
    return _by_order(images, facts, path)


@dataclass(frozen=True)
class _Facts:
    """What the XML file states on its task; `start` and `step` count frames of the source."""

    source: str
    size: int | None
    start: int
    step: int

    @classmethod
    def of(cls, tree: Element) -> "_Facts":
        texts = {}
        for key in ("source", "size", "start_frame", "frame_filter"):
            texts[key] = tree.findtext(f"meta//{key}") or ""
        step = re.search(r"step\s*=\s*(\d+)", texts["frame_filter"])
        return cls(
            texts["source"],
            int(texts["size"]) if texts["size"] else None,
            int(texts["start_frame"] or 0),
            max(1, int(step[1])) if step else 1,
        )

    def number(self, index: int) -> int:
        """The number, in the source, of a frame of the task."""
        return self.start + index * self.step


def _media(folder: Path) -> bool:
    return any(True for _ in walk(folder, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)))


def _by_number(images: Sequence[Path], path: Path) -> list[Frame]:
    by_number: dict[int, Path] = {}
    for image in images:
        match = _FRAME_NAME.fullmatch(image.stem)
        assert match is not None  # the caller chose by it
        first = by_number.setdefault(int(match[1]), image)
        if first != image:
            raise DataError(
                f"'{path}': frame {int(match[1])} could be '{first}' or '{image}'. Put the frames "
                "of each XML file into the folder of that file."
            )
    return [Frame(number, by_number[number]) for number in sorted(by_number)]


def _video(folder: Path, source: str, path: Path) -> Path:
    videos = [folder / file for file in walk(folder, VIDEO_SUFFIXES)]
    if len(videos) == 1:
        return videos[0]
    finder = FileFinder(folder, suffixes=VIDEO_SUFFIXES)
    return finder.find(source, f"'{path}' meta, source,", path.parent)


def _of_video(video: Path, facts: _Facts) -> list[Frame]:
    size = facts.size
    if size is None:
        size = (frame_count(video) - facts.start + facts.step - 1) // facts.step
    if size > _MAX_FRAMES:
        raise DataError(f"'{video}': {size:,} frames are stated; {_MAX_FRAMES:,} are read at most.")
    numbers = [facts.number(index) for index in range(size)]
    frames = VideoFrames(video, numbers)
    return [
        Frame(
            number, video.with_name(f"{video.stem}_{number:06d}.png"), partial(frames.png, number)
        )
        for number in numbers
    ]


def _by_order(images: Sequence[Path], facts: _Facts, path: Path) -> list[Frame]:
    """Images of the task that keep their own names: CVAT sorts them."""
    if len(images) != facts.size:
        size = "no size" if facts.size is None else f"{facts.size} frames"
        raise DataError(
            f"'{path}' holds tracks over the frames of a video, and states {size}; beside it are "
            f"{len(images)} images and no video. Put the video beside it, or its frames as "
            "frame_000000.png, frame_000001.png and so on."
        )
    by_value = sorted(images, key=_natural_key)
    if by_value != sorted(images):
        raise DataError(
            f"'{path}' numbers its images, but '{by_value[0].name}' to '{by_value[-1].name}' have "
            "another order by name than by number. Name them frame_000000 and so on, or export "
            "the task as 'CVAT for images 1.1'."
        )
    return [Frame(facts.number(index), image) for index, image in enumerate(by_value)]


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """A key for sorting by the numbers in a path."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
