"""How a line under `search:` in a sweep file is read, and what is refused there."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segtune.config.conf_files import members
from segtune.config.keys import alternatives_at
from segtune.config.schema import RunConfig
from segtune.config.template import Hyperparameter, Template
from segtune.errors import ConfigError, nearest
from segtune.sweeping.dimensions import TOLERANCE, Dimension, literal

_RANGE = ("min", "max", "step", "log")


def group_dimension(key: str, given: Any) -> Dimension:
    """A config group: members by name, all of them where none is given."""
    choices = [str(c) for c in as_list(key, given, members(key))]
    for choice in choices:
        if choice not in members(key):
            raise ConfigError(
                f"search.{key}: no such {key} '{choice}'; {nearest(choice, members(key))}"
            )
    return Dimension(key, key, choices=tuple(choices))


def setting_dimension(key: str, given: Any) -> Dimension:
    """A setting that no template declares: choices, or a range of numbers of the kind that the setting has."""
    if isinstance(given, list) or (isinstance(given, Mapping) and set(given) == {"choices"}):
        return Dimension(key, key, choices=tuple(as_list(key, given, [])))
    if not isinstance(given, Mapping) or not {"min", "max"} <= set(given) <= set(_RANGE):
        raise ConfigError(
            f"search.{key}={given!r}: give a list of choices, or min and max (step, log)."
        )
    ends = [_number(key, "min", given["min"]), _number(key, "max", given["max"])]
    kinds = alternatives_at(RunConfig, key.split("."))
    if kinds and int not in kinds and float not in kinds:
        raise ConfigError(f"search.{key}: its values are no numbers; give a list of choices.")
    is_int = float not in kinds and all(isinstance(e, int) for e in ends)
    if float not in kinds and int in kinds and not is_int:
        raise ConfigError(
            f"search.{key}: takes whole numbers, and min {ends[0]:g}, max {ends[1]:g} are not both whole."
        )
    return _numbers(Dimension(key, key, low=ends[0], high=ends[1], is_int=is_int), given)


def hyperparameter_dimensions(key: str, given: Any, templates: list[Template]) -> list[Dimension]:
    """One dimension for all templates where they agree about the range, else one for each that declares it."""
    name = key.removeprefix("hp.")
    having = [t for t in templates if name in t.hyperparameters]
    if not having:
        known = {h for t in templates for h in t.hyperparameters}
        raise ConfigError(
            f"search.{key}: no template of this sweep declares it; {nearest(name, known)}"
        )
    if given and len(having) == len(templates):
        rows = [_range(key, key, t.hyperparameters[name], given, None) for t in having]
        if all(row == rows[0] for row in rows):
            return rows[:1]
    alone = len(templates) == 1
    return [
        _range(
            key,
            key if alone else f"{key}@{t.name}",
            t.hyperparameters[name],
            given,
            None if alone else t.name,
        )
        for t in having
    ]


def _range(
    key: str, param: str, declared: Hyperparameter, given: Any, template: str | None
) -> Dimension:
    if isinstance(given, list):
        given = {"choices": given}
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"search.{key}={given!r}: give a list of choices, min and max (step, log), or {{}} for the template's own "
            f"range. One value for all trials is an override: {key}={given}."
        )
    wanted: Mapping[str, Any] = given or declared.search_range()
    unknown = set(wanted) - {*_RANGE, "choices"}
    if unknown:
        raise ConfigError(
            f"search.{key}: unknown {sorted(unknown)}; allowed are min, max, step, log, or choices."
        )
    if "choices" in wanted:
        if len(wanted) > 1:
            raise ConfigError(f"search.{key}: give choices, or min and max (step, log), not both.")
        choices = tuple(_checked(declared, c) for c in as_list(key, wanted["choices"], []))
        return Dimension(key, param, template, choices=choices)
    if declared.choices is not None or isinstance(declared.default, bool | list):
        raise ConfigError(
            f"search.{key}: its values are no numbers ({declared.allowed}); give a list of choices, e.g. "
            f"[{literal(declared.default)}]."
        )
    missing = [end for end in ("min", "max") if end not in wanted]
    merged = {**(declared.search_range() if missing else {}), **wanted}
    if any(end not in merged for end in missing):
        raise ConfigError(
            f"search.{key}: has no {' and no '.join(missing)}; give min and max, or choices."
        )
    low, high = (_checked(declared, _number(key, end, merged[end])) for end in ("min", "max"))
    dimension = Dimension(key, param, template, None, low, high, is_int=declared.kind == "int")
    return _numbers(dimension, merged, declared.step)


def _checked(declared: Hyperparameter, value: Any) -> Any:
    """A value as the template reads it."""
    try:
        return declared.check(value)
    except ConfigError as error:
        is_text = isinstance(value, str) and declared.choices is None
        hint = " A number is written without quotes." if is_text else ""
        raise ConfigError(f"search.{error}{hint}") from None


def _numbers(
    dimension: Dimension, given: Mapping[str, Any], declared_step: float | None = None
) -> Dimension:
    """A numeric range with its step and scale.

    Args:
        given: may hold `step` and `log`.
        declared_step: of the template: values between its steps are not allowed.
    """
    key, low, high, is_int = dimension.key, dimension.low, dimension.high, dimension.is_int
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"search.{key}: log is true or false, not {log!r}.")
    if not low < high:
        raise ConfigError(
            f"search.{key}: min {low:g} must lie below max {high:g}. One value for all trials is an override."
        )
    if log and low <= 0:
        raise ConfigError(f"search.{key}: a logarithmic range starts above 0, not at {low:g}.")
    own_step = given.get("step")
    step = declared_step if own_step is None else _number(key, "step", own_step)
    if is_int and step == 1:
        step = None  # whole numbers have that step anyway
    if step is None:
        return replace(dimension, log=log)
    if step <= 0:
        raise ConfigError(f"search.{key}: step {step:g} must lie above 0.")
    if is_int and step != int(step):
        raise ConfigError(f"search.{key}: takes whole numbers, and step {step:g} is none.")
    if declared_step and not _divides(declared_step, step):
        raise ConfigError(
            f"search.{key}: the template allows every {declared_step:g}th value, and step {step:g} leaves them. Give a "
            f"multiple of {declared_step:g}."
        )
    if log:
        raise ConfigError(
            f"search.{key}: log and step {step:g} cannot be combined"
            + (" (the template declares that step)" if own_step is None else "")
            + f": leave one of them out, or give a list of choices, as [{', '.join(_doubling(low, high, step))}]."
        )
    if not _divides(step, high - low):
        last = low + math.floor((high - low) / step) * step
        raise ConfigError(
            f"search.{key}: step {step:g} does not lead from min {low:g} to max {high:g}. Give max: {last:g} or "
            f"{last + step:g}, or another step."
        )
    return replace(dimension, step=step)


def _divides(step: float, span: float) -> bool:
    count = span / step
    return count > 0.5 and abs(count - round(count)) <= TOLERANCE * max(1.0, count)


def _doubling(low: float, high: float, step: float) -> list[str]:
    """A few values between low and high, each about twice the one before, on the steps from low."""
    values = [low]
    while values[-1] + step <= high and len(values) < 6:
        steps = max(1, round(values[-1] / step))
        values.append(values[-1] + steps * step)
    return [f"{v:g}" for v in values if v <= high]


def _number(key: str, name: str, word: Any) -> float:
    if isinstance(word, bool) or not isinstance(word, int | float):
        raise ConfigError(f"search.{key}: min, max and step are numbers, and {word!r} is none.")
    if not math.isfinite(word):
        raise ConfigError(f"search.{key}: {name} is {word}; a finite number is expected.")
    return word


def as_list(key: str, given: Any, default: list[Any]) -> list[Any]:
    """The choices of a search key; the default where the file gives none.

    Raises:
        ConfigError: something else than a list, or an empty one.
    """
    if given is None or given == {}:
        return default
    values = given.get("choices") if isinstance(given, Mapping) else given
    if not isinstance(values, list) or not values:
        raise ConfigError(f"search.{key}={given!r}: give a list of choices.")
    return values
