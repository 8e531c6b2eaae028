"""A run that is open for writing, together with everything that trains it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segtune.runtime.log import Log
from segtune.runtime.signals import StopRequest
from segtune.tracking.run_writer import RunWriter
from segtune.tracking.runs import State
from segtune.training.components import RunComponents
from segtune.training.loggers import Loggers
from segtune.training.request import RunHooks
from segtune.training.result import RunResult


@dataclass(frozen=True)
class ActiveRun:
    """A run that is open for writing.

    Attributes:
        started: `time.monotonic()` when the run began.
        loggers: that receive the metrics of each epoch, beside MLflow.
    """

    components: RunComponents
    writer: RunWriter
    hooks: RunHooks
    stop: StopRequest
    say: Log
    started: float
    loggers: Loggers

    @property
    def folder(self) -> Path:
        """The run's folder in the store."""
        return self.writer.folder

    def result(
        self,
        state: State,
        metrics: Mapping[str, float],
        cost: Mapping[str, float] | None = None,
        segmenter: Path | None = None,
    ) -> RunResult:
        """The result of the run if it ends now."""
        return RunResult(
            self.writer.run_id,
            state,
            metrics,
            segmenter,
            self.folder,
            time.monotonic() - self.started,
            cost or {},
            self.components.config.kind,
        )

    def record_metrics(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Store the metrics of an epoch, unless another worker has taken the run over."""
        self.hooks.check_lease()
        self.writer.metrics(metrics, epoch)
        self.loggers.metrics(metrics, epoch)
