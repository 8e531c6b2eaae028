"""A reference of all keys: type, default, allowed values and meaning, from the models themselves.

Types and ranges come from pydantic's JSON schema, meanings from the `Attributes` section of a
model's docstring.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segtune.config.keys import Model, schema_at

_ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.*)$")


@dataclass(frozen=True)
class Setting:
    """One key.

    Attributes:
        default: None if null is the default, and None for a required key.
        allowed: the allowed values, in words.
    """

    key: str
    type: str
    default: Any
    required: bool
    allowed: str
    meaning: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))


def meanings(model: Model) -> dict[str, str]:
    """Return field -> its entry in the docstring's `Attributes` section.

    >>> from segtune.config.schema import LabelerConfig
    >>> meanings(LabelerConfig)["concept"]
    'name of the class.'
    """
    _, _, section = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            texts |= dict.fromkeys(names, entry[2])
        elif line.startswith("     ") and names:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return texts


def settings(model: Model, prefix: str = "") -> Iterator[Setting]:
    """Yield every key of a model that holds a value; the key of a nested value is dotted."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    texts = meanings(model)
    for name, field in model.model_fields.items():
        below = schema_at(model, [name])
        key = f"{prefix}{name}"
        if below is not None:
            yield from settings(below, f"{key}.")
            continue
        form = schema["properties"][name]
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True)
        yield Setting(
            key,
            _types(form, definitions),
            default,
            required,
            _allowed(form, definitions),
            texts.get(name, ""),
        )


def _forms(form: Mapping[str, Any], definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a JSON schema; references are replaced by their definitions."""
    if "$ref" in form:
        return _forms(definitions[form["$ref"].rsplit("/", 1)[1]], definitions)
    branches = form.get("anyOf") or form.get("oneOf")
    if not branches:
        return [form]
    forms: list[Mapping[str, Any]] = []
    for branch in branches:
        forms += _forms(branch, definitions)
    return forms


_TYPES = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "true or false",
    "null": "null",
}


def _types(form: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    names = []
    for one in _forms(form, definitions):
        kind = one.get("type", "anything")
        if "enum" in one or "const" in one:
            kind = "choice"
        elif kind == "array":
            kind = f"list of {_types(one['items'], definitions)}" if one.get("items") else "list"
        elif kind == "object":
            kind = "mapping"
        names.append(_TYPES.get(kind, kind))
    return " or ".join(dict.fromkeys(names))


def _allowed(form: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the allowed values in words; the type already says whether null is one of them."""
    parts = [_range(one, definitions) for one in _forms(form, definitions)]
    return " or ".join(dict.fromkeys(part for part in parts if part))


def _range(form: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the values that one alternative allows, in words."""
    if "enum" in form or "const" in form:
        return ", ".join(_word(value) for value in form.get("enum", [form.get("const")]))
    if form.get("type") == "array":
        items = _allowed(form.get("items") or {}, definitions)
        return f"items: {items.removeprefix('items: ')}" if items else ""
    if "propertyNames" in form:
        names = _allowed(form["propertyNames"], definitions)
        return f"keys: {names}" if names else ""
    words = [f"{sign} {form[key]:g}" for key, sign in _SIGNS.items() if key in form]
    words += [f"matches {form['pattern']}"] if "pattern" in form else []
    return " and ".join(words)


_SIGNS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def json_schema(model: Model) -> dict[str, Any]:
    """Return a JSON schema for editors, with the meanings as descriptions."""
    schema = model.model_json_schema()
    _describe(schema, model)
    models = {below.__name__: below for below in _models(model)}
    for name, definition in schema.get("$defs", {}).items():
        if name in models:
            _describe(definition, models[name])
    return schema


def _describe(schema: dict[str, Any], model: Model) -> None:
    schema["description"] = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
    for name, text in meanings(model).items():
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = text


def _models(model: Model) -> Iterator[Model]:
    """Yield the settings classes below one."""
    for name in model.model_fields:
        below = schema_at(model, [name])
        if below is not None:
            yield below
            yield from _models(below)
