"""Compose every choice of a search space once, before the first trial starts."""

from collections.abc import Mapping
from typing import Any

from segtune.config.compose import Composed, compose
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError
from segtune.sweeping.dimensions import SweepDimension, value_in
from segtune.sweeping.engine.dimensions import literal
from segtune.sweeping.space import Space
from segtune.sweeping.spec import SweepSpec

# all trials of a sweep share these, so that their results can be compared
SHARED_SECTIONS = ("dataset", "kind", "labeler", "tracking", "cache", "resume")
DEVICE_KEYS = ("trainer.devices", "trainer.accelerator", "trainer.strategy")


def compose_choices(spec: SweepSpec, space: Space, base: RunConfig) -> None:
    """Compose each choice, and the ends of each range, with each template.

    Raises:
        ConfigError: a choice cannot be composed, appears twice, is read as another value, or
            changes what all trials share.
    """
    for template in space.templates:
        overrides = space.base_of(template)
        composed = _compose(spec, overrides, "template")
        _check_shared(spec, f"template={template}", base, composed.config)
        for dimension in space.dimensions_of(template):
            if dimension.key == "template":
                _check_distinct(dimension, list(dimension.choices or ()))
            else:
                _compose_dimension(spec, dimension, overrides, base)


def _compose_dimension(
    spec: SweepSpec, dimension: SweepDimension, overrides: list[str], base: RunConfig
) -> None:
    ends = (dimension.low, dimension.high)
    values_composed = []
    for value in ends if dimension.choices is None else dimension.choices:
        word = f"{dimension.key}={literal(value)}"
        composed = _compose(spec, [*overrides, word], dimension.key)
        _check_shared(spec, word, base, composed.config)
        value_composed = value_in(composed, dimension.key)
        _check_meaning(dimension, value, value_composed)
        values_composed.append(value_composed)
    if dimension.choices is not None:
        _check_distinct(dimension, values_composed)


def _compose(spec: SweepSpec, overrides: list[str], key: str) -> Composed:
    try:
        return compose(overrides)
    except ConfigError as error:
        where = f"search.{key}" if key in spec.search else "overrides"
        raise ConfigError(f"sweep '{spec.name}': {where}: {error}") from None


def _check_shared(spec: SweepSpec, word: str, base: RunConfig, config: RunConfig) -> None:
    """Check that a choice changes neither the data nor the task nor the device."""
    for key in (*SHARED_SECTIONS, *DEVICE_KEYS):
        if _value_at(base, key) != _value_at(config, key):
            raise ConfigError(
                f"sweep '{spec.name}': {word} cannot be searched; it changes {key}, and all trials "
                "share that. Give it under overrides, and start a sweep for each value "
                "(sweep.name=…)."
            )


def _value_at(config: RunConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _check_meaning(dimension: SweepDimension, value: Any, composed: Any) -> None:
    """Check that a trial gets the choice as written, neither converted nor merged."""
    if isinstance(value, bool) and not isinstance(composed, bool):
        raise ConfigError(
            f"search.{dimension.key}: {literal(value)} is read as {composed}; write the value "
            "itself."
        )
    if isinstance(value, Mapping) and value != composed:
        keys = ", ".join(f"{dimension.key}.{name}" for name in value)
        raise ConfigError(
            f"search.{dimension.key}: {literal(value)} is added to the values from before, which "
            f"gives {literal(composed)}. Search {keys}, or a config group."
        )


def _check_distinct(dimension: SweepDimension, values: list[Any]) -> None:
    """Check that no choice appears twice, in any form: no configuration is trained twice."""
    texts = [str(choice) for choice in dimension.choices or ()]
    for number, value in enumerate(values):
        if value in values[:number] or texts[number] in texts[:number]:
            raise ConfigError(
                f"search.{dimension.key}: {literal(value)} appears twice, and no "
                "configuration is trained twice. Leave one out; to repeat a configuration, search "
                "seed: [0, 1, 2]."
            )
