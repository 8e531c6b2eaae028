"""What a verb of the command line is given, and what it gives back."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segtune.errors import ConfigError, nearest


@dataclass(frozen=True)
class Call:
    """One call of a verb: its names, its key=value words as given, and its flags."""

    names: Sequence[str]
    overrides: Sequence[str]
    flags: argparse.Namespace

    def options(self, allowed: Sequence[str]) -> dict[str, str]:
        """The key=value words of a verb that composes no config.

        Raises:
            ConfigError: an unknown key, with the nearest one.
        """
        found = self.among([o.partition("=")[0] for o in self.overrides])
        for key in found:
            if key not in allowed:
                raise ConfigError(f"{key}: no such key of this verb; {nearest(key, allowed)}")
        return found

    def among(self, keys: Sequence[str]) -> dict[str, str]:
        """The key=value words with these keys, of a verb that composes the others."""
        return {k: unquoted(v) for k, _, v in (o.partition("=") for o in self.overrides) if k in keys}

    def without(self, words: Sequence[str]) -> "Call":
        """The call less some of its key=value words."""
        return replace(self, overrides=[o for o in self.overrides if o not in words])

    def one_name(self, what: str) -> str:
        """The single name that the verb needs."""
        if len(self.names) != 1:
            raise ConfigError(f"give one {what}, found {len(self.names)}: {' '.join(self.names) or 'none'}.")
        return self.names[0]


def unquoted(value: str) -> str:
    """A value without the quotes that Hydra's syntax wants around spaces and commas.

    >>> unquoted("'my photos'"), unquoted("it's")
    ('my photos', "it's")
    """
    quote = value[:1]
    if len(value) < 2 or quote not in ("'", '"') or value[-1] != quote:
        return value
    return value[1:-1].replace(f"\\{quote}", quote)


@dataclass(frozen=True)
class Outcome:
    """What a verb came to: the object for --json, the lines for people."""

    data: Mapping[str, Any]
    lines: Sequence[str]
    exit_code: int = 0


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    run: Callable[[Call], Outcome]
    usage: str
    summary: str
    example: str
