"""Functions that print messages, and their type."""

import sys
from collections.abc import Callable

Log = Callable[[str], None]
"""Prints one line: a step of long work, or a warning."""


def to_stderr(line: str) -> None:
    """Print a line to standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Print nothing."""
