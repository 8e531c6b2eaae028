"""The processes of a distributed run: the first one decides, and the others follow.

Lightning starts the other processes with the command line and the environment of the first. What
the first process measured or chose before that travels in one variable of the environment: each
process that measured for itself could choose another number of epochs or another precision, and
would wait forever for the others.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from segtune.config.schema import RunConfig
from segtune.errors import ConfigError
from segtune.runtime.signals import SIGNALS
from segtune.training.components import RunComponents

_DECISIONS, _LOCAL_RANK = "SEGTUNE_FIRST_RANK", "LOCAL_RANK"


@dataclass(frozen=True)
class Decisions:
    """The choices of the first process.

    Attributes:
        run_id: of the run that it opened.
        trainer: keys of the `trainer` section with the values that it measured.
        checkpoint: file from which the training continues; None for a start at the first epoch.
    """

    run_id: str
    num_epochs: int
    trainer: dict[str, Any]
    checkpoint: str | None

    @classmethod
    def of(cls, components: RunComponents, run_id: str, checkpoint: str | None) -> "Decisions":
        """The choices that the components of the first process hold."""
        step_format, trainer = components.step_format, components.config.trainer
        chosen = {
            "precision": "bf16" if step_format.bf16 else "fp32",
            "channels_last": step_format.channels_last,
            "accumulate": components.parts,
            "val_every": trainer.val_every,
            "minutes": None,
        }
        return cls(run_id, components.num_epochs, chosen, checkpoint)

    def applied_to(self, config: RunConfig) -> RunConfig:
        """The config of another process, with nothing left to measure."""
        trainer = config.trainer.model_copy(update=self.trainer)
        hp = {**config.hp, "num_epochs": self.num_epochs}
        return config.model_copy(update={"hp": hp, "trainer": trainer})


def rank() -> int:
    """The number of this process in a distributed run; 0 for the first, and if it is alone.

    A LOCAL_RANK of other origin means nothing: segtune starts the processes itself.
    """
    return int(os.environ.get(_LOCAL_RANK, "0")) if _DECISIONS in os.environ else 0


def decisions() -> Decisions:
    """The choices of the first process, in another process of the run."""
    return Decisions(**json.loads(os.environ[_DECISIONS]))


@contextmanager
def with_followers(trainer: pl.Trainer, choices: Decisions) -> Iterator[None]:
    """Give the processes that Lightning starts in the block the choices of this one.

    After an error they are killed: without the first process they would wait forever.
    """
    if rank():
        yield
        return
    before = {key: os.environ.get(key) for key in (_DECISIONS, _LOCAL_RANK)}
    os.environ |= {_LOCAL_RANK: "0", _DECISIONS: json.dumps(asdict(choices))}
    try:
        yield
    except BaseException:
        _end_followers(trainer)
        raise
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def check_start_of_processes() -> None:
    """Refuse a launcher that starts several processes of a training by itself.

    Raises:
        ConfigError: torchrun started this process as one of several.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if _DECISIONS not in os.environ and "TORCHELASTIC_RUN_ID" in os.environ and processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, but segtune starts the processes of a "
            "distributed training itself. Leave torchrun out: segtune train … trainer=ddp "
            f"trainer.devices={processes}"
        )


def follow_first_process() -> None:
    """Let this process end with the first one of its run, and by no signal of its own.

    Ctrl-C and Slurm reach all processes: the first one hears the signal, and ends the others.
    """
    ignore_signals()
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def ignore_signals() -> None:
    """Let the first process alone hear signals."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # the main thread may wait for the first process in a collective operation


def _end_followers(trainer: pl.Trainer) -> None:
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    launcher.kill(signal.SIGKILL)
    for process in launcher.procs:
        process.wait()
    launcher.procs.clear()  # Lightning's observer would kill this process, too


def decided_by_first(trainer: pl.Trainer, decision: bool) -> bool:
    """The decision of the first process; all processes must call this at the same moment."""
    return bool(trainer.strategy.broadcast(decision))


class OwnProcesses(LightningEnvironment):
    """Lightning's environment for processes that this machine runs, whatever else it finds.

    Under Slurm, Lightning would write checkpoints of its own at SIGUSR1, and start later runs from
    them.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """Whether another process started this one."""
        return rank() > 0

    def local_rank(self) -> int:
        """The number of this process."""
        return rank()
