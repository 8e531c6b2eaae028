"""Loggers beside MLflow, which stays the record: TensorBoard, Weights & Biases, and plugins'."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from segtune.config.schema import PartOptions
from segtune.errors import ConfigError
from segtune.plugins.registry import find
from segtune.runtime.log import Log


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger writes about.

    Attributes:
        folder: of the run in the store; a logger may write below it.
        config: as recorded, plain data.
    """

    id: str
    name: str
    folder: Path
    config: Mapping[str, Any]


class RunLogger(Protocol):
    """A logger of one run."""

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch."""

    def finish(self, state: str) -> None:
        """Close the log; `state` is finished, pruned, infeasible, interrupted or failed."""


class TensorBoardLogger:
    """Writes TensorBoard files to `tensorboard/` in the run's folder."""

    def __init__(self, run: LoggedRun) -> None:
        tensorboard = _imported("torch.utils.tensorboard", "tensorboard")
        self._writer = tensorboard.SummaryWriter(str(run.folder / "tensorboard"))

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, state: str) -> None:
        """Close the files."""
        self._writer.close()


class WandbLogger:
    """Writes a run of Weights & Biases; its files lie in `wandb/` in the run's folder.

    Args:
        project: that the run belongs to.
        mode: `offline` keeps the run on this machine; `wandb sync` sends it later.
    """

    def __init__(
        self,
        run: LoggedRun,
        project: str = "segtune",
        mode: Literal["online", "offline"] = "online",
    ) -> None:
        wandb = _imported("wandb", "wandb")
        self._run = wandb.init(
            project=project,
            name=run.name,
            id=run.id,
            resume="allow",
            mode=mode,
            dir=str(run.folder),
            config=dict(run.config),
            settings=wandb.Settings(silent=True),
        )

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch."""
        self._run.log({**values, "epoch": epoch})

    def finish(self, state: str) -> None:
        """End the run."""
        self._run.finish(exit_code=1 if state == "failed" else 0)


def _imported(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            f"tracking.loggers={extra} needs a package: pip install 'segtune[{extra}]'"
        ) from None


class Loggers:
    """All loggers of a run. One that fails is dropped with a message: the run goes on."""

    def __init__(self, configured: PartOptions, run: LoggedRun, say: Log) -> None:
        self._configured, self._run, self._say = configured, run, say
        self._loggers: dict[str, RunLogger] = {}

    def open(self) -> None:
        """Open all logs.

        Raises:
            ConfigError: a package is not installed.
        """
        for name, options in self._configured.items():
            part = find("logger", name, "tracking.loggers")
            self._loggers[name] = part.load()(self._run, **options)

    def metrics(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch."""
        for name, logger in list(self._loggers.items()):
            try:
                logger.metrics(values, epoch)
            except Exception as error:
                del self._loggers[name]
                self._say(f"logger '{name}' is dropped: {type(error).__name__}: {error}")

    def finish(self, state: str) -> None:
        """Close all logs."""
        for name, logger in self._loggers.items():
            try:
                logger.finish(state)
            except Exception as error:
                self._say(f"logger '{name}': {type(error).__name__}: {error}")
        self._loggers.clear()
