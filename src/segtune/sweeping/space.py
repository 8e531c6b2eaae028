"""The search space: typed ranges out of the templates' own declarations, narrowed by the sweep file."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution

from segtune.sweeping.dimensions import Dimension, literal


@dataclass(frozen=True)
class Space:
    """All dimensions of a sweep, and the fixed overrides beside them.

    Attributes:
        enqueued: configurations that are tried first, each as {param: value}.
    """

    fixed: tuple[str, ...]
    templates: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    enqueued: tuple[Mapping[str, Any], ...] = ()

    def propose(self, trial: Trial) -> list[str]:
        """The overrides of one trial; dimensions of a template that it did not choose are not asked for."""
        return self._overrides(lambda dimension: dimension.suggest(trial))

    def changed(self, params: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
        """A trial's parameters with another value of one key; without that key where the space does not hold it."""
        result = dict(params)
        for dimension in self.dimensions:
            if (
                dimension.key == key
                and result.pop(dimension.param, None) is not None
                and dimension.holds(value)
            ):
                result[dimension.param] = dimension.as_param(value)
        return result

    def untried(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Parameters of the first configuration that is not among those tried; None where there is none, or no end."""
        return self._first_new(self._configurations(), tried)

    def next_enqueued(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Parameters of the first enqueued configuration that is not among those tried; None where there is none."""
        return self._first_new(self.enqueued, tried)

    def overrides_of(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of a configuration {param: value}."""
        return self._overrides(lambda dimension: values[dimension.param])

    def beside(self, recorded: Mapping[str, list[BaseDistribution]]) -> "Space":
        """The space with names that a study can record it under; see `Dimension.beside`."""
        dimensions = tuple(d.beside(recorded) for d in self.dimensions)
        new_names = {
            old.param: new.param for old, new in zip(self.dimensions, dimensions, strict=True)
        }
        enqueued = tuple({new_names[k]: v for k, v in row.items()} for row in self.enqueued)
        return replace(self, dimensions=dimensions, enqueued=enqueued)

    def _first_new(
        self, configurations: Iterable[Mapping[str, Any]], tried: Collection[tuple[str, ...]]
    ) -> dict[str, Any] | None:
        for values in configurations:
            if tuple(self.overrides_of(values)) not in tried:
                return {
                    d.param: d.as_param(values[d.param])
                    for d in self.dimensions
                    if d.param in values
                }
        return None

    def size(self, at_most: int) -> int | None:
        """How many configurations there are, counted no further than `at_most`; None for no end of them."""
        if any(d.values() is None for d in self.dimensions):
            return None
        return sum(1 for _ in itertools.islice(self._configurations(), at_most))

    def _configurations(self) -> Iterator[dict[str, Any]]:
        """Every configuration as {param: value} of the dimensions that count in it; none of a space without end."""
        if any(d.values() is None for d in self.dimensions):
            return
        for template in self.templates:
            counting = [d for d in self.counting(template) if d.key != "template"]
            own = {d.param: template for d in self.dimensions if d.key == "template"}
            for row in itertools.product(*(d.values() or () for d in counting)):
                yield own | {d.param: v for d, v in zip(counting, row, strict=True)}

    def counting(self, template: str) -> list[Dimension]:
        """The dimensions that count in trials of a template."""
        return [d for d in self.dimensions if d.template in (None, template)]

    def base_of(self, template: str) -> list[str]:
        """The overrides of a template's trials, without what is searched beside it."""
        searched = any(d.key == "template" for d in self.dimensions)
        return [*self.fixed, f"template={template}"] if searched else list(self.fixed)

    def _overrides(self, value_of: Callable[[Dimension], Any]) -> list[str]:
        overrides, template = list(self.fixed), self.templates[0]
        for dimension in self.dimensions:
            if dimension.template in (None, template):
                value = value_of(dimension)
                if dimension.key == "template":
                    template = value
                overrides.append(f"{dimension.key}={literal(value)}")
        return overrides
