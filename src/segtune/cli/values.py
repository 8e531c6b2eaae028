"""The value of an option, from the word behind `=`."""

import os
from collections.abc import Callable
from typing import Any

from segtune.cli.declaration import Option
from segtune.errors import ConfigError, nearest
from segtune.runtime.quoting import unquoted

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def converted(option: Option, text: str) -> Any:
    """Return the value of an option.

    Raises:
        ConfigError: no value, another type, out of range, or not among the choices.

    >>> converted(Option("top", "", "integer", above=0), "3")
    3
    """
    text = unquoted(text)
    if option.kind == "flag" or not text:
        raise ConfigError(_wrong_form(option, text))
    if option.kind == "list":
        return tuple(_check_choice(option, item) for item in _items(text))
    if option.kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ConfigError(f"{option.name}={text}: true or false is expected.")
        return _BOOLEANS[text.lower()]
    if option.kind in ("integer", "number"):
        return _number(option, text)
    if option.kind == "path":
        return os.path.expanduser(text)  # text without a known home folder stays as it is
    return _check_choice(option, text)


def put(options: dict[str, Any], option: Option, key: str, text: str) -> None:
    """Set a mapping, or one key of it, in the options of a call.

    Args:
        key: name of the option, or `name.KEY`, `name.KEY.KEY`.

    Raises:
        ConfigError: the text is no mapping, or cannot be read.

    >>> chosen = {"runtime_options": {"threads": 1}}
    >>> put(chosen, Option("runtime_options", "", "mapping"), "runtime_options.threads", "2")
    >>> chosen
    {'runtime_options': {'threads': 2}}
    """
    from segtune.config.words import read_value, split_word

    if not text:
        raise ConfigError(_wrong_form(option, text))
    value = read_value(split_word(f"{key}={text}"), None)
    *path, last = key.split(".")
    place = options
    for name in path:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key}={text}: {name} holds a value already, and no keys.")
    is_mapping = isinstance(value, dict)
    if not path and not is_mapping:
        raise ConfigError(f"{key}={text}: write {option.usage} or {option.name}.KEY=VALUE.")
    place[last] = {**place.get(last, {}), **value} if is_mapping and not path else value


def _wrong_form(option: Option, text: str) -> str:
    if option.kind == "flag":
        return (
            f"--{option.name}={text}: --{option.name} takes no value. "
            f"Write --{option.name}, or leave it out."
        )
    return f"{option.name} has no value. Write {option.usage}: {option.meaning}."


def _items(text: str) -> list[str]:
    """Return the items of `a,b` or `[a,b]`."""
    inner = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
    return [item.strip() for item in inner.split(",") if item.strip()]


def _check_choice(option: Option, text: str) -> str:
    choices = option.choices
    if option.group and text not in choices:
        from segtune.plugins.registry import parts

        choices = tuple(dict.fromkeys((*choices, *parts(option.group))))
    if choices and text not in choices:
        allowed = ", ".join(choices)
        raise ConfigError(f"{option.name}={text}: {nearest(text, choices)} (allowed: {allowed})")
    return text


def _number(option: Option, text: str) -> float:
    convert: Callable[[str], float] = int if option.kind == "integer" else float
    try:
        value = convert(text)
    except ValueError:
        value = float("nan")
    above = float("-inf") if option.above is None else option.above
    if not above < value < float("inf"):
        expected = "a whole number" if option.kind == "integer" else "a number"
        bound = "" if option.above is None else f" above {option.above:g}"
        raise ConfigError(f"{option.name}={text}: {expected}{bound} is expected.")
    return value
