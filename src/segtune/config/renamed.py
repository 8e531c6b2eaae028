"""Config keys that have a new name. An old key works for one version and prints one line.

Every place at which a key enters reads this table: words of the command line, files of `conf/` and
`sweeps/`, and what earlier runs and studies recorded. Records are read silently.
"""

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from segtune.runtime.log import to_stderr

RENAMED = {"loss.hardest": "loss.ohem_ratio"}
"""Old key -> new key. After its one version, an entry stays for records; see `announce`."""

_WORD = re.compile(r"([+~]*)([^=]*)(.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def current_key(key: str) -> str:
    """Return the present name of a dotted key.

    >>> current_key("loss.hardest"), current_key("seed")
    ('loss.ohem_ratio', 'seed')
    """
    return RENAMED.get(key, key)


def former_keys(key: str) -> list[str]:
    """Return the old names of a key."""
    return [old for old, new in RENAMED.items() if new == key]


def current_word(word: str) -> str:
    """Return a `key=value` or `~key` word with the present name of its key.

    >>> current_word("++loss.hardest=0.3"), current_word("seed=1")
    ('++loss.ohem_ratio=0.3', 'seed=1')
    """
    signs, key, value = _WORD.fullmatch(word).groups()  # type: ignore[union-attr]  # matches any text
    return f"{signs}{current_key(key.strip())}{value}" if key.strip() in RENAMED else word


def keys_of(words: Iterable[Any]) -> list[str]:
    """Return the keys of `key=value` words; anything that is not text has none."""
    keys = []
    for word in words:
        match = _WORD.fullmatch(word) if isinstance(word, str) else None
        if match:
            keys.append(match[2].strip())
    return keys


def old_keys(tree: Mapping[str, Any]) -> list[str]:
    """Return the old keys that nested settings hold."""
    return [old for old in RENAMED if _holds(tree, old)]


def current_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with the present names of their keys.

    Where a section holds both names, the one that was written later counts.

    >>> current_tree({"loss": {"terms": {"cross_entropy": 1.0}, "hardest": 0.3}})
    {'loss': {'terms': {'cross_entropy': 1.0}, 'ohem_ratio': 0.3}}
    """
    keys = old_keys(tree)
    if not keys:
        return dict(tree)
    renamed: dict[str, Any] = copy.deepcopy(dict(tree))
    for old in keys:
        _rename(renamed, old, RENAMED[old])
    return renamed


def current_references(value: Any) -> Any:
    """Return a value in which `${old key}` is replaced by `${new key}`, at any depth."""
    if isinstance(value, Mapping):
        return {key: current_references(below) for key, below in value.items()}
    if isinstance(value, list):
        return [current_references(item) for item in value]
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: f"${{{current_key(match[1])}}}", value)
    return value


def announce(keys: Iterable[str]) -> None:
    """Print one line for each old key among those that a user wrote, once per process."""
    for key in keys:
        if key in RENAMED:
            _print_notice(key)


@functools.cache
def _print_notice(old: str) -> None:
    to_stderr(
        f"{old} is now {RENAMED[old]}. Write the new key: the next version refuses the old one."
    )


def _holds(tree: Mapping[str, Any], key: str) -> bool:
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _rename(tree: dict[str, Any], old: str, new: str) -> None:
    *old_path, old_name = old.split(".")
    *new_path, new_name = new.split(".")
    section = tree
    for part in old_path:
        section = section[part]
    target = tree
    for part in new_path:
        target = target.setdefault(part, {})
    names = list(section)
    value = section.pop(old_name)
    is_later = target is section and new_name in names[names.index(old_name) :]
    if not is_later:
        target[new_name] = value
