"""Read one line under `search:` in a sweep file."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from segtune.config.conf_files import members
from segtune.config.keys import alternatives_at
from segtune.config.part_options import option_types
from segtune.config.schema import RunConfig
from segtune.config.template import Hyperparameter, Template
from segtune.errors import ConfigError, nearest
from segtune.sweeping.dimensions import SweepDimension
from segtune.sweeping.engine.dimensions import literal
from segtune.sweeping.engine.ranges import RANGE_KEYS, finite_number, numeric_range


def group_dimension(key: str, written: Any) -> SweepDimension:
    """Return the dimension of a config group: the named members, or all of them.

    Raises:
        ConfigError: the group has no such member.
    """
    choices = [str(choice) for choice in as_list(key, written, members(key))]
    for choice in choices:
        if choice not in members(key):
            raise ConfigError(
                f"search.{key}: no such {key} '{choice}'; {nearest(choice, members(key))}"
            )
    return SweepDimension(key, key, choices=tuple(choices))


def setting_dimension(key: str, written: Any) -> SweepDimension:
    """Return the dimension of a setting that no template declares: choices, or a numeric range.

    Raises:
        ConfigError: the line has another form, or the setting is not a number.
    """
    is_mapping = isinstance(written, Mapping)
    if isinstance(written, list) or (is_mapping and set(written) == {"choices"}):
        return SweepDimension(key, key, choices=tuple(as_list(key, written, [])))
    if not is_mapping or not {"min", "max"} <= set(written) <= set(RANGE_KEYS):
        raise ConfigError(
            f"search.{key}={written!r}: give a list of choices, or min and max (step, log)."
        )
    low, high = (finite_number(key, name, written[name]) for name in ("min", "max"))
    types = option_types(key)
    if types is None:
        types = alternatives_at(RunConfig, key.split("."))
    if types and int not in types and float not in types:
        raise ConfigError(f"search.{key}: its values are no numbers; give a list of choices.")
    is_int = float not in types and isinstance(low, int) and isinstance(high, int)
    if float not in types and int in types and not is_int:
        raise ConfigError(
            f"search.{key}: takes whole numbers, and min {low:g}, max {high:g} are not both whole."
        )
    return numeric_range(SweepDimension(key, key, low=low, high=high, is_int=is_int), written)


def hyperparameter_dimensions(
    key: str, written: Any, templates: list[Template]
) -> list[SweepDimension]:
    """Return the dimensions of a hyperparameter.

    Templates that agree on the range share one dimension. Otherwise each template that declares
    the hyperparameter has its own.

    Raises:
        ConfigError: no template declares the hyperparameter, or a template does not allow a value.
    """
    name = key.removeprefix("hp.")
    declaring = [template for template in templates if name in template.hyperparameters]
    if not declaring:
        known = list(chain.from_iterable(template.hyperparameters for template in templates))
        raise ConfigError(
            f"search.{key}: no template of this sweep declares it; {nearest(name, known)}"
        )
    if written and len(declaring) == len(templates):
        dimension = SweepDimension(key, key)
        shared = [_dimension(dimension, t.hyperparameters[name], written) for t in templates]
        if all(dimension == shared[0] for dimension in shared):
            return shared[:1]
    if len(templates) == 1:
        return [_dimension(SweepDimension(key, key), templates[0].hyperparameters[name], written)]
    return [
        _dimension(
            SweepDimension(key, f"{key}@{template.name}", template=template.name),
            template.hyperparameters[name],
            written,
        )
        for template in declaring
    ]


def _dimension(dimension: SweepDimension, declared: Hyperparameter, written: Any) -> SweepDimension:
    """Return a dimension with the choices or the range that a line gives it."""
    key = dimension.key
    if isinstance(written, list):
        written = {"choices": written}
    if written is not None and not isinstance(written, Mapping):
        raise ConfigError(
            f"search.{key}={written!r}: give a list of choices, min and max (step, log), or {{}} "
            "for the template's own range. One value for all trials is an override: "
            f"{key}={written}."
        )
    fields: Mapping[str, Any] = written or declared.search_range()
    unknown = set(fields) - {*RANGE_KEYS, "choices"}
    if unknown:
        raise ConfigError(
            f"search.{key}: unknown {sorted(unknown)}; allowed are min, max, step, log, or choices."
        )
    if "choices" in fields:
        if len(fields) > 1:
            raise ConfigError(f"search.{key}: give choices, or min and max (step, log), not both.")
        choices = as_list(key, fields["choices"], [])
        return replace(dimension, choices=tuple(_checked(declared, c) for c in choices))
    if declared.choices is not None or isinstance(declared.default, bool | list):
        raise ConfigError(
            f"search.{key}: its values are no numbers ({declared.allowed}); give a list of "
            f"choices, e.g. [{literal(declared.default)}]."
        )
    return _declared_range(dimension, declared, fields)


def _declared_range(
    dimension: SweepDimension, declared: Hyperparameter, fields: Mapping[str, Any]
) -> SweepDimension:
    """Return a dimension with a numeric range; the template's own range fills missing ends."""
    key, ends = dimension.key, ("min", "max")
    missing = [end for end in ends if end not in fields]
    if missing:
        fields = {**declared.search_range(), **fields}
    if any(end not in fields for end in missing):
        raise ConfigError(
            f"search.{key}: has no {' and no '.join(missing)}; give min and max, or choices."
        )
    low, high = (_checked(declared, finite_number(key, end, fields[end])) for end in ends)
    ranged = replace(dimension, low=low, high=high, is_int=declared.kind == "int")
    return numeric_range(ranged, fields, declared.step)


def _checked(declared: Hyperparameter, value: Any) -> Any:
    """Return a value as the template reads it."""
    try:
        return declared.check(value)
    except ConfigError as error:
        is_text = isinstance(value, str) and declared.choices is None
        hint = " A number is written without quotes." if is_text else ""
        raise ConfigError(f"search.{error}{hint}") from None


def as_list(key: str, written: Any, default: list[Any]) -> list[Any]:
    """Return the choices of a search key; the default if the file gives none.

    Raises:
        ConfigError: the value is not a list, or an empty one.
    """
    if written is None or written == {}:
        return default
    values = written.get("choices") if isinstance(written, Mapping) else written
    if not isinstance(values, list) or not values:
        raise ConfigError(f"search.{key}={written!r}: give a list of choices.")
    return values
