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
