"""Ask the user to choose, on a terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from segtune.errors import ConfigError

if TYPE_CHECKING:
    from segtune.data.proposal.choice import Ask


def terminal_ask() -> "Ask | None":
    """A function that asks on the terminal; None where nobody would see or answer a question."""
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None


def _ask(question: str, answers: Sequence[str]) -> int:
    """Show numbered answers until one is chosen; return its place, from 0.

    Raises:
        ConfigError: the input ended without an answer.
    """
    print(question, file=sys.stderr)
    for number, answer in enumerate(answers, 1):
        print(f"  {number}: {answer}", file=sys.stderr)
    while True:
        print(f"1 to {len(answers)}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise ConfigError("no answer was given; add the words of one answer to the command.")
        if line.strip().isdecimal() and 1 <= int(line) <= len(answers):
            return int(line) - 1
