"""The search space: typed ranges out of the templates' own declarations, narrowed by the sweep file."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution

from segtune.aliases import alias_hint
from segtune.commands import command
from segtune.config import GROUPS, Composed, compose, load_template
from segtune.errors import ConfigError, nearest
from segtune.settings import RunConfig
from segtune.sweeping.dimensions import Dimension, literal, value_in
from segtune.sweeping.enqueue import resolve_enqueued
from segtune.sweeping.search_keys import group_dimension, hyperparameter_dimensions, setting_dimension
from segtune.sweeping.spec import SweepSpec

_SECTIONS = ("seed", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer")
_SHARED = ("dataset", "kind", "labeler", "tracking", "cache", "resume")
_DEVICES = ("trainer.devices", "trainer.accelerator", "trainer.strategy")


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
            if dimension.key == key and result.pop(dimension.param, None) is not None and dimension.holds(value):
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
        new_names = {old.param: new.param for old, new in zip(self.dimensions, dimensions, strict=True)}
        enqueued = tuple({new_names[k]: v for k, v in row.items()} for row in self.enqueued)
        return replace(self, dimensions=dimensions, enqueued=enqueued)

    def _first_new(
        self, configurations: Iterable[Mapping[str, Any]], tried: Collection[tuple[str, ...]]
    ) -> dict[str, Any] | None:
        for values in configurations:
            if tuple(self.overrides_of(values)) not in tried:
                return {d.param: d.as_param(values[d.param]) for d in self.dimensions if d.param in values}
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


def build_space(spec: SweepSpec) -> Space:
    """The space of a sweep, after each corner of it was composed and checked.

    Raises:
        ConfigError: an unknown key, group member or hyperparameter, a range outside of the template's, a key that all
            trials share, or an enqueued configuration outside of the space.
    """
    for key in spec.search:
        _check_key(spec, key)
    _check_overrides(spec)
    base = compose(spec.base)
    if base.config.trainer.devices > 1:
        raise ConfigError(
            f"sweep '{spec.name}': trainer.devices={base.config.trainer.devices}, but a trial runs on one device. "
            "Set trainer.devices=1, and sweep.workers for how many trials run at once."
        )
    names = [base.template.name]
    dimensions = []
    if "template" in spec.search:
        dimensions.append(group_dimension("template", spec.search["template"]))
        names = [str(c) for c in dimensions[0].choices or ()]
    templates = [load_template(n) for n in names]
    for key, given in spec.search.items():
        if key == "template":
            continue
        if key in GROUPS:
            dimensions.append(group_dimension(key, given))
        elif key.startswith("hp."):
            dimensions.extend(hyperparameter_dimensions(key, given, templates))
        elif key.split(".")[0] in _SECTIONS:
            dimensions.append(setting_dimension(key, given))
        else:
            known = [
                *(g for g in GROUPS if g not in _SHARED),
                "seed",
                *(f"hp.{h}" for t in templates for h in t.hyperparameters),
            ]
            close = nearest(key, known)
            hint = close if close.startswith("did you mean") else alias_hint(key) or close
            raise ConfigError(f"sweep '{spec.name}': search.{key} cannot be searched; {hint}")
    space = Space(tuple(spec.overrides), tuple(names), tuple(dimensions))
    _compose_corners(spec, space, base.config)
    _check_size(spec, space)
    return replace(space, enqueued=resolve_enqueued(spec, space, base))


def _check_overrides(spec: SweepSpec) -> None:
    """That no override fixes what the search varies: each trial would ignore it."""
    for text in spec.overrides:
        key = text.lstrip("+~").partition("=")[0]
        if key == "resume":
            raise ConfigError(
                f"sweep '{spec.name}': {text}: a trial begins a run of its own. To go on with a sweep, start it again: "
                f"{command('sweep', spec.name)}"
            )
        for searched in spec.search:
            if key == searched or (searched not in GROUPS and key.startswith(f"{searched}.")):
                raise ConfigError(
                    f"sweep '{spec.name}': {text} stands under overrides or on the command line, and search.{searched} "
                    "varies it. Leave one of them out."
                )


def _check_key(spec: SweepSpec, key: str) -> None:
    """That a key may differ between the trials of a sweep."""
    if key in _DEVICES or key.split(".")[0] in _SHARED:
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} cannot be searched; all trials share it, so that their val mIoU can be "
            "compared: the task, the data, the device and the store. Give it under overrides, and start a sweep for "
            "each value (sweep.name=…)."
        )
    if key in GROUPS and isinstance(spec.search[key], Mapping) and set(spec.search[key]) - {"choices"}:
        names = [f"{key}.{name}" for name in spec.search[key]]
        raise ConfigError(
            f"sweep '{spec.name}': search.{key} takes a list of members of conf/{key}/. To search its settings, write "
            f"each with its whole name: {', '.join(names)}."
        )


def _check_size(spec: SweepSpec, space: Space) -> None:
    if spec.sampler == "grid":
        endless = [d.key for d in space.dimensions if d.values() is None]
        if endless:
            raise ConfigError(
                f"sweep '{spec.name}': a grid needs a list of choices, or a step, for each search key, and "
                f"{', '.join(endless)} has neither. Give one, or choose sweep.sampler=qmc, which spreads out as evenly."
            )
    size = space.size(at_most=(spec.n_trials or 0) + 1)
    # after a drift, trials outside of the new space count as well
    if spec.n_trials is not None and size is not None and size < spec.n_trials and not spec.allow_drift:
        raise ConfigError(
            f"sweep '{spec.name}': sweep.n_trials={spec.n_trials}, but its space holds {size} configurations, and none "
            f"is trained twice. Set sweep.n_trials={size}, or widen the space."
        )


def compose_trial(overrides: list[str], threads: int) -> RunConfig:
    """The trial's config, with its worker's share of the CPU threads unless the sweep sets them."""
    config = compose(overrides).config
    if config.trainer.threads is None and config.trainer.accelerator != "gpu":
        trainer = config.trainer.model_copy(update={"threads": threads})
        config = config.model_copy(update={"trainer": trainer})
    return config


def _compose_corners(spec: SweepSpec, space: Space, base: RunConfig) -> None:
    """Composes every choice once: what a trial could ask for must exist before the first one starts."""
    for template in space.templates:
        overrides = space.base_of(template)
        _check_shared(spec, f"template={template}", base, _compose_choice(spec, overrides, "template").config)
        for dimension in space.counting(template):
            if dimension.key == "template":
                _check_distinct(dimension, list(dimension.choices or ()))
                continue
            composed = []
            for value in dimension.choices if dimension.choices is not None else (dimension.low, dimension.high):
                word = f"{dimension.key}={literal(value)}"
                corner = _compose_choice(spec, [*overrides, word], dimension.key)
                _check_shared(spec, word, base, corner.config)
                composed.append(value_in(corner, dimension.key))
                _check_meaning(dimension, value, composed[-1])
            if dimension.choices is not None:
                _check_distinct(dimension, composed)


def _compose_choice(spec: SweepSpec, overrides: list[str], key: str) -> Composed:
    try:
        return compose(overrides)
    except ConfigError as error:
        where = f"search.{key}" if key in spec.search else "overrides"
        raise ConfigError(f"sweep '{spec.name}': {where}: {error}") from None


def _check_shared(spec: SweepSpec, word: str, base: RunConfig, corner: RunConfig) -> None:
    """That a choice leaves the data, the task and the device as they are."""
    trainer, trainer_there = base.trainer, corner.trainer
    pairs = {name: (getattr(base, name), getattr(corner, name)) for name in _SHARED}
    pairs |= {key: (getattr(trainer, n), getattr(trainer_there, n)) for key in _DEVICES for n in [key.split(".")[1]]}
    for key, (here, there) in pairs.items():
        if here != there:
            raise ConfigError(
                f"sweep '{spec.name}': {word} cannot be searched; it changes {key}, and all trials share that. Give it "
                "under overrides, and start a sweep for each value (sweep.name=…)."
            )


def _check_meaning(dimension: Dimension, value: Any, composed: Any) -> None:
    """That a choice is what the trial gets: neither read as something else, nor merged with what was there."""
    if isinstance(value, bool) and not isinstance(composed, bool):
        raise ConfigError(f"search.{dimension.key}: {literal(value)} is read as {composed}; write the value itself.")
    if isinstance(value, Mapping) and value != composed:
        raise ConfigError(
            f"search.{dimension.key}: {literal(value)} is added to the values from before, which gives "
            f"{literal(composed)}. Search {', '.join(f'{dimension.key}.{k}' for k in value)}, or a config group."
        )


def _check_distinct(dimension: Dimension, values: list[Any]) -> None:
    """That no choice stands twice, in whatever form; none is trained twice."""
    texts = [str(c) for c in dimension.choices or ()]
    for n, value in enumerate(values):
        if value in values[:n] or texts[n] in texts[:n]:
            raise ConfigError(
                f"search.{dimension.key}: {literal(value)} stands there twice, and no configuration is trained twice. "
                "Leave one out; to repeat a configuration, search seed: [0, 1, 2]."
            )
