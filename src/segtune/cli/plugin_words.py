"""The word `plugins=FILE.py|package.module` of a call: every verb takes it."""

from collections.abc import Sequence

from segtune.errors import ConfigError


def take_plugins(words: Sequence[str]) -> list[str]:
    """Load the plugins that a call names; return its other words.

    Raises:
        ConfigError: a plugin that does not exist, or fails on import.
    """
    sources: list[str] = []
    others: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        key, equals, text = word.partition("=")
        if word == "--":
            others += [word, *waiting]
            break
        if key not in ("plugins", "--plugins") or (key == "plugins" and not equals):
            others.append(word)
            continue
        if not equals:
            text = waiting.pop(0) if waiting else ""
        if not text:
            raise ConfigError(
                "plugins= has no value: give a file or a module, as plugins=mylab.py or "
                "plugins=package.module; a comma separates several."
            )
        sources.append(text)
    if sources:
        from segtune.plugins.loading import load_plugins

        load_plugins(",".join(sources))
    return others
