"""The settings of a search for the best value of a function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtune.errors import ConfigError
from segtune.plugins.registry import find
from segtune.sweeping.engine.settings import Direction

_LIMITS = {"n_trials": 1, "workers": 0, "pruner_warmup": 1, "max_retries": 0, "lease": 1}


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        folder: holds the study and the checkpoints. The same search continues in the same folder.
        n_trials: the total of the study, over all its starts.
        direction: of the objective; one for each value if the function returns several.
        workers: processes that pull trials. 0 runs the trials in this process, as a debugger
            needs it.
        name: of the study; by default the name of the folder.
        overrides: `key=value` words of every trial.
        sampler: `tpe`, `gp`, `cmaes`, `random`, `qmc`, `nsgaii`, or `grid`.
        sampler_options: arguments of Optuna's sampler.
        seed: of the sampler.
        pruner: `median`, `patient`, `halving`, `hyperband`, or `none`.
        pruner_options: arguments of the pruner of a plugin.
        pruner_warmup: reports before a trial may be pruned.
        max_retries: how many times in a row a trial may lose its worker at the same step.
        lease: seconds without a sign of life after which another worker takes a trial over.
        allow_drift: continue although the space or the function's settings changed.
        retry_failed: enqueue the failed trials again.
        storage: `postgresql://…`, for workers on several machines; by default a file.

    Raises:
        ConfigError: a value that no search can have.
    """

    folder: str | Path
    n_trials: int
    direction: Direction | Sequence[Direction] = "minimize"
    workers: int = 2
    name: str = ""
    overrides: Sequence[str] = ()
    sampler: str = "tpe"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    pruner: str = "median"
    pruner_options: Mapping[str, Any] = field(default_factory=dict)
    pruner_warmup: int = 3
    max_retries: int = 3
    lease: float = 60.0
    allow_drift: bool = False
    retry_failed: bool = False
    storage: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or Path(self.folder).absolute().name)
        for name, least in _LIMITS.items():
            value = getattr(self, name)
            kind = int | float if name == "lease" else int
            if isinstance(value, bool) or not isinstance(value, kind) or value < least:
                raise ConfigError(
                    f"{self.key(name)}={value!r}: a number of at least {least} is expected."
                )
        find("sampler", str(self.sampler), self.key("sampler"))
        find("pruner", str(self.pruner), self.key("pruner"))
        is_known = isinstance(self.direction, str | list | tuple) and bool(self.direction)
        if not is_known or set(self.directions) - {"minimize", "maximize"}:
            raise ConfigError(
                f"{self.key('direction')}={self.direction!r}: minimize or maximize is expected."
            )

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The direction of each value that the function returns."""
        if isinstance(self.direction, str):
            return (self.direction,)
        return tuple(self.direction)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """No names: a function returns values alone."""
        return ()

    @property
    def budget_seconds(self) -> None:
        """No budget: `n_trials` is the end."""
        return None

    @property
    def fidelity(self) -> None:
        """Functions have no epochs at which all trials could be paused."""
        return None

    @property
    def promote_each(self) -> int:
        """Without effect, because no trial is paused."""
        return 1

    @property
    def gain_below(self) -> None:
        """No limit: `n_trials` is the end."""
        return None

    def shareable(self) -> dict[str, Any]:
        """Return plain data without the storage's address, which may hold a password."""
        return {"n_trials": self.n_trials, "workers": self.workers} | self.identity()

    def identity(self) -> dict[str, Any]:
        """Return the values that must stay the same when the search is resumed."""
        return {
            "direction": list(self.directions),
            "overrides": list(self.overrides),
            "sampler": self.sampler,
            "sampler_options": dict(self.sampler_options),
            "seed": self.seed,
            "pruner": self.pruner,
            "pruner_options": dict(self.pruner_options),
            "pruner_warmup": self.pruner_warmup,
        }

    def comparable(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return an identity as it is: its keys have no other names."""
        return dict(identity)

    def key(self, name: str) -> str:
        """Return the name of a setting as the user writes it."""
        return name

    def retry_command(self, folder: Path) -> str:
        """Return what the user does to enqueue the failed trials again."""
        return f"the same search with {self.key('retry_failed')}=True"
