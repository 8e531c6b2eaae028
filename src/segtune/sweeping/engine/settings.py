"""The settings that a study needs, whoever starts it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

Direction = Literal["minimize", "maximize"]


class StudySettings(Protocol):
    """The settings of a study; `SweepSpec` explains those that a sweep file can set."""

    @property
    def name(self) -> str: ...
    @property
    def n_trials(self) -> int | None: ...
    @property
    def budget_seconds(self) -> float | None: ...
    @property
    def directions(self) -> tuple[Direction, ...]: ...
    @property
    def objective_names(self) -> tuple[str, ...]: ...
    @property
    def seed(self) -> int: ...
    @property
    def sampler(self) -> str: ...
    @property
    def sampler_options(self) -> Mapping[str, Any]: ...
    @property
    def pruner(self) -> str: ...
    @property
    def pruner_options(self) -> Mapping[str, Any]: ...
    @property
    def pruner_warmup(self) -> int: ...
    @property
    def fidelity(self) -> int | Literal["auto"] | None: ...
    @property
    def promote_each(self) -> int: ...
    @property
    def gain_below(self) -> float | None: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def lease(self) -> float: ...
    @property
    def allow_drift(self) -> bool: ...
    @property
    def storage(self) -> str | None: ...

    def shareable(self) -> dict[str, Any]:
        """Return plain data without the storage's address, which may hold a password."""

    def identity(self) -> dict[str, Any]:
        """Return the values that must stay the same when the search is resumed."""

    def comparable(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """Return an identity in the present terms, without values that change no result."""

    def key(self, name: str) -> str:
        """Return the name of a setting as the user writes it, as `sweep.n_trials`."""

    def retry_command(self, folder: Path) -> str:
        """Return what the user runs to enqueue the failed trials again."""
