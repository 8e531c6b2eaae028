"""The videos of a prediction: decoding, model and writing overlap.

Each frame is a line in a file beside the outputs, so that an interrupted prediction resumes within
the video.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segtune.classes import ClassTable
from segtune.data.reading.images import read_mask
from segtune.inference.frames import FrameSegmenter
from segtune.inference.media.inputs import Input
from segtune.inference.media.video import OverlayWriter, Video, VideoFrame, overlay_video
from segtune.inference.prediction.context import PredictionContext
from segtune.inference.prediction.formats import Format
from segtune.inference.prediction.journal import Journal, read_lines
from segtune.inference.prediction.pipeline import Behind, ahead
from segtune.inference.regions.overlay import on_white
from segtune.inference.regions.regions import SCHEMA_VERSION, Region, paint
from segtune.inference.regions.writers import WrittenImage
from segtune.inference.segmenter import Segmentation
from segtune.inference.smoothing import WARM_UP, Tracker


def segment_video(context: PredictionContext, item: Input) -> dict[str, Any]:
    """Segment the frames of a video and write their outputs.

    Returns:
        the video's entry in regions.json.

    Raises:
        DataError: not a video, or a video without a frame that can be decoded.
        Interrupted: stopped by the user; finished frames are not computed again.
    """
    return _VideoPrediction(context, item).run()


class _VideoPrediction:
    def __init__(self, context: PredictionContext, item: Input) -> None:
        self.context, self.item = context, item
        options = context.options
        self.video = Video(item.path, options.sample_ms, options.max_pixels)
        self.frames = FrameSegmenter(context.segmenter, options)
        self.tracker = Tracker()
        self.drawn: list[tuple[Format, OverlayWriter]] = []
        self.edited: OverlayWriter | None = None

    def run(self) -> dict[str, Any]:
        context, item, video = self.context, self.item, self.video
        lines = self._frames_file()
        count, size, seconds = 0, (0, 0), 0.0
        with ExitStack() as stack:
            log = stack.enter_context(Journal(lines, self._settings(lines)))
            stored = _StoredFrames(log)
            if stored.last >= 0:
                context.say(f"{item.name}: resumes after frame {stored.last}")
            self._open_videos(stack)
            pictures = stack.enter_context(Behind[None](lambda _: None, depth=6))
            rows = stack.enter_context(Behind[dict[str, Any]](log.add, depth=6))
            for frame in ahead(iter(video)):
                context.check_stop(f" at frame {frame.number} of '{item.name}'")
                if frame.number <= stored.last:
                    self._redraw(frame, stored, pictures)
                else:
                    segmentation = self.frames.segment(frame.image)
                    rows.submit(self._write, frame, segmentation)
                    self._draw(frame, segmentation.mask, pictures)
                count, size, seconds = count + 1, frame.image.shape[:2], frame.time
                number = frame.number + 1
                context.progress(
                    f"frames of {item.output_stem.name}", number, max(video.expected, number)
                )
        row = {
            "file": item.name,
            "place": item.output_stem.as_posix(),
            "width": size[1],
            "height": size[0],
            "frames": count,
            "frames_file": lines.relative_to(context.writer.output).as_posix(),
            "seconds": round(seconds, 6),
            "promised_seconds": video.promised,
            "partial": video.partial,
        }
        if self.frames.smoother and stored.last < 0:
            before, after = self.frames.smoother.before, self.frames.smoother.after
            row["flicker"] = {"before": before.share, "after": after.share}
        if video.partial:
            context.say(f"{item.name}: partial, {video.partial}")
        context.writer.video(
            WrittenImage(item.name, item.output_stem, context.writer.classes), lines
        )
        return row

    def _frames_file(self) -> Path:
        writer, stem = self.context.writer, self.item.output_stem
        path = writer.output / "regions" / stem.parent / f"{stem.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        return writer.record.add(path)

    def _settings(self, lines: Path) -> dict[str, Any]:
        """Return the head of the file of lines; delete a file of another video."""
        head = {
            "schema_version": SCHEMA_VERSION,
            "file": self.item.name,
            "stamp": list(self.item.stamp),
            "settings": dict(self.context.settings),
        }
        if next(read_lines(lines), head).get("stamp") != head["stamp"]:
            lines.unlink()
        return head

    def _open_videos(self, stack: ExitStack) -> None:
        writer, workflow = self.context.writer, self.context.workflow
        for name, chosen in writer.chosen.items():
            if chosen.format.has_video:
                path = writer.path(name, self.item.output_stem, ".mp4")
                video = stack.enter_context(overlay_video(path, self.video))
                self.drawn.append((chosen.format, video))
        if workflow and workflow.config.edits:
            path = writer.path("edited", self.item.output_stem, ".mp4")
            self.edited = stack.enter_context(overlay_video(path, self.video))

    def _write(self, frame: VideoFrame, segmentation: Segmentation) -> dict[str, Any]:
        """Write the outputs of a frame; return its line."""
        writer = self.context.writer
        regions = self.tracker.update(self.context.find_regions(segmentation))
        stem = self._frame_stem(frame)
        image = WrittenImage(self.item.name, stem, writer.classes, is_frame=True)
        writer.image(image, segmentation, regions)
        row: dict[str, Any] = {
            "number": frame.number,
            "time": round(frame.time, 6),
            "regions": [r.to_json(writer.has_polygons) for r in regions],
        }
        if self.edited:
            row["facts"] = self._edit(frame, segmentation, regions)
        return row

    def _edit(
        self, frame: VideoFrame, segmentation: Segmentation, regions: list[Region]
    ) -> Mapping[str, Any]:
        """Write the edited frame; return the facts of the edits."""
        assert self.context.workflow is not None and self.edited is not None
        edited = self.context.workflow.edit(segmentation, regions)
        assert edited is not None
        self.edited.write(on_white(edited.picture), frame.clock)
        return edited.facts

    def _redraw(self, frame: VideoFrame, stored: "_StoredFrames", pictures: Behind[None]) -> None:
        """Write a frame that an earlier call has segmented into the videos, which start anew."""
        regions = stored.next_regions()
        self.tracker.resume(regions)
        if self.frames.smoother and frame.number > stored.last - WARM_UP:
            self.frames.segment(frame.image)
        if not self.drawn and not self.edited:
            return
        mask = self._stored_mask(frame, regions)
        self._draw(frame, mask, pictures)
        if self.edited:
            unknown = np.ones(mask.shape, np.float32)
            classes = self.context.segmenter.classes
            self._edit(frame, Segmentation(frame.image, mask, unknown, classes), regions)

    def _draw(self, frame: VideoFrame, mask: NDArray[np.uint8], pictures: Behind[None]) -> None:
        """Draw a frame of the formats that are videos."""
        for form, video in self.drawn:
            pictures.submit(_draw, form, video, frame, mask, self.context.segmenter.classes)

    def _stored_mask(self, frame: VideoFrame, regions: list[Region]) -> NDArray[np.uint8]:
        path = self.context.writer.locate("masks", self._frame_stem(frame), ".png")
        return read_mask(path) if path.is_file() else paint(regions, *frame.image.shape[:2])

    def _frame_stem(self, frame: VideoFrame) -> Path:
        return self.item.output_stem / f"{frame.number:06d}"


class _StoredFrames:
    """The frames that an earlier call has written, read in step with the video."""

    def __init__(self, log: Journal) -> None:
        self.last = max((row["number"] for row in log.rows()), default=-1)
        self._rows: Iterator[dict[str, Any]] = log.rows()

    def next_regions(self) -> list[Region]:
        """Return the regions of the next frame."""
        return [Region.from_json(r) for r in next(self._rows)["regions"]]


def _draw(
    form: Format,
    video: OverlayWriter,
    frame: VideoFrame,
    mask: NDArray[np.uint8],
    classes: ClassTable,
) -> None:
    video.write(form.picture(frame.image, mask, classes), frame.clock)
