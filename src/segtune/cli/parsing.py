"""The words after a verb as a `Call`, and the verb's help: both read the verb's declaration."""

import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segtune.cli.declaration import Call, Option, Verb
from segtune.cli.hints import bare_word_hint, flag_hint
from segtune.cli.values import converted, put
from segtune.errors import ConfigError, nearest

JSON = Option("json", "print one JSON object at the end", "flag")
HELP = Option("help", "print this help", "flag")
PLUGINS = Option(
    "plugins",
    "files or modules that register parts of your own, see docs/extending.md",
    "list",
    value="FILE.py|package.module",
    default_text="those of SEGTUNE_PLUGINS and of installed packages",
    completes="file",
)
COMMON = (JSON, HELP)

_DELETION = re.compile(r"~[a-z_]\w*(\.\w+)*")  # Hydra's ~key; a path begins with ~/


@dataclass
class _Words:
    """The words of a call, sorted."""

    names: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


def parse(name: str, verb: Verb, words: Sequence[str]) -> Call:
    """Read the words of a call: `key=value`, `--key value`, `--key=value`, `--flag`, in any order.

    All words after `--` are names.

    Raises:
        ConfigError: an unknown key or flag, a missing or wrong value, or a flag with a value.
    """
    parsed = _Words()
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            parsed.names += waiting
            break
        if word.startswith("-") and word != "-":
            _take_dashed(name, verb, word, waiting, parsed)
        elif _DELETION.fullmatch(word) and "*" in verb.passes:
            parsed.overrides.append(word)
        elif _is_path(verb, word):
            parsed.names.append(word)
        elif "=" in word:
            _take_pair(name, verb, word, parsed)
        else:
            parsed.names.append(word)
    _check_complete(name, verb, parsed)
    return Call(parsed.names, parsed.options, parsed.overrides)


def _is_path(verb: Verb, word: str) -> bool:
    """Whether a word with `=` is the path of a file: no key holds a slash."""
    return "file" in verb.completes and "/" in word.partition("=")[0] and os.path.lexists(word)


def _take_dashed(name: str, verb: Verb, word: str, waiting: list[str], parsed: _Words) -> None:
    """Read a `--key` word, and the next word if it is the value."""
    key, equals, text = word.lstrip("-").partition("=")
    options = {o.name: o for o in (*COMMON, *verb.options)}
    option = options.get(key) if word.startswith("--") else None
    if option is None:
        dashed = word.partition("=")[0]
        hint = flag_hint(word, verb, [f"--{k}" for k in options])
        raise ConfigError(f"{dashed}: no such flag of '{name}'; {hint}")
    if option.kind in ("flag", "boolean") and not equals:
        parsed.options[key] = True
        return
    if not equals and waiting and not waiting[0].startswith("--"):
        text = waiting.pop(0)
    if option.kind == "mapping":
        put(parsed.options, option, key, text)
        return
    parsed.options[key] = converted(option, text)


def _take_pair(name: str, verb: Verb, word: str, parsed: _Words) -> None:
    """Read a `key=value` word."""
    key, _, text = word.partition("=")
    option = verb.option(key)
    if option is not None and option.kind == "mapping":
        put(parsed.options, option, key, text)
    elif option is not None and option.kind != "flag":
        parsed.options[key] = converted(option, text)
    elif verb.takes(key.lstrip("+~")):
        _check_misspelling(name, verb, key)
        parsed.overrides.append(word)
    elif option is not None or key == "json":
        raise ConfigError(f"{word}: a flag of '{name}'; write --{key}.")
    elif "file" in verb.completes and os.path.lexists(word):
        parsed.names.append(word)
    else:
        keys = [*_keys(verb), *(p for p in verb.passes if p != "*")]
        raise ConfigError(f"{key}: no such key of '{name}'; {nearest(key, keys)}")


def _keys(verb: Verb) -> list[str]:
    """Return the names of the options that are no flags."""
    return [o.name for o in verb.options if o.kind != "flag"]


def _check_misspelling(name: str, verb: Verb, key: str) -> None:
    """Refuse a misspelt option or flag of the verb before it is taken for a key of the config."""
    if "." in key or not verb.options:
        return
    from segtune.config.keys import GROUPS
    from segtune.config.schema import RunConfig

    if key in GROUPS or key in RunConfig.model_fields:
        return
    option = verb.option(key.replace("_", "-"))
    if option is not None and option.kind == "flag":
        raise ConfigError(f"{key}: a flag of '{name}'; write --{option.name}.")
    hint = nearest(key, _keys(verb))
    if hint.startswith("did you mean"):
        raise ConfigError(f"{key}: no such key of '{name}'; {hint}")


def _check_complete(name: str, verb: Verb, parsed: _Words) -> None:
    """Refuse names for a verb that takes none, and a call without a required option."""
    if parsed.names and not verb.names:
        word = parsed.names[0]
        hint = bare_word_hint(name, word, verb)
        raise ConfigError(f"'{word}' is no name that {name} takes: {hint}.")
    for option in verb.options:
        if option.required and option.name not in parsed.options:
            raise ConfigError(
                f"{name} needs {option.usage}: {option.meaning}. Example: {verb.example}"
            )


def help_text(name: str, verb: Verb) -> str:
    """Return the text of `segtune VERB --help`."""
    keys = [o for o in verb.options if o.kind != "flag"]
    flags = [*(o for o in verb.options if o.kind == "flag"), *COMMON]
    pairs = "[key=value …]" if keys or verb.passes else ""
    parts = (f"usage: segtune {name}", verb.names, pairs, "[--flag …]")
    lines = [" ".join(filter(None, parts)), "", *textwrap.wrap(verb.summary, 96), ""]
    if keys:
        lines += ["keys:", *_table(keys), ""]
    if verb.passes:
        lines += [_passed_keys(verb), ""]
    lines += ["your own parts:", *_table([PLUGINS]), ""]
    lines += ["flags:", *_table(flags), "", f"example: {verb.example}"]
    return "\n".join(lines)


def _table(options: Sequence[Option]) -> list[str]:
    lines = []
    for option in options:
        lines += _rows(option)
    return lines


def _rows(option: Option) -> list[str]:
    """Return the usage and the meaning of an option; a long usage stands on a line of its own."""
    default = option.default
    meaning = option.meaning + (f" (default: {default})" if default else "")
    rows = textwrap.wrap(meaning, 70)
    usage = f"  {option.usage}"
    if len(usage) > 26:
        return [usage, *(" " * 28 + row for row in rows)]
    return [f"{usage:<28}{rows[0]}", *(" " * 28 + row for row in rows[1:])]


def _passed_keys(verb: Verb) -> str:
    """Name the keys of the config that the verb takes besides its options."""
    if "*" in verb.passes:
        sweep = " and sweep.KEY=VALUE" if "sweep" in verb.passes else ""
        return f"config: every key of a run{sweep}, in Hydra's syntax"
    return f"config: {', '.join(f'{p}.KEY=VALUE' for p in verb.passes)}"
