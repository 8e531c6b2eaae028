"""The keys of the settings: which exist, which hold text, and how faults of their values are told."""

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
    "kind", "template", "dataset", "hp", "loss", "optimizer", "scheduler", "tuning", "augment", "sampling", "trainer",
    "tracking",
)  # fmt: skip
FREE = ("template", "hp")  # checked by the template's declaration, not by the schema
_ALTERNATIVE = re.compile(r"literal\[.*\]|constrained-\w+")  # pydantic's names for alternatives

Model = type[pydantic.BaseModel]
SettingsT = typing.TypeVar("SettingsT", bound=pydantic.BaseModel)


@dataclass(frozen=True)
class TextKind:
    """How a key that may hold text takes a word of the command line.

    Attributes:
        optional: `null` stands for no value.
        structured: a word that begins with `{` or `[` is not text but a mapping or a list.
    """

    optional: bool
    structured: bool


def text_kind(model: Model, path: Sequence[str]) -> TextKind | None:
    """How the key takes text; None where it takes none, or where the schema does not know it.

    >>> text_kind(RunConfig, ["dataset", "root"])
    TextKind(optional=True, structured=False)
    >>> text_kind(RunConfig, ["loss", "class_weights"]) is None  # one of a few words
    True
    """
    kinds = alternatives_at(model, path)
    if str not in kinds:
        return None
    others = [k for k in kinds if k not in (str, type(None))]
    return TextKind(type(None) in kinds, bool(others))


def alternatives_at(model: Model, path: Sequence[str]) -> list[Any]:
    """The types that the value of a key may have; empty where the schema knows no such key."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return kinds


def _below(kind: Any, part: str) -> list[Any]:
    """The types of an entry of a value of this type."""
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        field = kind.model_fields.get(part)
        return [] if field is None else _alternatives(field.annotation)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return _alternatives(arguments[1])
    if origin is list and part.isdigit():
        return _alternatives(arguments[0])
    return []


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, without what annotates them; a Literal stays one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _alternatives(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for argument in arguments for kind in _alternatives(argument)]
    return [annotation]


def schema_at(model: Model, path: Sequence[str]) -> Model | None:
    """The settings class at a key; None where free-form data begins."""
    found = [
        k
        for k in alternatives_at(model, path)
        if isinstance(k, type) and issubclass(k, pydantic.BaseModel)
    ]
    return found[0] if found else None


def check_key(key: str) -> None:
    """That a run has such a key.

    Raises:
        ConfigError: it has none; names the nearest.
    """
    parts = key.split(".")
    if parts[0] == "hydra":
        raise ConfigError(
            f"{key}: segtune composes with Hydra, but is not started by it, so that hydra.* has no effect. Runs are "
            f"kept under tracking.root=DIR; to search values: {command('sweep', 'NAME')}"
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
    """Every key that holds a value."""
    for name in model.model_fields:
        below = schema_at(model, [name])
        if below is None:
            yield prefix + name
        else:
            yield from leaf_keys(below, f"{prefix}{name}.")


def validate(data: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from plain data, such as the config that a run recorded.

    Raises:
        ConfigError: unknown keys, wrong types or values, each with its place and what is allowed.
    """
    return parse_settings(RunConfig, current_tree(data))


def parse_settings(model: type[SettingsT], data: Mapping[str, Any], where: str = "") -> SettingsT:
    """Data as settings of the given model; `where` names the file in messages.

    Raises:
        ConfigError: every fault of the data, one line each.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        reasons: dict[str, list[str]] = {}
        for fault in error.errors():
            place = [str(p) for p in fault["loc"]]
            if fault["type"] == "extra_forbidden":
                reasons[_unknown_key(model, place)] = []
            else:
                key = ".".join(p for p in place if not _ALTERNATIVE.fullmatch(p))
                found = "" if fault["type"] == "missing" else f"={fault['input']!r}"
                words = fault["msg"].removeprefix("Value error, ")  # pydantic's own
                reasons.setdefault(f"{key}{found}: ", []).append(words)
        lines = []
        for key, allowed in reasons.items():
            text = ", or ".join(dict.fromkeys(allowed)).replace(", or Input should be ", ", or ")
            lines.append(key + (f"{text}." if allowed else ""))
        prefix = f"{where}: " if where else ""
        raise ConfigError(prefix + "\n".join(lines)) from None


def _unknown_key(model: Model, place: Sequence[str]) -> str:
    parent = schema_at(model, place[:-1])
    key = ".".join(place)
    return f"{key}: no such key; {nearest(place[-1], parent.model_fields if parent else [])}"


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings as (dotted key, value).

    >>> list(flatten({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c', [2])]
    """
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, tree
