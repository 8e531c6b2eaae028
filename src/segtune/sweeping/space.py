"""The search space of a sweep: the dimensions that apply to each template."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution

from segtune.config.renamed import current_word
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.dimensions import literal
from segtune.sweeping.engine.prior import Prior


@dataclass(frozen=True)
class Space:
    """The dimensions of a sweep, and the overrides that all trials share.

    Attributes:
        fixed: the shared overrides.
        templates: names of the searched templates, or the only one.
        enqueued: configurations that are tried first, each as {param: value}.
        prior: the configuration around which a share of the trials is drawn.
    """

    fixed: tuple[str, ...]
    templates: tuple[str, ...]
    dimensions: tuple[SweepDimension, ...]
    enqueued: tuple[Mapping[str, Any], ...] = ()
    prior: Prior | None = None

    def propose(self, trial: Trial) -> list[str]:
        """Return the overrides of a trial.

        The sampler chooses a value only for the dimensions that apply to the trial's template.
        """
        return self._overrides(lambda dimension: dimension.suggest(trial))

    def overrides_of(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a configuration {param: value}."""
        return self._overrides(lambda dimension: values[dimension.param])

    def current(self, overrides: Iterable[str]) -> list[str]:
        """Return recorded overrides with the present names of config keys."""
        return [current_word(word) for word in overrides]

    def base_of(self, template: str) -> list[str]:
        """Return the overrides of a template's trials without its searched values."""
        searched = any(dimension.key == "template" for dimension in self.dimensions)
        return [*self.fixed, f"template={template}"] if searched else list(self.fixed)

    def dimensions_of(self, template: str) -> list[SweepDimension]:
        """Return the dimensions that apply to a template."""
        return [d for d in self.dimensions if d.template in (None, template)]

    def next_enqueued(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Return the parameters of the first enqueued configuration that was not tried."""
        return self._first_untried(self.enqueued, tried)

    def untried(self, tried: Collection[tuple[str, ...]]) -> dict[str, Any] | None:
        """Return the parameters of the first configuration that was not tried.

        None if all were tried, or if the space is continuous.
        """
        return self._first_untried(self._configurations(), tried)

    def size(self, at_most: int) -> int | None:
        """Count the configurations up to `at_most`; None if the space is continuous."""
        if self._is_continuous():
            return None
        return sum(1 for _ in itertools.islice(self._configurations(), at_most))

    def changed(self, params: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
        """Return a trial's parameters with another value of one key.

        The key is left out if the space does not hold the value.
        """
        result = dict(params)
        for dimension in self.dimensions:
            if dimension.key == key and dimension.param in result:
                del result[dimension.param]
                if dimension.holds(value):
                    result[dimension.param] = dimension.as_param(value)
        return result

    def recordable(self, recorded: Mapping[str, list[BaseDistribution]]) -> "Space":
        """Return the space under names that a study can record; see `Dimension.recordable`."""
        dimensions = tuple(dimension.recordable(recorded) for dimension in self.dimensions)
        pairs = zip(self.dimensions, dimensions, strict=True)
        new_names = {old.param: new.param for old, new in pairs}
        enqueued = []
        for values in self.enqueued:
            enqueued.append({new_names[param]: value for param, value in values.items()})
        prior = None if self.prior is None else self.prior.renamed(new_names)
        return replace(self, dimensions=dimensions, enqueued=tuple(enqueued), prior=prior)

    def _first_untried(
        self, configurations: Iterable[Mapping[str, Any]], tried: Collection[tuple[str, ...]]
    ) -> dict[str, Any] | None:
        for values in configurations:
            if tuple(self.overrides_of(values)) not in tried:
                dimensions = [d for d in self.dimensions if d.param in values]
                return {d.param: d.as_param(values[d.param]) for d in dimensions}
        return None

    def _is_continuous(self) -> bool:
        return any(dimension.values() is None for dimension in self.dimensions)

    def _configurations(self) -> Iterator[dict[str, Any]]:
        """Yield every configuration as {param: value}; nothing if the space is continuous."""
        if self._is_continuous():
            return
        template_params = [d.param for d in self.dimensions if d.key == "template"]
        for template in self.templates:
            dimensions = [d for d in self.dimensions_of(template) if d.key != "template"]
            params = [d.param for d in dimensions]
            for values in itertools.product(*(d.values() or () for d in dimensions)):
                chosen = dict.fromkeys(template_params, template)
                yield chosen | dict(zip(params, values, strict=True))

    def _overrides(self, value_of: Callable[[SweepDimension], Any]) -> list[str]:
        """Return the overrides with a value for each dimension that applies to the template.

        The template is the first dimension, if it is searched.
        """
        overrides, template = list(self.fixed), self.templates[0]
        for dimension in self.dimensions:
            if dimension.template in (None, template):
                value = value_of(dimension)
                if dimension.key == "template":
                    template = value
                overrides.append(f"{dimension.key}={literal(value)}")
        return overrides
