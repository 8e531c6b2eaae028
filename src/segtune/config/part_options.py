"""The options of a registered part: its keyword arguments, with their types and defaults."""

import inspect
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pydantic

from segtune.config.dataset_schema import Settings
from segtune.config.keys import alternatives, parse_settings
from segtune.errors import ConfigError, nearest
from segtune.plugins.registry import Part, find, parts


class Options(Settings):
    """Base of the options of a part."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())


def checked_options(part: Part, values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the options of a part, with its defaults for those that are not given.

    Args:
        key: of the config that holds the options, for messages.

    Raises:
        ConfigError: an unknown option, or a value of the wrong type or out of range.
    """
    model = option_model(part)
    known = {name: value for name, value in values.items() if name in model.model_fields}
    takes_any = any(p.kind == p.VAR_KEYWORD for p in part.parameters())
    unknown = [name for name in values if name not in known]
    if unknown and not takes_any:
        raise ConfigError(
            f"{key}.{unknown[0]}: the {part.group} '{part.name}' has no such option; "
            f"{nearest(unknown[0], model.model_fields)}"
        )
    parsed = parse_settings(model, known, key)
    chosen = {name: getattr(parsed, name) for name in model.model_fields}
    return {**values, **chosen}


def option_model(part: Part) -> type[Options]:
    """Return the options of a part as a settings class."""
    fields: dict[str, Any] = {}
    for parameter in part.parameters():
        if parameter.kind != parameter.VAR_KEYWORD:
            fields[parameter.name] = (_annotation(parameter), parameter.default)
    return pydantic.create_model(f"{part.name}_options", __base__=Options, **fields)


LISTED = {
    "loss.options": "loss",
    "augment.parts": "augmentation",
    "trainer.callbacks": "callback",
    "tracking.loggers": "logger",
}
"""Key of the config that maps names of parts to their options -> group of the parts."""

_NAMED = {"optimizer.options": "optimizer", "scheduler.options": "scheduler"}
"""Beginning of a key, before an option of the part that the section names -> group."""


def option_types(key: str) -> list[Any] | None:
    """Return the types that an option of a part may have, by its key in the config.

    None for a key that is no option. `loss.options.tversky.alpha` is one of the loss `tversky`;
    `optimizer.options.alpha` is one of any optimizer that has it.

    Raises:
        ConfigError: no such part, or no such option.
    """
    path = tuple(key.split("."))
    beginning = ".".join(path[:2])
    group = LISTED.get(beginning)
    if group and len(path) == 4:
        part = find(group, path[2], ".".join(path[:3]))
        checked = option_model(part).model_fields
        if path[3] not in checked:
            hint = nearest(path[3], checked)
            raise ConfigError(f"{key}: the {group} '{part.name}' has no such option; {hint}")
        return alternatives(checked[path[3]].annotation)
    group = _NAMED.get(beginning)
    if group and len(path) == 3:
        types: list[Any] = []
        for part in parts(group).values():
            field = option_model(part).model_fields.get(path[2])
            types += [] if field is None else alternatives(field.annotation)
        return types
    return None


def plugin_options() -> Iterator[tuple[str, Part]]:
    """Yield the key of the options, and the part, of all parts of plugins that a run can name."""
    for listed, group in LISTED.items():
        for name, part in parts(group).items():
            if part.plugin is not None or group == "logger":
                yield f"{listed}.{name}", part
    for named, group in _NAMED.items():
        for part in parts(group).values():
            if part.plugin is not None:
                yield named, part


def prediction_options() -> Iterator[tuple[str, Part]]:
    """Yield the key of the options, and the part, of all writers and engines of `predict`."""
    for name, part in parts("writer").items():
        yield f"format_options.{name}", part
    for part in parts("engine").values():
        yield "runtime_options", part


def _annotation(parameter: inspect.Parameter) -> Any:
    """Return the type of an option: as annotated, else that of its default."""
    if parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str):
        return parameter.annotation
    return Any if parameter.default is None else type(parameter.default)


def hyperparameters(part: Part) -> dict[str, dict[str, Any]]:
    """Return the options that are numbers, words or switches, as a template declares them.

    A range is written as `width: Annotated[int, pydantic.Field(ge=4, le=64)] = 16`, a choice as
    `Literal["a", "b"]`.
    """
    declared = {}
    for name, field in option_model(part).model_fields.items():
        if not isinstance(field.default, bool | int | float | str):
            continue
        fields: dict[str, Any] = {"default": field.default}
        if typing.get_origin(field.annotation) is Literal:
            fields["choices"] = list(typing.get_args(field.annotation))
        elif isinstance(field.default, str):
            fields |= {"choices": [field.default], "open": True}
        for rule in field.metadata:
            low, high = getattr(rule, "ge", None), getattr(rule, "le", None)
            fields |= {} if low is None else {"min": low}
            fields |= {} if high is None else {"max": high}
        declared[name] = fields
    return declared
