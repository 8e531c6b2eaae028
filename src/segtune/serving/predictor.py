"""Uploads of jobs, predicted with one version of the served model."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError
from segtune.inference.options import Options
from segtune.inference.prediction.job import predict
from segtune.inference.prediction.journal import OtherSettings
from segtune.inference.prediction.request import PredictionRequest
from segtune.inference.workflow.workflow import Workflow
from segtune.runtime.log import silent
from segtune.serving.job_worker import Progress
from segtune.serving.served import ServedModel
from segtune.serving.threads import in_own_thread

IMAGE_OPTIONS = ("formats", "min_area", "regions", "tta", "tile", "overlap")
"""Options of `predict` that a client may set for an image; `regions` is its `split`."""

JOB_OPTIONS = (*IMAGE_OPTIONS, "sample_ms", "smooth")
"""Options of `predict` that a client may set for a job."""

_NUMBERS = {"min_area": int, "tile": int, "overlap": float, "sample_ms": float}
_LARGEST_NUMBER = 1e9


def parse_options(texts: Iterable[tuple[str, str]], names: Collection[str]) -> dict[str, Any]:
    """The options in the query of a request, of their types.

    Args:
        texts: name and text of each option.
        names: that are allowed.

    Raises:
        ConfigError: an unknown name, a name that comes twice, or a text that is no number.
    """
    options: dict[str, Any] = {}
    for name, text in texts:
        if name not in names:
            place = " here; POST /v1/jobs takes it" if name in JOB_OPTIONS else ""
            raise ConfigError(f"{name[:40]}: unknown{place}; {', '.join(names)} are known.")
        key = "split" if name == "regions" else name
        if key in options:
            raise ConfigError(f"{name}: it is given twice.")
        options[key] = _number(name, text) if name in _NUMBERS else text
    if "formats" in options:
        options["formats"] = tuple(part for part in options["formats"].split(",") if part)
    return options


def _number(name: str, text: str) -> float:
    try:
        number: float = _NUMBERS[name](text)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST_NUMBER:
        raise ConfigError(f"{name}={text[:40]}: a number up to {_LARGEST_NUMBER:g} is expected.")
    return number


def options_for(served: ServedModel, given: dict[str, Any], max_pixels: int) -> Options:
    """All options of `predict`: those that are given, else those of the served workflow.

    Raises:
        ConfigError: an unknown value, a number out of range, or `overlap` without tiles.
    """
    values = {
        **given,
        "max_pixels": max_pixels,
        "runtime": served.runtime,
        "runtime_options": dict(served.runtime_options),  # a recorded value
    }
    if isinstance(served.model, Workflow):
        options = served.model.options(values)
    else:
        options = Options(**values)
    if "overlap" in given and options.tile is None:
        raise ConfigError(f"overlap={options.overlap}: tiles overlap; add tile=N.")
    return options


class UploadPredictor:
    """Predicts uploads with the version that it was made for."""

    def __init__(self, served: ServedModel, max_pixels: int) -> None:
        self.served, self.max_pixels = served, max_pixels

    @property
    def version(self) -> str:
        """The version that it predicts with."""
        return self.served.version

    def predict(
        self, upload: Path, output: Path, options: dict[str, Any], progress: Progress
    ) -> None:
        """Write the outputs of an upload; see `inference.prediction.job.predict`.

        What the same version with the same settings has begun is continued; outputs of others are
        replaced.
        """
        served = self.served
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        request = PredictionRequest(
            [str(upload)], output, served.version, options_for(served, values, self.max_pixels)
        )

        def report(_: str, done: int, total: int) -> None:
            progress(done, total)

        def run() -> None:
            try:
                predict(served.model, request, silent, report)
            except OtherSettings:
                predict(served.model, replace(request, overwrite=True), silent, report)

        in_own_thread(run)
