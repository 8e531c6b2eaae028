"""Predict files: images, folders and videos in; masks, overlays and regions out.

Decoding runs ahead of the model, and writing behind it. A bad file is reported, and the others are
processed. After an interruption the same call resumes: finished files stay.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from segtune.errors import ConfigError, DataError, StorageError
from segtune.inference.engines.engine import chosen_engine
from segtune.inference.media.inputs import Input, opened
from segtune.inference.media.video import Video
from segtune.inference.prediction import journal
from segtune.inference.prediction.context import PredictionContext, Progress
from segtune.inference.prediction.formats import open_formats
from segtune.inference.prediction.images import ImagePrediction
from segtune.inference.prediction.journal import Journal
from segtune.inference.prediction.pipeline import threads
from segtune.inference.prediction.request import Prediction, PredictionRequest
from segtune.inference.prediction.videos import segment_video
from segtune.inference.prediction.writing import Writer
from segtune.inference.prediction.written import Record
from segtune.inference.segmenter import Segmenter
from segtune.inference.workflow.workflow import Workflow
from segtune.plugins.registry import parts
from segtune.runtime.log import Log, silent
from segtune.runtime.processors import available_processors
from segtune.runtime.signals import StopRequest

_MANY = 500  # images and frames for which tracing a graph, which takes seconds, can pay


def predict(
    model: Segmenter | Workflow,
    request: PredictionRequest,
    say: Log = silent,
    progress: Progress = lambda *_: None,
) -> Prediction:
    """Write `regions.json` and the requested formats; outputs mirror the folders of the input.

    Args:
        progress: called after each file, and after each frame of a video.

    Raises:
        ConfigError: the output holds results already, or unfinished ones with other settings.
        DataError: no input, or no input that can be read.
        Interrupted: stopped by the user; the same call resumes from there.
        StorageError: the output cannot be written.
    """
    workflow = model if isinstance(model, Workflow) else None
    segmenter = model.segmenter if isinstance(model, Workflow) else model
    options, output = request.options, request.output
    with (
        opened(request.sources) as inputs,
        # decoding and writing take one processor
        threads(min(torch.get_num_threads(), available_processors()) - 1),
    ):
        try:
            _prepare(output, request.overwrite, {i.path.resolve() for i in inputs})
            has_many = _is_long(inputs, options.sample_ms)
            context = PredictionContext(
                segmenter.using(options.runtime, has_many, say, options.runtime_options),
                workflow,
                options,
                _settings(model, request),
                Writer(
                    output, open_formats(options.formats, options.format_options), model.classes
                ),
                say,
                progress,
                StopRequest(),
            )
            return _Job(context, inputs).run(request.model)
        except OSError as error:
            raise StorageError(f"output '{output}' cannot be written: {error}.") from None


def _is_long(inputs: Sequence[Input], sample_ms: float | None) -> bool:
    """Whether there are so many images and frames that tracing a graph can pay."""
    total = 0
    for item in inputs:
        total += _count_frames(item.path, sample_ms) if item.video else 1
        if total >= _MANY:
            return True
    return False


def _count_frames(path: Path, sample_ms: float | None) -> int:
    """Estimate the frames of a video that will be segmented; 0 where the file states no number."""
    try:
        video = Video(path)
    except DataError:  # reported later, when its turn comes
        return 0
    if sample_ms is None:
        return video.expected
    return round(1000 * (video.promised or 0.0) / sample_ms)


def _prepare(output: Path, overwrite: bool, inputs: Collection[Path]) -> None:
    """Make the output folder ready, or raise where it holds other files."""
    target, unfinished = output / "regions.json", output / journal.NAME
    if overwrite:
        Record(output).remove_all(inputs)
        unfinished.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    elif target.exists():
        raise ConfigError(
            f"output '{output}' holds results already. Choose another output=DIR, "
            "or add overwrite=true."
        )
    elif not unfinished.exists():
        folders = [output / name for name in (*parts("writer"), "edited")]
        taken = [f.name for f in folders if f.is_dir() and any(f.iterdir())]
        if taken:
            raise ConfigError(
                f"output '{output}' holds {', '.join(taken)} of something else. "
                "Choose another output=DIR, or add overwrite=true."
            )
    output.mkdir(parents=True, exist_ok=True)


def _settings(model: Segmenter | Workflow, request: PredictionRequest) -> dict[str, Any]:
    """Return the values that must be the same when a later call resumes this one."""
    if isinstance(model, Workflow):
        identity = model.identity()
    else:
        identity = json.dumps(dict(model.info), sort_keys=True, default=str)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {"model": request.model, "segmenter": digest, **asdict(request.options)}


class _Job:
    """One call of `predict`."""

    def __init__(self, context: PredictionContext, inputs: list[Input]) -> None:
        self.context, self.inputs = context, inputs
        self.output = context.writer.output
        self.result = Prediction(self.output)
        self.videos: list[Mapping[str, Any]] = []

    def run(self, model: str) -> Prediction:
        """Process all inputs that no earlier call has finished, then write the summary."""
        context = self.context
        stamps = {i.name: list(i.stamp) for i in self.inputs}
        path = self.output / journal.NAME
        with Journal(path, context.settings) as log, context.stop.listening():
            finished = self._finished_before(log, stamps)
            todo = [i for i in self.inputs if i.name not in finished]
            if finished:
                context.say(
                    f"resumes: {len(finished)} of {len(self.inputs)} files are finished already"
                )
            self._predict_images([i for i in todo if not i.video], log, len(finished))
            self._predict_videos([i for i in todo if i.video], log)
            if self.result.images or self.videos:
                self._write_summary(model, log, stamps)
        path.unlink()
        if not self.result.images and not self.videos:
            first, count = next(iter(self.result.failed.values())), len(self.inputs)
            raise DataError(
                f"none of {count} files could be read; the first: {first}" if count > 1 else first
            )
        return self.result

    def _write_summary(self, model: str, log: Journal, stamps: Mapping[str, list[int]]) -> None:
        def images() -> Iterator[Mapping[str, Any]]:
            """Read the rows from the journal, since they may not fit into memory."""
            for line in log.latest():
                if _is_current(line, stamps) and "regions" in line["row"]:
                    yield line["row"]

        writer, workflow = self.context.writer, self.context.workflow
        head: dict[str, Any] = {"model": model, "classes": writer.classes.to_json()}
        if workflow:
            head["workflow"] = workflow.pinned()
        options = self.context.options
        engine, engine_options = chosen_engine(options.runtime, options.runtime_options)
        head["parts"] = writer.parts() | {engine.key: engine.record(engine_options)}
        writer.write_summaries(head, images, self.videos, self.result.failed)
        writer.record.end()

    def _finished_before(self, log: Journal, stamps: Mapping[str, list[int]]) -> set[str]:
        """Return the names of finished inputs; remove the outputs of inputs that have changed."""
        names, current_stems, old_stems, changed = set(), set(), set(), []
        for line in log.latest():
            stem = line["row"]["place"]
            if _is_current(line, stamps):
                names.add(line["name"])
                current_stems.add(stem)
                self._count(line["row"])
                continue
            old_stems.add(stem)
            if line["stamp"]:
                changed.append({"name": line["name"], "stamp": [], "row": {"place": stem}})
        for line in changed:  # a file that gets its earlier content again has no outputs now
            log.add(line)
        inputs = {i.path.resolve() for i in self.inputs}
        self.context.writer.record.remove_of(old_stems - current_stems, inputs)
        return names

    def _predict_images(self, inputs: list[Input], log: Journal, number_finished: int) -> None:
        def on_image(outcome: tuple[Input, dict[str, Any] | DataError]) -> None:
            nonlocal number_finished
            item, row = outcome
            if isinstance(row, DataError):
                self._leave_out(item, row)
            else:
                self._finish(item, row, log)
            number_finished += 1
            self.context.progress("files", number_finished, len(self.inputs))

        ImagePrediction(self.context).run(inputs, on_image)

    def _predict_videos(self, inputs: list[Input], log: Journal) -> None:
        for item in inputs:
            self.context.check_stop()
            try:
                self._finish(item, segment_video(self.context, item), log)
            except DataError as error:
                self._leave_out(item, error)

    def _finish(self, item: Input, row: Mapping[str, Any], log: Journal) -> None:
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

    def _leave_out(self, item: Input, error: DataError) -> None:
        self.result.failed[item.name] = str(error)
        if len(self.inputs) > 1:  # for a single file, the final error says the same
            self.context.say(f"left out: {error}")


def _is_current(line: Mapping[str, Any], stamps: Mapping[str, list[int]]) -> bool:
    """Whether a line of the journal is about an input that has not changed since."""
    return bool(stamps.get(line["name"]) == line["stamp"])
