"""Files, folders and videos in; masks, overlays and regions out.

Decoding runs ahead of the model and writing behind it. A bad file is reported and the rest go on; what is finished is
kept, and the same call goes on from there.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segtune.data.reading.images import read_image
from segtune.errors import ConfigError, DataError, Interrupted, StorageError
from segtune.inference.media.georeference import Georeference, georeference
from segtune.inference.media.inputs import Input, opened
from segtune.inference.media.video import Video
from segtune.inference.options import Options
from segtune.inference.prediction import journal
from segtune.inference.prediction.journal import Journal
from segtune.inference.prediction.pipeline import Behind, mapped, threads
from segtune.inference.prediction.rasters import geojson_of, large_size, segment_large
from segtune.inference.prediction.videos import segment_video
from segtune.inference.prediction.writing import FOLDERS, Writer, write_jpeg
from segtune.inference.prediction.written import Record
from segtune.inference.regions.regions import Region, find_regions
from segtune.inference.segmenter import Segmentation, Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest

_MANY = 500
_MASK = ".mask.tif"  # of a large image whose mask is not asked for, while its other outputs are made of it
Progress = Callable[[str, int, int], None]
"""(what is counted, how many are done, how many there are)."""


@dataclass
class Prediction:
    """What `predict` wrote.

    Attributes:
        images: how many there are, with those of an earlier call that was interrupted.
        frames: of all videos.
        failed: file -> why it was left out.
        partial: video -> what is missing of it.
    """

    output: Path
    images: int = 0
    frames: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    partial: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object, for scripts."""
        return asdict(self) | {
            "output": str(self.output),
            "regions": str(self.output / "regions.json"),
        }


