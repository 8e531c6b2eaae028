"""The pages of the verbs and of the config keys, from their declarations."""

from collections.abc import Iterable, Mapping
from typing import Any

from segtune.cli.declaration import Option
from segtune.cli.parsing import COMMON, PLUGINS, parse
from segtune.cli.verbs import VERBS


def commands_page() -> str:
    """Return the page of all verbs."""
    parts = [
        "# Commands",
        "`segtune VERB [NAME …] [key=value …]`. An option is written `key=value`, `--key value` or "
        "`--key=value`. Every verb also takes:",
        _options([*COMMON, PLUGINS]),
        "For exit codes and environment variables see [configuration](../configuration.md).",
    ]
    for name, verb in VERBS.items():
        words = " ".join(filter(None, [f"segtune {name}", verb.names]))
        parts += [f"## {name}", verb.summary, f"```\n{words}\n{verb.example}  # example\n```"]
        if verb.options:
            parts.append(_options(verb.options))
        if "*" in verb.passes:
            parts.append("It also takes every key of a run: see [config keys](config.md).")
        elif verb.passes:
            keys = ", ".join(f"`{key}.KEY=VALUE`" for key in verb.passes)
            parts.append(f"It also takes {keys}: see [config keys](config.md).")
    return "\n\n".join(parts)


def _options(options: Iterable[Option]) -> str:
    rows = []
    for option in options:
        default = _cell(option.default_text) or _code(option.default)
        default = "required" if option.required else default
        rows.append([_code(option.usage), _cell(option.meaning), default])
    return _table(["option", "meaning", "default"], rows)


def config_page() -> str:
    """Return the page of all groups, their members and keys."""
    data = _config()
    names = [*data["groups"], *data["sections"], *data["apart"]]
    parts = [
        "# Config keys",
        "`GROUP=MEMBER` chooses a member of a group, `GROUP.KEY=VALUE` changes a key. "
        "`segtune config KEY` prints the same. `sweep` is for sweep files, `gate` for `promote`, "
        "`workflow` for workflows, everything else for a run.",
    ]
    for name in dict.fromkeys(names):
        group = _config(name)
        if group["keys"] or group["members"]:
            parts.append(f"## {name}")
        if group["members"]:
            rows = [[_code(m), _cell(purpose)] for m, purpose in group["members"].items()]
            parts.append(_table(["member", "purpose"], rows))
        if group["keys"]:
            heads = ["key", "value", "default", "meaning"]
            parts.append(_table(heads, [_key_row(key) for key in group["keys"]]))
    return "\n\n".join(parts)


def _config(*names: str) -> Mapping[str, Any]:
    """Return what `segtune config [NAME] --json` prints."""
    return VERBS["config"].run(parse("config", VERBS["config"], names)).data


def _key_row(key: Mapping[str, Any]) -> list[str]:
    value = _cell(key["type"]) + (f": {_code(key['allowed'])}" if key["allowed"] else "")
    default = "required" if key["required"] else _code(_word(key["default"]))
    return [_code(key["key"]), value, default, _cell(key["meaning"])]


def _word(value: object) -> str:
    """A default as it is written on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _code(text: str) -> str:
    """Text in code style; a bar would end the cell, and an empty text would show its ticks."""
    return f"`{text}`".replace("|", "\\|").replace("\n", " ") if text else ""


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
