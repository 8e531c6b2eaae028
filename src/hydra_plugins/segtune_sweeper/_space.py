"""Read a search space in Hydra's override syntax, as hydra-optuna-sweeper reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from segtune.errors import ConfigError
from segtune.sweeping.engine.dimensions import TOLERANCE, Dimension
from segtune.sweeping.engine.search_space import choices_of
from segtune.sweeping.engine.space import FlatSpace


def read_space(
    params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader
) -> FlatSpace:
    """Return the space of `hydra.sweeper.params` and of the command line.

    A word of the command line replaces the parameter of the same key.

    Raises:
        ConfigError: a word that cannot be read, or nothing to search.
    """
    words = [f"{key}={_text(value)}" for key, value in params.items()]
    try:
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(
            [*words, *arguments]
        )
    except HydraException as error:
        raise ConfigError(f"hydra.sweeper.params or the command line: {error}") from None
    last = {override.key_or_group: override for override in overrides}
    fixed = [o.input_line for o in last.values() if not o.is_sweep_override()]
    dimensions = [_dimension(o) for o in last.values() if o.is_sweep_override()]
    if not dimensions:
        raise ConfigError(
            "nothing to search: give at least one key as x=interval(0, 1), range(1, 9) or "
            "choice(a, b), on the command line or under hydra.sweeper.params."
        )
    return FlatSpace(tuple(str(word) for word in fixed), tuple(dimensions))


def _text(value: Any) -> str:
    """Return a value of the config as Hydra reads it on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dimension(override: Override) -> Dimension:
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return _interval(key, value)
    if isinstance(value, RangeSweep):
        return choices_of(key, value.range()) if value.shuffle else _range(key, value)
    if isinstance(value, ChoiceSweep):
        value.shuffle = False  # the order of choices means nothing here, and must stay the same
    return choices_of(key, [_plain(item) for item in override.sweep_iterator()])


def _interval(key: str, interval: IntervalSweep) -> Dimension:
    low, high = interval.start, interval.end
    if low is None or high is None or not low < high:
        raise ConfigError(f"{key}=interval({low}, {high}): the first number must be the smaller.")
    log = _has_log(key, interval.tags)
    if log and low <= 0:
        raise ConfigError(f"{key}: a logarithmic interval starts above 0, not at {low}.")
    is_int = isinstance(low, int) and isinstance(high, int)
    return Dimension(key, key, low=low, high=high, log=log, is_int=is_int)


def _range(key: str, numbers: RangeSweep) -> Dimension:
    """Return the dimension of a range; as in hydra-optuna-sweeper, it includes its stop."""
    start, stop, step = numbers.start, numbers.stop, numbers.step
    if start is None or stop is None or not step or (stop - start) / step < 1:
        raise ConfigError(f"{key}=range({start}, {stop}, {step}) holds fewer than two numbers.")
    last = start + int((stop - start) / step + TOLERANCE) * step
    low, high = min(start, last), max(start, last)
    is_int = all(isinstance(number, int) for number in (start, stop, step))
    dimension = Dimension(key, key, low=low, high=high, is_int=is_int)
    if not _has_log(key, numbers.tags):
        return replace(dimension, step=abs(step))
    if not is_int or abs(step) != 1 or low < 1:
        raise ConfigError(f"{key}: a logarithmic range has whole numbers above 0 and step 1.")
    return replace(dimension, log=True)


def _has_log(key: str, tags: set[str]) -> bool:
    unknown = sorted(tags - {"log"})
    if unknown:
        raise ConfigError(f"{key}: tag({unknown[0]}, …) is unknown; known: log.")
    return "log" in tags


def _plain(value: Any) -> Any:
    """Return an element of a sweep as a plain value."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
