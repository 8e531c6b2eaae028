"""One video to its outputs: decoding, model and writing overlap; a line per frame, so that a stopped run resumes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.data.reading.images import read_mask, resize_image, target_size
from segtune.errors import Interrupted
from segtune.inference.decisions import decide
from segtune.inference.media.inputs import Input
from segtune.inference.media.video import OverlayWriter, Video, VideoFrame, overlay_video
from segtune.inference.options import Options
from segtune.inference.prediction.journal import Journal, read_lines
from segtune.inference.prediction.pipeline import Behind, ahead
from segtune.inference.prediction.writing import Writer
from segtune.inference.regions.overlay import draw_overlay, on_white
from segtune.inference.regions.regions import SCHEMA_VERSION, Region, paint
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.smoothing import WARM_UP, Smoother, Tracker
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest


def segment_video(
    segmenter: Segmenter,
    item: Input,
    writer: Writer,
    settings: Mapping[str, Any],
    options: Options,
    regions_of: Callable[[Segmentation], list[Region]],
    workflow: Workflow | None,
    stop: StopRequest,
    progress: Callable[[str, int, int], None],
    say: Log,
) -> dict[str, Any]:
    """Segments a video's frames and writes them as they come; returns its row of regions.json.

    Raises:
        DataError: not a video, or one without a frame that decodes.
        Interrupted: stopped by the user; frames that are written are not computed again.
    """
    video = Video(item.path, options.sample_ms)
    lines = writer.record.add(
        writer.output / "regions" / item.place.parent / f"{item.place.name}.jsonl"
    )
    lines.parent.mkdir(parents=True, exist_ok=True)
    head = {
        "schema_version": SCHEMA_VERSION,
        "file": item.name,
        "stamp": list(item.stamp),
        "settings": dict(settings),
    }
    if next(read_lines(lines), head).get("stamp") != head["stamp"]:
        lines.unlink()  # the file was replaced by another since
    smoother = None if options.smooth == "none" else Smoother(options.smooth)
    tracker = Tracker()
    count, size, seconds = 0, (0, 0), 0.0
    with ExitStack() as open_files:
        log = open_files.enter_context(Journal(lines, head))
        resumed = _Stored(log)
        if resumed.last >= 0:
            say(f"{item.name}: goes on after frame {resumed.last}")
        overlay = None
        if "overlays" in writer.formats:
            overlay = open_files.enter_context(
                overlay_video(writer.path("overlays", item.place, ".mp4"), video)
            )
        edit = None
        if workflow and workflow.config.edits:
            edit = _Edits(
                workflow,
                open_files.enter_context(
                    overlay_video(writer.path("edited", item.place, ".mp4"), video)
                ),
            )
        pictures = open_files.enter_context(Behind[None](lambda _: None, depth=6))
        rows = open_files.enter_context(
            Behind[dict[str, Any] | None](lambda row: log.add(row) if row else None, depth=6)
        )
        for frame in ahead(iter(video)):
            if stop.requested:
                raise Interrupted(
                    f"stopped at frame {frame.number} of '{item.name}'; what is finished lies in '{writer.output}'. "
                    "The same command goes on from there."
                )
            if resumed.holds(frame):
                regions = resumed.regions
                tracker.seen(regions)
                if smoother and frame.number > resumed.last - WARM_UP:
                    _segment(segmenter, frame.image, smoother, options)
                if overlay:
                    mask = _stored_mask(writer, item, frame, regions)
                    picture = draw_overlay(frame.image, mask, segmenter.classes)
                    pictures.submit(overlay.write, picture, frame.clock)
                if edit:
                    rows.submit(
                        _again,
                        edit,
                        frame,
                        _stored_mask(writer, item, frame, regions),
                        segmenter,
                        regions,
                    )
            else:
                found = _segment(segmenter, frame.image, smoother, options)
                rows.submit(_row, frame, found, item, writer, regions_of, tracker, edit)
                if overlay:
                    pictures.submit(_draw, overlay, found, frame)
            count, size, seconds = count + 1, frame.image.shape[:2], frame.time
            progress(
                f"frames of {item.place.name}",
                frame.number + 1,
                max(video.expected, frame.number + 1),
            )
    row = {
        "file": item.name, "place": item.place.as_posix(), "width": size[1], "height": size[0], "frames": count,
        "frames_file": lines.relative_to(writer.output).as_posix(), "seconds": round(seconds, 6),
        "promised_seconds": video.promised, "partial": video.partial,
    }  # fmt: skip
    if smoother and resumed.last < 0:
        row["flicker"] = {"before": smoother.before.share, "after": smoother.after.share}
    if video.partial:
        say(f"{item.name}: partial, {video.partial}")
    writer.clarifai_video(item.place, item.name, lines)
    return row


class _Stored:
    """The frames that an earlier call has written, in step with the video."""

    def __init__(self, log: Journal) -> None:
        self.last = max((row["number"] for row in log.rows()), default=-1)
        self._rows: Iterator[dict[str, Any]] = log.rows()
        self.regions: list[Region] = []

    def holds(self, frame: VideoFrame) -> bool:
        """Whether the frame is written; if so, `regions` are its."""
        if frame.number > self.last:
            return False
        row = next(self._rows)
        self.regions = [Region.from_json(r) for r in row["regions"]]
        return True


def _segment(
    segmenter: Segmenter, image: NDArray[np.uint8], smoother: Smoother | None, options: Options
) -> Segmentation:
    if smoother is None:
        return segmenter.segment(image, tiling=options.tiling, tta=options.tta)
    size = target_size(image.shape[0], image.shape[1], segmenter.image_size)
    small = resize_image(image, *size)
    logits = segmenter.logits(torch.from_numpy(small).permute(2, 0, 1)[None], size, options.tta)
    with torch.inference_mode():
        logits = smoother.step(logits, small)
        mask, confidence = decide(logits, image.shape[:2])[0]
    return Segmentation(image, mask, confidence, segmenter.classes)


def _draw(overlay: OverlayWriter, found: Segmentation, frame: VideoFrame) -> None:
    overlay.write(found.overlay(), frame.clock)


def _row(
    frame: VideoFrame,
    found: Segmentation,
    item: Input,
    writer: Writer,
    regions_of: Callable[[Segmentation], list[Region]],
    tracker: Tracker,
    edit: "_Edits | None",
) -> dict[str, Any]:
    regions = tracker.update(regions_of(found))
    place = item.place / f"{frame.number:06d}"
    writer.mask(place, found.mask)
    writer.shapes(place, regions)
    row = {"number": frame.number, "time": round(frame.time, 6), "regions": []}
    row["regions"] = [r.to_json("regions" in writer.formats) for r in regions]
    return row | {"facts": edit.write(frame, found, regions)} if edit else row


@dataclass(frozen=True)
class _Edits:
    """A workflow's edits of a video, frame after frame."""

    workflow: Workflow
    video: OverlayWriter

    def write(
        self, frame: VideoFrame, found: Segmentation, regions: list[Region]
    ) -> Mapping[str, Any]:
        """Writes the edited frame; returns what the edits stated."""
        edited = self.workflow.edit(found, regions)
        assert edited is not None
        self.video.write(on_white(edited.picture), frame.clock)
        return edited.facts


def _again(
    edit: _Edits,
    frame: VideoFrame,
    mask: NDArray[np.uint8],
    segmenter: Segmenter,
    regions: list[Region],
) -> None:
    """Edits a frame whose regions an earlier call has written."""
    found = Segmentation(frame.image, mask, np.ones(mask.shape, np.float32), segmenter.classes)
    edit.write(frame, found, regions)


def _stored_mask(
    writer: Writer, item: Input, frame: VideoFrame, regions: list[Region]
) -> NDArray[np.uint8]:
    path = writer.locate("masks", item.place / f"{frame.number:06d}", ".png")
    return read_mask(path) if path.is_file() else paint(regions, *frame.image.shape[:2])
