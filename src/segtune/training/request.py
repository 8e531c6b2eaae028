"""What a caller asks of a training: the run to write to, and the functions to call meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from segtune.training.result import RunResult

OnEpoch = Callable[[int, Mapping[str, float]], bool]
"""Called after each validation with the epoch (from 0) and its metrics; True ends the training."""

LeaseCheck = Callable[[], None]
"""Called before a write; raises LeaseLost if another worker has taken the run over."""


@dataclass(frozen=True)
class RunRequest:
    """The run that a training writes to, and the conditions of the training.

    Attributes:
        name: name of a new run; by default its template and its dataset.
        tags: tags of a new run.
        parent: run id of the sweep whose trial the run is.
        resume: id of the run to continue. If the config asks for more epochs than that run has, a
            new run takes over its checkpoint and continues from there.
        same_data_as: id of a run; the train and val splits must be the ones that it saw.
        restart_if_damaged: start a resumed run again at its first epoch if its checkpoint is
            damaged; by default this is an error.
        cost_limits: upper limits on the cost of the built model, see `models.cost`. A model above
            a limit is not trained.
    """

    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    resume: str | None = None
    same_data_as: str | None = None
    restart_if_damaged: bool = False
    cost_limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHooks:
    """Functions that a training calls.

    Attributes:
        on_start: called with the run's id before the first step.
        on_epoch: called after each validation; True prunes the run.
        check_lease: called before each write.
        may_go_on: called after `on_epoch` ended the training: whether the run may be resumed, and
            keeps its checkpoint.
        commit: called with the result just before the run is marked finished.
    """

    on_start: Callable[[str], None] = lambda run_id: None
    on_epoch: OnEpoch = lambda epoch, metrics: False
    check_lease: LeaseCheck = lambda: None
    may_go_on: Callable[[], bool] = lambda: False
    commit: Callable[[RunResult], None] = lambda result: None
