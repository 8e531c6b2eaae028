"""What a study asks of a search space, and a space of independent dimensions."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

from optuna import Trial
from optuna.distributions import BaseDistribution

from segtune.sweeping.engine.dimensions import Dimension, literal
from segtune.sweeping.engine.prior import Prior


class SearchSpace(Protocol):
    """A search space, whose configurations are lists of overrides."""

    @property
    def prior(self) -> Prior | None:
        """The configuration around which a share of the trials is drawn."""

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


@dataclass(frozen=True)
class FlatSpace:
    """A space whose dimensions all apply to every trial.

    Attributes:
        fixed: overrides that all trials share.
    """

    fixed: tuple[str, ...]
    dimensions: tuple[Dimension, ...]

    @property
    def prior(self) -> None:
        """No prior: keys of a function have no defaults."""
        return None

    def propose(self, trial: Trial) -> list[str]:
        """Return the overrides of a trial, with values that the sampler chooses."""
        return self._overrides({d.param: d.suggest(trial) for d in self.dimensions})

    def next_enqueued(self, tried: Collection[tuple[str, ...]]) -> None:
        """Return None: no configuration is tried first."""

    def untried(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Return the parameters of the first configuration that was not tried."""
        for values in self._configurations():
            if tuple(self._overrides(values)) not in tried:
                return {d.param: d.as_param(values[d.param]) for d in self.dimensions}
        return None

    def size(self, at_most: int) -> int | None:
        """Count the configurations up to `at_most`; None if the space is continuous."""
        if any(dimension.values() is None for dimension in self.dimensions):
            return None
        return sum(1 for _ in itertools.islice(self._configurations(), at_most))

    def recordable(self, recorded: Mapping[str, list[BaseDistribution]]) -> "FlatSpace":
        """Return the space under names that a study can record; see `Dimension.recordable`."""
        return replace(self, dimensions=tuple(d.recordable(recorded) for d in self.dimensions))

    def current(self, overrides: Iterable[str]) -> list[str]:
        """Return recorded overrides as they are: keys have no other names."""
        return list(overrides)

    def values_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return recorded parameters as values by their key, without Hydra's `+`."""
        dimensions = {dimension.param: dimension for dimension in self.dimensions}
        values = {}
        for name, recorded in params.items():
            known = dimensions.get(name)
            value = known.from_param(recorded) if known else recorded
            values[name.partition("#")[0].lstrip("+")] = value
        return values

    def _configurations(self) -> Iterator[dict[str, Any]]:
        """Yield every configuration as {param: value}; nothing if the space is continuous."""
        columns = [dimension.values() for dimension in self.dimensions]
        if any(column is None for column in columns):
            return
        names = [dimension.param for dimension in self.dimensions]
        for values in itertools.product(*(column or () for column in columns)):
            yield dict(zip(names, values, strict=True))

    def _overrides(self, values: Mapping[str, Any]) -> list[str]:
        searched = [f"{d.key}={literal(values[d.param])}" for d in self.dimensions]
        return [*self.fixed, *searched]
