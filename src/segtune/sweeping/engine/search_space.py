"""Build a space from keys with choices and ranges."""

from collections.abc import Iterable, Mapping
from typing import Any

from segtune.errors import ConfigError
from segtune.runtime.log import Log
from segtune.sweeping.engine.dimensions import Dimension, literal
from segtune.sweeping.engine.ranges import RANGE_KEYS, finite_number, numeric_range
from segtune.sweeping.engine.search_settings import SearchSettings
from segtune.sweeping.engine.space import FlatSpace


def flat_space(search: Mapping[str, Any], fixed: Iterable[str] = ()) -> FlatSpace:
    """Return the space of a mapping from keys to choices or ranges.

    >>> flat_space({"lr": {"min": 0.001, "max": 0.1, "log": True}}).dimensions[0].describe()
    'lr: 0.001 to 0.1, logarithmic'

    Raises:
        ConfigError: a key has neither choices nor a range, or there is no key.
    """
    if not search:
        raise ConfigError("nothing to search: give at least one key with choices or a range.")
    dimensions = [_dimension(str(key), written) for key, written in search.items()]
    return FlatSpace(tuple(fixed), tuple(dimensions))


def _dimension(key: str, written: Any) -> Dimension:
    if isinstance(written, list | tuple):
        return choices_of(key, written)
    if not isinstance(written, Mapping) or not {"min", "max"} <= set(written) <= set(RANGE_KEYS):
        raise ConfigError(
            f"search.{key}={written!r}: give a list of choices, or min and max (step, log)."
        )
    low, high = (finite_number(key, name, written[name]) for name in ("min", "max"))
    is_int = all(isinstance(value, int) for value in (low, high, written.get("step") or 1))
    return numeric_range(Dimension(key, key, low=low, high=high, is_int=is_int), written)


def choices_of(key: str, values: Iterable[Any]) -> Dimension:
    """Return the dimension of a list of choices.

    Raises:
        ConfigError: the list is empty, or a choice appears twice.
    """
    choices = tuple(values)
    if not choices:
        raise ConfigError(f"search.{key}: give at least one choice.")
    texts = [str(choice) for choice in choices]
    for number, text in enumerate(texts):
        if text in texts[:number]:
            raise ConfigError(
                f"search.{key}: {literal(choices[number])} appears twice. Leave one out."
            )
    return Dimension(key, key, choices=choices)


def check_size(space: FlatSpace, settings: SearchSettings, say: Log) -> int:
    """Return the number of trials: no configuration runs twice, so a small space ends earlier.

    Raises:
        ConfigError: the sampler needs a list of choices or a step for each key.
    """
    size = space.size(at_most=settings.n_trials + 1)
    if size is None and settings.sampler == "grid":
        continuous = [d.key for d in space.dimensions if d.values() is None]
        raise ConfigError(
            f"a grid needs choices, or a step, for each key, and {', '.join(continuous)} has "
            f"neither. Give one, or another {settings.key('sampler')}."
        )
    if size is None or size >= settings.n_trials:
        return settings.n_trials
    say(f"the space holds {size} configurations, and none runs twice: {size} trials")
    return size
