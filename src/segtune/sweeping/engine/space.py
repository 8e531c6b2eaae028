"""What a study asks of a search space."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar

from optuna import Trial
from optuna.distributions import BaseDistribution


class SearchSpace(Protocol):
    """A search space, whose configurations are lists of overrides."""

    def propose(self, trial: Trial) -> list[str]:
        """Return the overrides of a trial, with values that the sampler chooses."""

    def next_enqueued(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Return the parameters of the first enqueued configuration that was not tried."""

    def untried(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Return the parameters of the first configuration that was not tried.

        None if all were tried, or if the space is continuous.
        """

    def recordable(self, recorded: Mapping[str, list[BaseDistribution]]) -> Self:
        """Return the space under names that a study can record; see `Dimension.recordable`."""

    def current(self, overrides: Iterable[str]) -> list[str]:
        """Return recorded overrides in their present form."""


SpaceT = TypeVar("SpaceT", bound=SearchSpace)
