"""Files of jobs and videos, predicted with the served model."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError, Interrupted
from segtune.inference.options import Options
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import silent
from segtune.serving.jobs import Progress
from segtune.serving.served import ModelSlot, ServedModel
from segtune.serving.threads import in_own_thread

OPTIONS = ("min_area", "formats", "tile", "overlap", "tta", "sample_ms", "smooth", "regions")
"""Options of `predict` that a client may set; `regions` is `concept` or `components`."""

_NUMBERS = {"min_area": int, "tile": int, "overlap": float, "sample_ms": float}


def parse_options(texts: dict[str, str]) -> dict[str, Any]:
    """The options in the query of a request, of their types.

    Raises:
        ConfigError: an unknown name, or a text that is no number.
    """
    options: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in OPTIONS:
            raise ConfigError(f"{name}: unknown; {', '.join(OPTIONS)} are known.")
        key = "split" if name == "regions" else name
        try:
            options[key] = _NUMBERS[name](text) if name in _NUMBERS else text
        except ValueError:
            raise ConfigError(f"{name}={text[:40]}: a number is expected.") from None
    if "formats" in options:
        options["formats"] = tuple(part for part in options["formats"].split(",") if part)
    return options


def options_for(served: ServedModel, given: dict[str, Any], max_pixels: int) -> Options:
    """All options of `predict`: those that are given, else those of the served workflow.

    Raises:
        ConfigError: an unknown value, or a number out of range.
    """
    values = {**given, "max_pixels": max_pixels}
    if isinstance(served.model, Workflow):
        return served.model.options(values)
    return Options(**values)


class SlotPredictor:
    """Predicts files with the version that is in the slot when they begin."""

    def __init__(self, slot: ModelSlot, max_pixels: int) -> None:
        self.slot, self.max_pixels = slot, max_pixels

    @property
    def version(self) -> str:
        """The version that a file which begins now gets."""
        return self.slot.current.version

    def predict(
        self, upload: Path, output: Path, options: dict[str, Any], fresh: bool, progress: Progress
    ) -> None:
        """Write the outputs of an upload; see `inference.prediction.job.predict`."""
        served = self.slot.current
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        request = PredictionRequest(
            [str(upload)],
            output,
            served.version,
            options_for(served, values, self.max_pixels),
            overwrite=fresh,
        )

        def report(_: str, done: int, total: int) -> None:
            progress(done, total)

        in_own_thread(lambda: predict(served.model, request, silent, report))

    def video_frames(
        self, data: bytes, sample_ms: float, is_given_up: Callable[[], bool]
    ) -> dict[str, Any]:
        """The frames of a video, one per so many milliseconds, as the hosted segmenter has them.

        Raises:
            Interrupted: `is_given_up` returned True after a frame.
        """

        def progress(done: int, total: int) -> None:
            if is_given_up():
                raise Interrupted("nobody waits for the video.")

        with tempfile.TemporaryDirectory(prefix="segtune-") as folder:
            upload, output = Path(folder) / "video.mp4", Path(folder) / "output"
            upload.write_bytes(data)
            options = {"formats": ("clarifai",), "sample_ms": sample_ms}
            self.predict(upload, output, options, True, progress)
            (answer,) = (output / "clarifai").glob("*.json")
            document = json.loads(answer.read_text(encoding="utf-8"))
        return dict(document["outputs"][0]["data"])