def predict(
    segmenter: Segmenter,
    sources: Sequence[str],
    output: Path,
    *,
    model: str = "",
    options: Options | None = None,
    overwrite: bool = False,
    workflow: Workflow | None = None,
    say: Log = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Prediction:
    """Writes `regions.json` and the formats asked for; outputs mirror the input's folders.

    Args:
        sources: paths, folders, globs, `-` for standard input.
        model: the URI that regions.json names.
        overwrite: replace the results of an earlier call: all files that it wrote are removed first, and no others.
        workflow: whose segmenter this is; filters, labels and edits.
        progress: is told how far the files are, and within a video how far its frames are.

    Raises:
        ConfigError: the output holds results already, or unfinished ones with other settings.
        DataError: no input, or none that could be read.
        Interrupted: stopped by the user; the same call goes on from there.
        StorageError: the output cannot be written.
    """
    options = options or Options()
    with (
        opened(sources) as inputs,
        threads(torch.get_num_threads() - 1),
    ):  # decoding and writing take a core
        try:
            _make_room(output, overwrite, {i.path.resolve() for i in inputs})
            settings = _settings(segmenter, model, options, workflow)
            fast = segmenter.using(
                options.runtime, graphs=_is_long(inputs, options.sample_ms), say=say
            )
            job = _Job(fast, inputs, output, options, settings, workflow, say, progress)
            return job.run(model)
        except OSError as error:
            raise StorageError(f"output '{output}' cannot be written: {error}.") from None


def _is_long(inputs: Sequence[Input], sample_ms: float | None) -> bool:
    """Whether there are so many images and frames that tracing a graph, which takes seconds, could pay."""
    left = _MANY
    for item in inputs:
        left -= _frames(item.path, sample_ms) if item.video else 1
        if left <= 0:
            return True
    return False


def _frames(path: Path, sample_ms: float | None) -> int:
    """About how many frames of a video will be segmented; 0 where it does not say."""
    try:
        video = Video(path)
    except DataError:  # told when its turn comes
        return 0
    return (
        video.expected if sample_ms is None else round(1000 * (video.promised or 0.0) / sample_ms)
    )


def _make_room(output: Path, overwrite: bool, inputs: Collection[Path]) -> None:
    target, unfinished = output / "regions.json", output / journal.NAME
    if overwrite:
        Record(output).remove_all(inputs)
        unfinished.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    elif target.exists():
        raise ConfigError(
            f"output '{output}' holds results already. Choose another output=DIR, or add overwrite=true."
        )
    elif not unfinished.exists():
        taken = [
            f for f in FOLDERS.values() if (output / f).is_dir() and any((output / f).iterdir())
        ]
        if taken:
            raise ConfigError(
                f"output '{output}' holds {', '.join(taken)} of something else. Choose another output=DIR, "
                "or add overwrite=true."
            )
    output.mkdir(parents=True, exist_ok=True)


def _settings(
    segmenter: Segmenter, model: str, options: Options, workflow: Workflow | None
) -> dict[str, Any]:
    """What must be the same for a later call to go on with this one."""
    described = (
        workflow.identity()
        if workflow
        else json.dumps(dict(segmenter.info), sort_keys=True, default=str)
    )
    digest = hashlib.sha256(described.encode()).hexdigest()[:16]
    return {"model": model, "segmenter": digest, **asdict(options)}


class _Job:
    """One call of `predict`."""

    def __init__(
        self, segmenter: Segmenter, inputs: list[Input], output: Path, options: Options, settings: Mapping[str, Any],
        workflow: Workflow | None, say: Log, progress: Progress,
    ) -> None:  # fmt: skip
        self.segmenter, self.inputs, self.options = segmenter, inputs, options
        self.settings, self.workflow, self.say, self.progress = settings, workflow, say, progress
        classes = workflow.classes if workflow else segmenter.classes
        self.output, self.writer = output, Writer(output, options.formats, classes)
        self.result = Prediction(output)
        self.videos: list[Mapping[str, Any]] = []
        self.stop = StopRequest()
        self.warned_sizes: set[tuple[int, int]] = set()

    def run(self, model: str) -> Prediction:
        """All inputs that an earlier call has not finished, then the summary."""
        stamps = {i.name: list(i.stamp) for i in self.inputs}
        with Journal(self.output / journal.NAME, self.settings) as log, self.stop.listening():
            before = self._finished_before(log, stamps)
            todo = [i for i in self.inputs if i.name not in before]
            if before:
                self.say(f"goes on: {len(before)} of {len(self.inputs)} files are finished already")
            self._images([i for i in todo if not i.video], log, len(before))
            self._videos([i for i in todo if i.video], log)
            if self.result.images or self.videos:
                pinned = self.workflow.pinned() if self.workflow else None
                # read again, for they may be more than memory holds
                images = (
                    line["row"]
                    for line in log.latest()
                    if _is_current(line, stamps) and "regions" in line["row"]
                )
                self.writer.summaries(model, images, self.videos, self.result.failed, pinned)
                self.writer.record.end()
        (self.output / journal.NAME).unlink()
        if not self.result.images and not self.videos:
            first, count = next(iter(self.result.failed.values())), len(self.inputs)
            raise DataError(
                f"none of {count} files could be read; the first: {first}" if count > 1 else first
            )
        return self.result

    def _finished_before(self, log: Journal, stamps: Mapping[str, list[int]]) -> set[str]:
        """Names of the inputs that an earlier call finished; outputs of those that changed since are removed."""
        names, kept, gone, stale = set(), set(), set(), []
        for line in log.latest():
            if _is_current(line, stamps):
                names.add(line["name"])
                kept.add(line["row"]["place"])
                self._count(line["row"])
                continue
            gone.add(line["row"]["place"])
            if line["stamp"]:
                stale.append(
                    {"name": line["name"], "stamp": [], "row": {"place": line["row"]["place"]}}
                )
        for line in stale:  # a file that gets its old content back has no outputs any more
            log.add(line)
        self.writer.record.remove_of(gone - kept, {i.path.resolve() for i in self.inputs})
        return names

    def _images(self, inputs: list[Input], log: Journal, done: int) -> None:
        def finished(outcome: tuple[Input, dict[str, Any] | DataError]) -> None:
            nonlocal done
            item, row = outcome
            if isinstance(row, DataError):
                self._left_out(item, row)
            else:
                self._finished(item, row, log)
            done += 1
            self.progress("files", done, len(self.inputs))

        with Behind(finished) as behind:
            for item, pixels, place in mapped(self._decode, inputs):
                self._check_stop()
                if not isinstance(pixels, DataError):
                    self._warn_of_scale(item, _size(pixels), place)
                if isinstance(pixels, tuple):
                    behind.submit(self._large, item, place)
                elif isinstance(pixels, DataError):
                    behind.submit(lambda *outcome: outcome, item, pixels)
                else:
                    metres = self.segmenter.pixel_metres(item.path, place)
                    found = self.segmenter.segment(
                        pixels, tiling=self.options.tiling, tta=self.options.tta, metres=metres
                    )
                    behind.submit(self._write, item, found, place)

    def _decode(
        self, item: Input
    ) -> tuple[Input, NDArray[np.uint8] | tuple[int, int] | DataError, Georeference | None]:
        """The image's pixels and place; its size where it is too large for memory; the error where it is none."""
        try:
            pixels = large_size(item.path) or read_image(item.path, self.options.max_pixels)
            place = georeference(item.path)
        except DataError as error:
            return item, error, None
        try:
            if self.options.tiling is None:
                metres = self.segmenter.pixel_metres(item.path, place)
                self.segmenter.scale.look(_size(pixels), metres)
        except DataError as error:
            return item, DataError(f"'{item.name}': {error}"), None
        return item, pixels, place

    def _warn_of_scale(
        self, item: Input, size: tuple[int, int], place: Georeference | None
    ) -> None:
        """Says so where a map is looked at as a small picture, for nobody knows at which resolution to look."""
        known = (
            place is not None
            and place.metres is not None
            and self.segmenter.scale.metres is not None
        )
        if place is None or known or self.options.tiling is not None or size in self.warned_sizes:
            return
        look = self.segmenter.scale.look(size)
        if 4 * min(look) < min(size):
            self.warned_sizes.add(size)  # once for a folder of equal tiles
            self.say(
                f"{item.name}: {size[1]} x {size[0]} pixels are looked at as {look[1]} x {look[0]}, the size of the "
                "training images, whose resolution is not known. tile=512 looks at the pixels as they are."
            )

    def _write(
        self, item: Input, found: Segmentation, place: Georeference | None
    ) -> tuple[Input, dict[str, Any] | DataError]:
        try:
            regions = self.regions(found)
        except DataError as error:
            return item, error
        self.writer.picture(item.place, found, place)
        self.writer.shapes(item.place, regions, place)
        self.writer.clarifai_image(item.place, item.name, regions)
        row = _row(
            item, found.mask.shape, [r.to_json("regions" in self.options.formats) for r in regions]
        )
        if self.workflow and (edited := self.workflow.edit(found, regions)):
            self.writer.edited(item.place, edited.picture)
            row["facts"] = edited.facts
        return item, row

    def _large(
        self, item: Input, place: Georeference | None
    ) -> tuple[Input, dict[str, Any] | DataError]:
        """An image that is read in windows: its mask is a GeoTIFF, its overlay small, its regions one per class."""
        options, writer = self.options, self.writer
        unfit: list[str] = [f for f in options.formats if f in ("yolo", "clarifai")]
        unfit += ["components"] * (options.split != "concept") + ["a workflow's steps"] * (
            self.workflow is not None
        )
        if unfit:
            return item, DataError(
                f"'{item.name}' is too large to be held in memory and is read in windows. That gives masks, overlays, "
                f"regions, coco and geojson by concept; it does not give {', '.join(unfit)}."
            )
        is_kept = "masks" in options.formats
        mask = writer.path("masks", item.place, ".tif") if is_kept else self.output / _MASK
        try:
            size, regions, overlay = segment_large(
                self.segmenter, item.path, mask, options.tiling, options.tta, place
            )
            if "overlays" in options.formats:
                write_jpeg(writer.path("overlays", item.place, ".jpg"), overlay)
            if "geojson" in options.formats:
                writer.large_geojson(
                    item.place, geojson_of(mask, self.segmenter.classes, place), place
                )
        except DataError as error:
            return item, error
        finally:
            if not is_kept:
                mask.unlink(missing_ok=True)
        return item, _row(item, size, [r.to_json(polygons=False) for r in regions])

    def regions(self, found: Segmentation) -> list[Region]:
        """Of an image or a frame, as the options and the workflow want them."""
        options = self.options
        regions = find_regions(
            found.mask, found.confidence, found.classes, options.split, options.min_area
        )
        return self.workflow.refine(found, regions) if self.workflow else regions

    def _videos(self, inputs: list[Input], log: Journal) -> None:
        for item in inputs:
            self._check_stop()
            try:
                row = segment_video(
                    self.segmenter, item, self.writer, self.settings, self.options, self.regions, self.workflow,
                    self.stop, self.progress, self.say,
                )  # fmt: skip
                self._finished(item, row, log)
            except DataError as error:
                self._left_out(item, error)

    def _finished(self, item: Input, row: Mapping[str, Any], log: Journal) -> None:
        log.add({"name": item.name, "stamp": list(item.stamp), "row": row})
        self._count(row)

    def _count(self, row: Mapping[str, Any]) -> None:
        if "regions" in row:
            self.result.images += 1
            return
        self.videos.append(row)
        self.result.frames += row["frames"]
        if row["partial"]:
            self.result.partial[row["file"]] = row["partial"]

    def _left_out(self, item: Input, error: DataError) -> None:
        self.result.failed[item.name] = str(error)
        if len(self.inputs) > 1:  # of a single one the error that ends it all says the same
            self.say(f"left out: {error}")

    def _check_stop(self) -> None:
        if self.stop.requested:
            raise Interrupted(
                f"stopped; what is finished lies in '{self.output}'. The same command goes on from there."
            )


def _size(pixels: NDArray[np.uint8] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of pixels, or of an image that is too large to be held in memory."""
    return pixels if isinstance(pixels, tuple) else (pixels.shape[0], pixels.shape[1])


def _is_current(line: Mapping[str, Any], stamps: Mapping[str, list[int]]) -> bool:
    """Whether a line of the journal is about an input that has not changed since."""
    return bool(stamps.get(line["name"]) == line["stamp"])


def _row(item: Input, size: Sequence[int], regions: list[dict[str, Any]]) -> dict[str, Any]:
    """An image's row of regions.json."""
    place = item.place.as_posix()
    return {
        "file": item.name,
        "place": place,
        "width": size[1],
        "height": size[0],
        "regions": regions,
    }
