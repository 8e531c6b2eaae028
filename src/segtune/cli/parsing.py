"""The words behind a verb as a `Call`, and the verb's help: both read the verb's declaration."""

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segtune.cli.declaration import Call, Option, Verb, converted
from segtune.cli.hints import bare_word_hint, flag_hint
from segtune.errors import ConfigError, nearest

JSON = Option("json", "print one JSON object at the end", "flag")
HELP = Option("help", "print this help", "flag")
COMMON = (JSON, HELP)

_DELETES = re.compile(r"~[a-z_]\w*(\.\w+)*")  # Hydra's ~key; a path begins with ~/


@dataclass
class _Words:
    """The words of a call as they are taken apart."""

    names: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


def parse(name: str, verb: Verb, words: Sequence[str]) -> Call:
    """The call of a verb: `key=value`, `--key value`, `--key=value` and `--flag`, in any order.

    Words behind `--` are names, whatever they begin with.

    Raises:
        ConfigError: an unknown key or flag, a missing or wrong value, or a flag with a value.
    """
    found = _Words()
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            found.names += waiting
            break
        if word.startswith("-") and word != "-":
            _take_dashed(name, verb, word, waiting, found)
        elif _DELETES.fullmatch(word) and "*" in verb.passes:
            found.overrides.append(word)
        elif "=" in word:
            _take_pair(name, verb, word, found)
        else:
            found.names.append(word)
    if found.names and not verb.names:
        word = found.names[0]
        raise ConfigError(
            f"'{word}' is no name that {name} takes: {bare_word_hint(name, word, verb)}."
        )
    for option in verb.options:
        if option.required and option.name not in found.options:
            raise ConfigError(
                f"{name} needs {option.usage}: {option.meaning}. Example: {verb.example}"
            )
    return Call(found.names, found.options, found.overrides)


def _take_dashed(name: str, verb: Verb, word: str, waiting: list[str], found: _Words) -> None:
    """One `--key` word, and the word behind it where that is its value."""
    key, equals, text = word.lstrip("-").partition("=")
    known = {o.name: o for o in (*COMMON, *verb.options)}
    option = known.get(key) if word.startswith("--") else None
    if option is None:
        dashed = word.partition("=")[0]
        hint = flag_hint(word, verb, [f"--{k}" for k in known])
        raise ConfigError(f"{dashed}: no such flag of '{name}'; {hint}")
    if option.kind in ("flag", "boolean") and not equals:
        found.options[key] = True
        return
    if not equals and waiting and not waiting[0].startswith("--"):
        text = waiting.pop(0)
    found.options[key] = converted(option, text)


def _take_pair(name: str, verb: Verb, word: str, found: _Words) -> None:
    """One `key=value` word."""
    key, _, text = word.partition("=")
    option = verb.option(key)
    if option is not None and option.kind != "flag":
        found.options[key] = converted(option, text)
        return
    if verb.takes(key.lstrip("+~")):
        _check_own(name, verb, key)
        found.overrides.append(word)
        return
    if option is not None or key == "json":
        raise ConfigError(f"{word}: a flag of '{name}'; write --{key}.")
    if "file" in verb.completes and os.path.lexists(word):
        found.names.append(word)
        return
    known = [o.name for o in verb.options if o.kind != "flag"] + [
        p for p in verb.passes if p != "*"
    ]
    raise ConfigError(f"{key}: no such key of '{name}'; {nearest(key, known)}")


def _check_own(name: str, verb: Verb, key: str) -> None:
    """That a key is no misspelt option or flag of the verb, which the config would call unknown.

    Raises:
        ConfigError: it is.
    """
    if "." in key or not ({o.name for o in verb.options} - {"print-config"}):
        return
    from segtune.config.keys import GROUPS
    from segtune.config.schema import RunConfig

    if key in GROUPS or key in RunConfig.model_fields:
        return
    option = verb.option(key.replace("_", "-"))
    if option is not None and option.kind == "flag":
        raise ConfigError(f"{key}: a flag of '{name}'; write --{option.name}.")
    hint = nearest(key, [o.name for o in verb.options if o.kind != "flag"])
    if hint.startswith("did you mean"):
        raise ConfigError(f"{key}: no such key of '{name}'; {hint}")


def help_text(name: str, verb: Verb) -> str:
    """What `segtune VERB --help` prints."""
    keys = [o for o in verb.options if o.kind != "flag"]
    flags = [*(o for o in verb.options if o.kind == "flag"), *COMMON]
    more = "[key=value …]" if keys or verb.passes else ""
    usage = " ".join(
        part for part in (f"usage: segtune {name}", verb.names, more, "[--flag …]") if part
    )
    lines = [usage, "", verb.summary, ""]
    if keys:
        lines += ["keys:", *(line for o in keys for line in _rows(o)), ""]
    if verb.passes:
        lines += [*_passed(verb), ""]
    lines += ["flags:", *(line for o in flags for line in _rows(o)), "", f"example: {verb.example}"]
    return "\n".join(lines)


def _rows(option: Option) -> list[str]:
    """An option and its meaning, the meaning on its own lines where the option is long."""
    meaning = option.meaning + (f" (default: {option.default})" if option.default else "")
    rows = textwrap.wrap(meaning, 70)
    left = f"  {option.usage}"
    if len(left) > 26:
        return [left, *(" " * 28 + row for row in rows)]
    return [f"{left:<28}{rows[0]}", *(" " * 28 + row for row in rows[1:])]


def _passed(verb: Verb) -> list[str]:
    """Which keys of the config the verb takes besides its own."""
    if "*" in verb.passes:
        own = " and sweep.KEY=VALUE" if "sweep" in verb.passes else ""
        return [f"config: every key of a run{own}, in Hydra's syntax"]
    return [f"config: {', '.join(f'{p}.KEY=VALUE' for p in verb.passes)}"]
