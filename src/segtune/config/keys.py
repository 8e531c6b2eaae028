"""The keys of the settings: which exist, which hold text, and messages for wrong values."""

import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic

from segtune.config.aliases import alias_hint
from segtune.config.commands import command
from segtune.config.renamed import current_tree
from segtune.config.schema import RunConfig
from segtune.errors import ConfigError, nearest

GROUPS = (
    "kind",
    "template",
    "dataset",
    "hp",
    "loss",
    "optimizer",
    "scheduler",
    "tuning",
    "augment",
    "sampling",
    "trainer",
    "tracking",
)
FREE = ("template", "hp")  # the template's declaration checks them, not the schema
_ALTERNATIVE = re.compile(r"literal\[.*\]|constrained-\w+")  # pydantic's names for alternatives

Model = type[pydantic.BaseModel]
SettingsT = typing.TypeVar("SettingsT", bound=pydantic.BaseModel)


@dataclass(frozen=True)
class TextKind:
    """The rules by which a key takes text from a word of the command line.

    Attributes:
        optional: `null` stands for no value.
        structured: a word that begins with `{` or `[` is not text but a mapping or a list.
    """

    optional: bool
    structured: bool


def text_kind(model: Model, path: Sequence[str]) -> TextKind | None:
    """Return how a key takes text; None if it takes none, or if the schema does not know it.

    >>> text_kind(RunConfig, ["dataset", "root"])
    TextKind(optional=True, structured=False)
    >>> text_kind(RunConfig, ["loss", "class_weights"]) is None  # one of a few words
    True
    """
    types_allowed = alternatives_at(model, path)
    if str not in types_allowed:
        return None
    others = [t for t in types_allowed if t not in (str, type(None))]
    return TextKind(type(None) in types_allowed, bool(others))


def alternatives_at(model: Model, path: Sequence[str]) -> list[Any]:
    """Return the types that the value of a key may have; empty for an unknown key."""
    parents: list[Any] = [model]
    for part in path:
        entries: list[Any] = []
        for parent in parents:
            entries += _entry_types(parent, part)
        parents = entries
    return parents


def _entry_types(parent: Any, part: str) -> list[Any]:
    """Return the types of an entry in a value of type `parent`."""
    if isinstance(parent, type) and issubclass(parent, pydantic.BaseModel):
        field = parent.model_fields.get(part)
        return [] if field is None else alternatives(field.annotation)
    origin, arguments = typing.get_origin(parent), typing.get_args(parent)
    if origin is dict:
        return alternatives(arguments[1])
    if origin is list and part.isdigit():
        return alternatives(arguments[0])
    return []


def alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union without their annotations; a Literal counts as one member."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return alternatives(arguments[0])
    if origin not in (typing.Union, types.UnionType):
        return [annotation]
    members: list[Any] = []
    for argument in arguments:
        members += alternatives(argument)
    return members


def schema_at(model: Model, path: Sequence[str]) -> Model | None:
    """Return the settings class at a key; None for a key that holds a value."""
    for alternative in alternatives_at(model, path):
        if isinstance(alternative, type) and issubclass(alternative, pydantic.BaseModel):
            return alternative
    return None


def check_key(key: str) -> None:
    """Check that a run has a key.

    Raises:
        ConfigError: no such key; names the nearest one.
    """
    parts = key.split(".")
    if parts[0] == "hydra":
        raise ConfigError(
            f"{key}: segtune composes with Hydra, but Hydra does not start it, so that hydra.* has "
            "no effect. Runs are stored under tracking.root=DIR; "
            f"to search values: {command('sweep', 'NAME')}"
        )
    if parts[0] == "plugins":
        raise ConfigError(
            f"{key}: plugins are code, and no key of a config names them: give plugins=FILE.py or "
            "plugins=package.module on the command line, or set SEGTUNE_PLUGINS."
        )
    if parts[0] not in RunConfig.model_fields:
        known = [*GROUPS, *leaf_keys(RunConfig)]
        raise ConfigError(f"{key}: no such key or group; {alias_hint(key) or nearest(key, known)}")
    if parts[0] in FREE:
        return
    for depth in range(1, len(parts)):
        parent = schema_at(RunConfig, parts[:depth])
        if parent is None:
            return
        if parts[depth] not in parent.model_fields:
            siblings = {".".join([*parts[:depth], n]) for n in parent.model_fields}
            raise ConfigError(f"{key}: no such key; {alias_hint(key) or nearest(key, siblings)}")


def leaf_keys(model: Model, prefix: str = "") -> Iterator[str]:
    """Yield every key that holds a value."""
    for name in model.model_fields:
        below = schema_at(model, [name])
        if below is None:
            yield prefix + name
        else:
            yield from leaf_keys(below, f"{prefix}{name}.")


def validate(data: Mapping[str, Any]) -> RunConfig:
    """Return a `RunConfig` from plain data, such as the config that a run recorded.

    Raises:
        ConfigError: unknown keys, wrong types or values, each with its key and the allowed values.
    """
    return parse_settings(RunConfig, current_tree(data))


def parse_settings(model: type[SettingsT], data: Mapping[str, Any], where: str = "") -> SettingsT:
    """Return data as settings of a model.

    Args:
        where: name of the file, for messages.

    Raises:
        ConfigError: every fault of the data, one line each.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + "\n".join(_fault_lines(model, error))) from None


def _fault_lines(model: Model, error: pydantic.ValidationError) -> list[str]:
    """Return one line for each wrong key; pydantic has one for each alternative of a union."""
    allowed: dict[str, list[str]] = {}
    for fault in error.errors():
        path = [str(part) for part in fault["loc"]]
        if fault["type"] == "extra_forbidden":
            allowed[_unknown_key(model, path)] = []
        else:
            key = ".".join(part for part in path if not _ALTERNATIVE.fullmatch(part))
            value = "" if fault["type"] == "missing" else f"={fault['input']!r}"
            expected = fault["msg"].removeprefix("Value error, ")  # pydantic adds this
            allowed.setdefault(f"{key}{value}: ", []).append(expected)
    lines = []
    for start, texts in allowed.items():
        text = ", or ".join(dict.fromkeys(texts))
        text = text.replace(", or Input should be ", ", or ")
        lines.append(f"{start}{text}." if texts else start)
    return lines


def _unknown_key(model: Model, path: Sequence[str]) -> str:
    parent = schema_at(model, path[:-1])
    hint = nearest(path[-1], parent.model_fields if parent else [])
    return f"{'.'.join(path)}: no such key; {hint}"


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings as (dotted key, value).

    >>> list(flatten({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c', [2])]
    """
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, tree
